"""Every decoder in a process of its own, one after the other: the same weights, texts, tokens and seed.

Upstream is first. With random weights the others decode the tokens that it sampled: their T3 works as it would, but
what it samples is replaced on its way to the flow decoder (`alike` counts the tokens that were the same anyway).

**first audio**: seconds from the call to the first chunk; its **length** belongs to it, since a longer chunk comes
later. **RTF**: seconds until the stream is exhausted by the seconds of audio. **first x**, **RTF x**: how often
upstream's figure is that of the row. An utterance that takes a second or two is spoken several times, and the median
run counts.

Stages add up the seconds in which each was at work; those of different threads may overlap. A **token** lasts until it
is sampled; the first one's cost is in **prefill**, which reads the voice and the text.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wyoming_chatterbox.engine.registry import MODELS, ORIGINAL

from . import seams
from .checkpoint import INDUCTOR_CACHE, ROOT, Checkpoint
from .job import Job, Utterance
from .playback import underruns
from .progress import Progress

# One token less than full chunks of 25: the end of speech fills the last one. Had it come by itself, upstream would
# decode once more for nothing.
UTTERANCES = {
    2: Utterance("2 s", "The kettle is on, come in now.", 49),
    5: Utterance("5 s", "The kitchen light is on, the front door is locked, and the heating is off.", 124),
    10: Utterance(
        "10 s",
        "Good evening. It is nineteen degrees outside and it will rain until midnight, so the windows in the bedroom "
        "are closed and the light in the hall is on.",
        249,
    ),
}
"""By their length in seconds; with real weights they take what they take."""

UPSTREAM = "upstream"
EXACT = "exact"

_TOKENS_PER_SECOND, _FRAMES_PER_SECOND = 25, 50

_LATER = 45.0
"""Seconds that are kept for each decoder whose turn comes later, where there is a limit."""


@dataclasses.dataclass
class Comparison:
    """What came of all decoders; the rows are plain values."""

    speed: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    processes: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    seams: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    timelines: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    """Of the longest utterance that all decoders spoke, for the plot."""

    left_out: list[str] = dataclasses.field(default_factory=list)
    errors: list[str] = dataclasses.field(default_factory=list)


def compare(
    checkpoint: Checkpoint,
    device: str,
    profiles: Sequence[str],
    utterances: Sequence[Utterance],
    progress: Progress,
    *,
    with_seams: bool,
    repeat_within: float,
    until: float | None,
    model: str = ORIGINAL.name,
) -> Comparison:
    """Measure upstream, where it has a decoder for the model, then our profiles.

    Args:
        model: the one that the weights are of.
        until: see Job.
    """
    comparison = Comparison()
    given: dict[str, list[int]] = {}
    exact: dict[str, Any] = {}
    results: dict[str, dict[str, Any]] = {}
    names = sorted(profiles, key=lambda profile: profile != EXACT)
    if MODELS[model].upstream_decoder:
        names = [UPSTREAM, *names]
    for index, name in enumerate(names):
        theirs = name == UPSTREAM
        job = Job(
            model_dir=str(checkpoint.path),
            device=device,
            decoder=UPSTREAM if theirs else "seamless",
            name=name,
            compute={} if theirs else {"profile": name},
            tiny=checkpoint.tiny,
            model=model,
            ends_where_told=checkpoint.ends_where_told,
            began=progress.began,
            utterances=[dataclasses.replace(each, given=given.get(each.name)) for each in utterances],
            seams=with_seams and not theirs,
            seam_tokens=exact.get("decoded"),
            repeat_within=repeat_within,
            until=None if until is None else until - _LATER * (len(names) - 1 - index),
        )
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            result = run(job, Path(folder))
            if "error" in result:
                comparison.errors.append(f"{name}: {result['error']}")
                progress.say(f"{name} failed: {result['error']}")
                continue
            read_samples(result, Path(folder))
        results[name] = result
        comparison.left_out += result["left_out"]
        if name == EXACT:
            exact = result.get("seams", {})
        if checkpoint.ends_where_told and not given:
            given = {each["name"]: each["decoded"] for each in result["utterances"] if each["decoded"]}
    for name, result in results.items():
        comparison.speed += [
            speed(name, spoken, _spoken(results.get(UPSTREAM), spoken["name"])) for spoken in result["utterances"]
        ]
        comparison.processes.append(process(name, result, results.get(UPSTREAM)))
        if with_seams:
            comparison.seams.append(_seams(name, result, exact))
    comparison.speed.sort(key=lambda row: [each.name for each in utterances].index(row["utterance"]))
    comparison.timelines = _timelines(results, utterances)
    return comparison


def run(job: Job, folder: Path, *, timeout: float | None = None) -> dict[str, Any]:
    """Do a job in a process of its own; the result, which has only `error` where it failed, or took longer than
    `timeout` seconds."""
    path = folder / "job.json"
    path.write_text(json.dumps(dataclasses.asdict(job)))
    try:
        done = subprocess.run(
            [sys.executable, "-m", "script.benchmarks.runner", str(path)],
            cwd=ROOT,
            env={INDUCTOR_CACHE: str(folder), **os.environ, "PYTHONWARNINGS": "ignore"},
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            timeout=timeout,
        )
    except subprocess.TimeoutExpired:
        return {"error": f"it took longer than {timeout:.0f} s"}
    try:
        result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    except OSError:
        killed = "it was killed, likely for memory" if done.returncode == -9 else f"status {done.returncode}, see above"
        return {"error": killed}
    return result


def read_samples(result: dict[str, Any], folder: Path) -> None:
    """Put the chunks in the place of the files that hold them."""
    for holder in (*result["utterances"], result.get("seams", {})):
        for key in ("stream", "one_chunk"):
            if key in holder:
                samples = np.load(folder / holder[key]["file"])
                holder[key] = np.split(samples, seams.joins(holder[key]["chunks"]))


def speed(name: str, spoken: dict[str, Any], theirs: dict[str, Any] | None) -> dict[str, Any]:
    """One utterance of one decoder; `theirs`: the same of upstream."""
    arrivals, spans = spoken["arrivals"], spoken["spans"]
    length = sum(seconds for _, seconds in arrivals)
    gaps = underruns(arrivals)
    stages = {stage: [span for span in spans if span[0] == stage] for stage in _STAGES}
    tokens = stages["token"]
    row = {
        "decoder": name,
        "utterance": spoken["name"],
        "audio_s": length,
        "tokens": len(spoken["decoded"]) or None,
        "alike": _alike(spoken, theirs),
        "runs": len(spoken["first_audio_of_runs"]),
        "chunks": len(arrivals),
        "first_audio_s": arrivals[0][0],
        "first_audio_min_s": min(spoken["first_audio_of_runs"]),
        "first_audio_max_s": max(spoken["first_audio_of_runs"]),
        "first_chunk_s": arrivals[0][1],
        "total_s": spoken["total"],
        "rtf": spoken["total"] / length,
        "first_audio_x": None,
        "rtf_x": None,
        "underruns": gaps.count,
        "gap_s": gaps.seconds,
        "lowest_lead_s": gaps.lowest_lead,
        **{f"{stage}_s": _seconds(stages[stage]) for stage in _STAGES},
        "token_ms": 1000 * _seconds(tokens) / len(tokens) if tokens else None,  # type: ignore[operator]
        "tokens_per_s": per_second(tokens),
    }
    if theirs is not None:
        row["first_audio_x"] = theirs["arrivals"][0][0] / row["first_audio_s"]
        row["rtf_x"] = theirs["total"] / sum(seconds for _, seconds in theirs["arrivals"]) / row["rtf"]
    return row


_STAGES = ("prefill", "token", "flow", "vocoder", "watermark")


def per_second(spans: Iterable[Any]) -> float | None:
    """Tokens per second of the token stage; None where nothing is known of it."""
    tokens = [span for span in spans if span[0] == "token"]
    seconds = _seconds(tokens)
    return sum(span[3] for span in tokens) / seconds if seconds else None


def process(name: str, result: dict[str, Any], theirs: dict[str, Any] | None) -> dict[str, Any]:
    """One decoder's process."""
    return {
        "decoder": name,
        "load_s": result["load_s"],
        "warm_up_s": result["warm_up_s"],
        "peak_rss_mb": result["peak_rss"] / 1e6,
        "peak_rss_x": None if theirs is None else result["peak_rss"] / theirs["peak_rss"],
        "peak_anonymous_mb": None if result["peak_anonymous"] is None else result["peak_anonymous"] / 1e6,
        "peak_vram_mb": None if result["peak_vram"] is None else result["peak_vram"] / 1e6,
    }


