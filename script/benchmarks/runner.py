"""One decoder in a process of its own, so that its memory is its own: `python -m script.benchmarks.runner JOB.json`.

The job is a `Job` as JSON. The result is written beside it: `result.json`, and the samples as `.npy` files.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gc
import json
import sys
import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wyoming_chatterbox.compute_settings import ComputeSettings
from wyoming_chatterbox.engine.base import CancelToken, EngineError, Samples
from wyoming_chatterbox.engine.built_in_voices import CHATTERBOX_DEFAULT
from wyoming_chatterbox.engine.chatterbox import upstream
from wyoming_chatterbox.engine.chatterbox.compute.device import pick_device
from wyoming_chatterbox.engine.chatterbox.compute.plan import choose_plan
from wyoming_chatterbox.engine.chatterbox.engine import ChatterboxEngine
from wyoming_chatterbox.engine.chatterbox.streaming import Probes
from wyoming_chatterbox.engine.chatterbox.text import text_tokens
from wyoming_chatterbox.engine.chatterbox.tracing import Timeline
from wyoming_chatterbox.engine.registry import MODELS, ORIGINAL
from wyoming_chatterbox.speech_settings import GenerationSettings
from wyoming_chatterbox.testing import random_checkpoint

from . import busy
from .concurrency import run_sequentially
from .job import Job, Utterance
from .playback import Arrival
from .probes import Memory, SeamlessSource, SeamlessTokens, UpstreamProbe
from .progress import Progress

_ONE_CHUNK = 500
"""Tokens; no utterance here is so long."""

_WARM_UP_TEXT = "Good morning, the kettle is on."
_WARM_UP_TOKENS = 5
"""Of upstream's warm-up: most of what a chunk costs is the voice's prompt."""

_MOST_RUNS = 5
_MARGIN = 1.2
"""Longer texts cost more for each second."""


@dataclass
class Run:
    """One utterance, once."""

    arrivals: list[Arrival]
    total: float
    """Seconds until there was no more."""

    spans: list[Any]
    """[stage, begin, end, amount] of every piece of work; seconds since the request."""

    sampled: list[int]
    """What T3 sampled; empty where that is not known."""

    decoded: list[int]
    """What became sound; empty where that is not known."""

    chunks: list[Samples]


def _ours(job: Job, probes: Probes) -> ChatterboxEngine:
    compute = ComputeSettings(**job.compute)
    spec = MODELS[job.model]
    assert spec.layout is not None
    return ChatterboxEngine.load(
        Path(job.model_dir),
        job.device,
        None,
        0,
        compute,
        probes=probes,
        name=spec.name,
        layout=spec.layout,
        built_in_voices=spec.voices,
    )


def _theirs(job: Job) -> ChatterboxEngine:
    """Upstream as it is: loaded by its own `from_local()` where the files have the names that it knows."""
    directory = Path(job.model_dir)
    device = pick_device(job.device)
    if not (directory / "t3_cfg.pt").exists():
        return ChatterboxEngine.load(directory, job.device, None, 0, compute=ComputeSettings(dtype="float32"))
    with upstream.suppress_output():
        model = upstream.load_chatterbox().ChatterboxTTS.from_local(directory, device)
    plan = choose_plan(ComputeSettings(dtype="float32"), model.t3.device)
    return ChatterboxEngine(model, (CHATTERBOX_DEFAULT,), plan)


class Speaker:
    """A loaded engine, and the probes on it."""

    def __init__(self, job: Job) -> None:
        import torch

        self._job = job
        self.source = SeamlessSource()
        tokens = SeamlessTokens()
        probes = Probes(tokens.wrap, self.source.wrap)
        self.engine = _theirs(job) if job.decoder == "upstream" else _ours(job, probes)
        self._model = self.engine.chatterbox
        device = torch.device(self._model.device)
        self.on_cuda = device.type == "cuda"
        waits = {"cuda": lambda: torch.cuda.synchronize(device), "mps": lambda: torch.mps.synchronize()}
        self._synchronize: Callable[[], None] = waits.get(device.type, lambda: None)
        self._theirs = UpstreamProbe(self._model, self._synchronize) if job.decoder == "upstream" else None
        self._ours = tokens if self._theirs is None else None

    def warm_up(self) -> None:
        """As the server does; upstream gets the same chance."""
        if self._theirs is None:
            self.engine.warm_up()
        else:
            stream = self.stream(Utterance("warm-up", _WARM_UP_TEXT, _WARM_UP_TOKENS), chunk_size=_WARM_UP_TOKENS)
            next(stream)
            stream.close()

    def stream(self, utterance: Utterance, **settings: Any) -> Generator[Samples, None, None]:
        """Yields samples, chunk by chunk."""
        if self._job.ends_where_told:
            random_checkpoint.set_eos_at(self._model.t3, utterance.tokens + self._positions_before(utterance.text))
        chosen = GenerationSettings(
            seed=self._job.seed,
            temperature=self._job.temperature,
            decoder=self._job.decoder,
            # Upstream has no other, and both are to draw the same tokens.
            sampling="streaming" if self._job.model == ORIGINAL.name else "current",
        )
        stream = self.engine.generate_stream(
            utterance.text, self.engine.voices[0], dataclasses.replace(chosen, **settings), CancelToken()
        )
        with contextlib.closing(stream):
            for samples, _ in stream:
                yield samples

    def _positions_before(self, text: str) -> int:
        """Returns how many positions come before the first speech token: none, but Turbo and Nano count on from the
        speaker, the clip's tokens, the text and the start of speech."""
        if not self.engine.spec.t3.is_gpt2:
            return 0
        prompt = self._model.conds.t3.cond_prompt_speech_tokens.shape[1]
        return int(1 + prompt + text_tokens(self._model.tokenizer, text, self.engine.spec, "en").shape[1] + 1)

    def speak(self, utterance: Utterance, *, with_t3: bool = True, **settings: Any) -> Run:
        """Speak to the end, and take all as fast as it comes.

        Args:
            with_t3: False: its work is left out where there are given tokens.
        """
        gc.collect()
        timeline = self._watch()
        self.source.clear()
        arrivals: list[Arrival] = []
        chunks = []
        self._synchronize()
        started = time.perf_counter()
        with self.replaced(utterance.given, with_t3=with_t3):
            for samples in self.stream(utterance, **settings):
                arrivals.append((time.perf_counter() - started, len(samples) / self.engine.sample_rate))
                chunks.append(samples)
        total = time.perf_counter() - started
        self.engine.timeline = None
        spans = [[span.stage, span.started - started, span.ended - started, span.amount] for span in timeline.spans]
        sampled = (self._theirs or self._ours).sampled  # type: ignore[union-attr]
        decoded = sampled if utterance.given is None or not self.can_replace else utterance.given
        return Run(arrivals, total, spans, sampled, decoded, chunks)

    def peak_vram(self) -> int | None:
        """Returns the most bytes of a GPU's memory that tensors had since `forget_peak()`; None: it is none of
        NVIDIA's."""
        import torch

        return torch.cuda.max_memory_allocated(self._model.device) if self.on_cuda else None

    def forget_peak(self) -> None:
        if self.on_cuda:
            import torch

            torch.cuda.reset_peak_memory_stats(self._model.device)

    @property
    def can_replace(self) -> bool:
        """Whether given tokens are decoded. Upstream always decodes its own."""
        return self._ours is not None and self._ours.can_replace

    def replaced(self, given: list[int] | None, *, with_t3: bool = True) -> AbstractContextManager[None]:
        if self._ours is None:
            return contextlib.nullcontext()
        return self._ours.replaced(given, with_t3=with_t3)

    def _watch(self) -> Timeline:
        """Begin with empty probes; where the spans will be."""
        if self._theirs is not None:
            self._theirs.clear()
            return self._theirs.timeline
        assert self._ours is not None
        self._ours.clear()
        self.engine.timeline = Timeline()
        return self.engine.timeline


def work(job: Job, folder: Path) -> dict[str, Any]:
    """Do the job. The samples of the result are files in the folder."""
    progress = Progress(job.began)
    memory = Memory()
    if job.tiny:
        random_checkpoint.apply_tiny_sizes()
    progress.say(f"{job.name}: loading")
    upstream.load_chatterbox()
    result: dict[str, Any] = {"utterances": [], "left_out": [], "in_turns": []}
    started = time.perf_counter()
    speaker = Speaker(job)
    result["load_s"] = time.perf_counter() - started
    progress.say(f"{job.name}: loaded in {result['load_s']:.1f} s, warming up")
    started = time.perf_counter()
    speaker.warm_up()
    result["warm_up_s"] = time.perf_counter() - started
    progress.say(f"{job.name}: warmed up in {result['warm_up_s']:.1f} s")

    pace = None
    for utterance in job.utterances:
        expected = None if pace is None else pace * utterance.tokens
        if expected is not None and not _fits(job, expected):
            result["left_out"].append(f"{job.name}: {utterance.name}, {expected:.0f} s")
            continue
        progress.say(f"{job.name}: {utterance.name}" + ("" if expected is None else f", about {expected:.0f} s"))
        runs = _runs(speaker, utterance, job.repeat_within)
        run = sorted(runs, key=lambda run: run.total)[(len(runs) - 1) // 2]
        pace = run.total / max(1, len(run.sampled) or utterance.tokens)
        progress.say(f"{job.name}: {utterance.name}: first audio {run.arrivals[0][0]:.2f} s, all {run.total:.2f} s")
        result["utterances"].append(
            {
                **{name: value for name, value in dataclasses.asdict(run).items() if name != "chunks"},
                "name": utterance.name,
                "first_audio_of_runs": [run.arrivals[0][0] for run in runs],
                "stream": _saved(folder, f"{utterance.name}.npy", run.chunks),
            }
        )
    result["peak_rss"], result["peak_anonymous"] = memory.resident, memory.anonymous
    memory.close()
    result["peak_vram"] = speaker.peak_vram()

    if job.seams and result["utterances"]:
        spoken = result["utterances"][-1]
        if _fits(job, spoken["total"]):
            progress.say(f"{job.name}: {spoken['name']} in one chunk")
            utterance = next(each for each in job.utterances if each.name == spoken["name"])
            result["seams"] = _seams(speaker, utterance, job.seam_tokens, spoken, folder)
        else:
            result["left_out"].append(f"{job.name}: {spoken['name']} in one chunk, {spoken['total']:.0f} s")
    for count in job.at_once:
        assert job.in_turns is not None
        progress.say(f"{job.name}: {count} at once")
        result["in_turns"].append(_in_turns(speaker, job.in_turns, count))
    if job.busy is not None:
        result["busy"] = _beside_another(speaker, job, job.busy)
    return result


def _fits(job: Job, seconds: float) -> bool:
    return job.until is None or time.time() + _MARGIN * seconds < job.until


def _runs(speaker: Speaker, utterance: Utterance, within: float) -> list[Run]:
    begun = time.perf_counter()
    runs: list[Run] = []
    while not runs or (len(runs) < _MOST_RUNS and time.perf_counter() - begun + runs[-1].total < within):
        runs.append(speaker.speak(utterance))
    return runs


def _seams(
    speaker: Speaker, utterance: Utterance, tokens: list[int] | None, spoken: dict[str, Any], folder: Path
) -> dict[str, Any]:
    """Returns the utterance in chunks and in one, of the same tokens and with the same source."""
    found = {"decoded": spoken["decoded"], "stream": spoken["stream"]}
    wanted = dataclasses.replace(utterance, given=tokens or spoken["decoded"] or None)
    if speaker.can_replace and wanted.given != spoken["decoded"]:
        run = speaker.speak(wanted, with_t3=False)
        found = {"decoded": run.decoded, "stream": _saved(folder, "seams.npy", run.chunks)}
    with speaker.source.replayed():  # of the stream, which was the last utterance
        whole = speaker.speak(wanted, with_t3=False, chunk_size=_ONE_CHUNK)
    # Where the tokens are not known, the same seed makes the same ones.
    if whole.decoded == found["decoded"]:
        found["one_chunk"] = _saved(folder, "one chunk.npy", whole.chunks)
    return found


def _in_turns(speaker: Speaker, utterance: Utterance, count: int) -> dict[str, Any]:
    speaker.forget_peak()
    with speaker.replaced(utterance.given):
        row = run_sequentially(
            [functools.partial(speaker.stream, utterance, seed=seed) for seed in range(count)],
            speaker.engine.sample_rate,
        )
    row["peak_vram"] = speaker.peak_vram()
    # What T3 does is known for one utterance at a time.
    row["spans"] = speaker.speak(utterance).spans if count == 1 else []
    return row


def _beside_another(speaker: Speaker, job: Job, utterance: Utterance) -> dict[str, list[dict[str, float]]]:
    """Returns the seconds of every stage, and "total", of every run alone and beside another program, see busy.row."""
    found: dict[str, list[dict[str, float]]] = {"quiet": [], "busy": []}
    speaker.speak(utterance)
    for index in range(job.busy_rounds):
        for state, runs in found.items():
            beside = busy.competitor(job.busy_threads) if state == "busy" else contextlib.nullcontext()
            with beside:
                run = speaker.speak(utterance)
            seconds = {stage: sum(span[2] - span[1] for span in run.spans if span[0] == stage) for stage in busy.STAGES}
            runs.append({"total": run.total, **seconds})
            Progress(job.began).say(f"{job.name}: round {index + 1}, {state}: {run.total:.2f} s")
    return found


def _saved(folder: Path, name: str, chunks: list[Samples]) -> dict[str, Any]:
    np.save(folder / name, np.concatenate(chunks))
    return {"file": name, "chunks": [len(chunk) for chunk in chunks]}


def main(path: Path) -> int:
    job = Job.read(path)
    try:
        result = work(job, path.parent)
    except EngineError as error:
        result = {"error": str(error)}
    (path.parent / "result.json").write_text(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