def _seams(name: str, result: dict[str, Any], exact: dict[str, Any]) -> dict[str, Any]:
    """Where seams were not looked at in particular, as with upstream, the longest utterance is the stream."""
    found = result.get("seams") or result["utterances"][-1]
    own = found.get("one_chunk")
    same = bool(exact.get("decoded")) and exact["decoded"] == found["decoded"]
    whole = exact.get("one_chunk") if same else None
    return {
        "decoder": name,
        **seams.report(
            found["stream"],
            None if own is None else np.concatenate(own),
            None if whole is None else np.concatenate(whole),
        ),
    }


def _timelines(results: dict[str, dict[str, Any]], utterances: Sequence[Utterance]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for utterance in reversed(utterances):
        spoken = {name: _spoken(result, utterance.name) for name, result in results.items()}
        if spoken and None not in spoken.values():
            found = [_timeline(name, each) for name, each in spoken.items() if each is not None]
            break
    return found


def _timeline(name: str, spoken: dict[str, Any]) -> dict[str, Any]:
    """When what was made: seconds since the request, and seconds of audio that there is from then on."""
    made: dict[str, list[list[float]]] = {}
    for stage, rate in (("token", _TOKENS_PER_SECOND), ("flow", _FRAMES_PER_SECOND)):
        amount = 0
        made[stage] = []
        for span in sorted((span for span in spoken["spans"] if span[0] == stage), key=lambda span: span[2]):
            amount += span[3]
            made[stage].append([round(span[2], 4), round(amount / rate, 4)])
    return {
        "decoder": name,
        "utterance": spoken["name"],
        "total_s": spoken["total"],
        "tokens": made["token"],
        "mel": made["flow"],
        "arrivals": [[round(at, 4), round(seconds, 4)] for at, seconds in spoken["arrivals"]],
    }


def _spoken(result: dict[str, Any] | None, name: str) -> dict[str, Any] | None:
    return next((each for each in (result or {"utterances": []})["utterances"] if each["name"] == name), None)


def _alike(spoken: dict[str, Any], theirs: dict[str, Any] | None) -> int | None:
    """How many tokens were sampled as upstream did, before the first that was not; None where that is not known."""
    if theirs is None or theirs is spoken or not spoken["sampled"] or not theirs["sampled"]:
        return None
    same = (own == other for own, other in zip(spoken["sampled"], theirs["sampled"], strict=False))
    return sum(1 for _ in itertools.takewhile(bool, same))


def _seconds(spans: Sequence[Any]) -> float | None:
    return sum(span[2] - span[1] for span in spans) if spans else None
