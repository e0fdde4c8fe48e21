"""`script/bench`: what it measures is what it says."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import json
import math
import resource
import runpy
import shutil
import subprocess
import sys
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from script.benchmarks import (
    busy,
    checkpoint,
    child,
    command,
    decoders,
    gpu,
    http,
    machine,
    plot,
    report,
    seams,
    sockets,
)
from script.benchmarks.concurrency import take_turns
from script.benchmarks.errors import BenchError
from script.benchmarks.job import Job, Utterance
from script.benchmarks.playback import played, underruns
from script.benchmarks.probes import SeamlessSource, SeamlessTokens
from script.benchmarks.progress import Progress
from tests.checkpoint_fixture import SKIP_REASON
from wyoming_chatterbox.engine.base import Cancel
from wyoming_chatterbox.engine.chatterbox.s3gen.source import SAMPLES_PER_FRAME
from wyoming_chatterbox.engine.requirements import is_installed
from wyoming_chatterbox.engine.weights.download import find_files
from wyoming_chatterbox.hosting.worker_thread import WorkerThread
from wyoming_chatterbox.testing.serving import ROOT, environment

RATE = seams.RATE
DECODERS = ["upstream", "exact", "balanced", "fast"]

pytestmark = pytest.mark.timeout(300)
"""Four processes that import torch: a busy machine takes its time."""


# Playback


def test_underruns_are_what_a_listener_waits_for() -> None:
    # Heard from 1 to 2 and from 2 to 3, then nothing until 4.
    found = underruns([(1.0, 1.0), (1.5, 1.0), (4.0, 1.0), (4.5, 1.0)])
    assert (found.count, found.seconds) == (1, pytest.approx(1.0))
    assert found.lowest_lead == pytest.approx(-1.0)


def test_what_was_waited_for_once_is_waited_for_no_more() -> None:
    """Playback goes on later after a gap: a chunk that would be late for a player without gaps is in time then."""
    found = underruns([(0.0, 1.0), (3.0, 1.0), (3.9, 1.0)])
    assert (found.count, found.seconds) == (1, pytest.approx(2.0))


@pytest.mark.parametrize("arrivals", [[(5.0, 1.0)], [(0.3, 1.0), (1.3, 1.0), (1.4, 0.5)], [(0.0, 1.0), (1.0005, 1.0)]])
def test_no_underruns(arrivals: list[tuple[float, float]]) -> None:
    found = underruns(arrivals)
    assert (found.count, found.seconds) == (0, 0)


@given(st.lists(st.tuples(st.floats(0.1, 3.0), st.floats(0.1, 3.0)), min_size=1, max_size=20))
def test_the_gaps_are_as_long_as_the_lead_falls_below_zero(chunks: list[tuple[float, float]]) -> None:
    at = 0.0
    arrivals = []
    for pause, length in chunks:
        at += pause
        arrivals.append((at, length))
    found = underruns(arrivals)
    assert found.seconds == pytest.approx(max(0.0, -found.lowest_lead), abs=0.001 * len(chunks))
    begins = [begin for begin, _ in played(arrivals)]
    assert all(begin >= at - 0.001 for begin, (at, _) in zip(begins, arrivals, strict=True))


def test_utterances_take_turns() -> None:
    times = iter(range(100))

    def speak(chunks: int) -> Iterator[Any]:
        for _ in range(chunks):
            yield np.zeros(2 * 100)

    row = take_turns([lambda: speak(2), lambda: speak(3)], 100, clock=lambda: float(next(times)))
    # Begun at 0; chunks of 2 s, of one at 1 and 2, of the other at 3, 4 and 5; over at 6.
    assert (row["at_once"], row["first_audio_s"], row["first_audio_max_s"]) == (2, 2.0, 3.0)
    assert row["rtf"] == pytest.approx((2 / 4 + 5 / 6) / 2)
    assert row["audio_per_s"] == pytest.approx(10 / 6)
    assert (row["underruns"], row["total_s"]) == (0, 6)


async def test_they_take_turns_as_in_the_server() -> None:
    """The engine's thread and the benchmark go on with one sentence until its end."""
    done: list[str] = []

    def speak(name: str) -> Iterator[Any]:
        for _ in range(3):
            done.append(name)
            yield np.zeros(100)

    take_turns([lambda: speak("a"), lambda: speak("b")], 100)
    worker, measured = WorkerThread("turns"), list(done)
    done.clear()

    async def listen(name: str) -> None:
        async for _ in worker.stream(lambda: speak(name), Cancel()):
            pass

    try:
        await asyncio.gather(listen("a"), listen("b"))
    finally:
        worker.close()
    assert measured == done == ["a"] * 3 + ["b"] * 3


# Seams


def noise(seconds: float = 4.0) -> seams.Samples:
    return (0.1 * np.random.default_rng(1).standard_normal(round(seconds * RATE))).astype(np.float32)


JOINS = [12_345 + 9_600 * index for index in range(8)]
MANY = [12_345 + 9_600 * index for index in range(48)]


def changed(
    samples: seams.Samples, seconds: float, gains: Any, before: float = 0.0, joins: list[int] = JOINS
) -> seams.Samples:
    """Other gains from `before` each join for `seconds`."""
    samples = samples.copy()
    for at in joins:
        start = at - round(before * RATE)
        samples[start : start + round(seconds * RATE)] *= gains
    return samples


@pytest.mark.parametrize("depth", [-6.0, -20.0])
def test_a_hole_of_known_depth_is_measured(depth: float) -> None:
    found, error = seams.hole(changed(noise(), 0.005, 10 ** (depth / 20)), JOINS, 0.005)
    assert found == pytest.approx(depth, abs=1.5)
    assert error is not None and 0 < error < 1


def test_upstreams_fade_is_a_hole_of_25_decibels() -> None:
    faded = changed(noise(20), 0.02, np.linspace(0, 1, 480, dtype=np.float32), joins=MANY)
    for seconds, depth in ((0.002, -24.8), (0.005, -16.8)):
        assert seams.hole(faded, MANY, seconds)[0] == pytest.approx(depth, abs=0.6)


def test_where_nothing_is_done_there_is_no_hole() -> None:
    # Uneven as speech is: for most of the time it is quieter than its mean level, wherever one looks.
    gains = np.random.default_rng(2).choice([0.03, 1.0], p=[0.7, 0.3], size=len(noise(20)) // 48).repeat(48)
    for samples in (noise(20), noise(20) * gains.astype(np.float32)):
        found, error = seams.hole(samples, MANY, 0.002)
        assert found is not None and error is not None
        assert abs(found) < 2 * error < 5
    assert seams.hole(noise(), [], 0.002) == (None, None)


def test_the_level_to_one_chunk_is_that_of_the_window_at_the_join() -> None:
    whole = noise()
    quieter = changed(whole, 0.045, 0.5, before=0.005)
    assert seams.to_one_chunk(quieter, whole, JOINS, 0.005, 0.04) == pytest.approx([-6.02] * 8, abs=0.01)
    before = changed(whole, 0.005, 0.0, before=0.005)
    assert np.mean(seams.to_one_chunk(before, whole, JOINS, 0.005, 0.04)) == pytest.approx(-0.51, abs=0.05)
    beside = changed(changed(whole, 0.01, 0.5, before=0.015), 0.01, 0.5, before=-0.04)
    assert seams.to_one_chunk(beside, whole, JOINS, 0.005, 0.04) == pytest.approx([0] * 8, abs=0.001)


def test_a_join_in_silence_is_left_out() -> None:
    whole = noise()
    whole[JOINS[3] - 2400 : JOINS[3] + 2400] = 0
    assert len(seams.to_one_chunk(whole, whole, JOINS, 0.005, 0.04)) == 7
    found, _ = seams.hole(changed(whole, 0.002, 0.1), JOINS, 0.002)
    assert found == pytest.approx(-20, abs=1)
    assert len(seams.to_one_chunk(whole, whole, [10, len(whole) - 10], 0.005, 0.04)) == 0


def test_log_mel_distances_tell_joins_from_the_rest() -> None:
    whole = noise()
    mean, near, elsewhere = seams.mel_distances(changed(whole, 0.18, 0.5, before=0.09), whole, JOINS)
    assert near is not None and 4.5 < near < 6.1
    assert elsewhere is not None and elsewhere < 0.3
    assert mean is not None and elsewhere < mean < near
    assert seams.mel_distances(0.5 * whole, whole, JOINS) == (pytest.approx(6.02, abs=0.01),) * 3
    assert seams.mel_distances(whole, whole, []) == (0, None, 0)
    assert seams.mel_distances(whole[:100], whole, []) == (None, None, None)


def test_bands_that_nobody_hears_do_not_count() -> None:
    """Where one has nothing at all and the other very little, there is no difference worth a word."""
    tone = np.sin(np.arange(RATE) * 2 * np.pi * 1000 / RATE).astype(np.float32)
    assert seams.mel_distances(tone + 1e-5 * noise(1.0), tone, [])[0] < 0.5


def test_the_report_has_a_figure_for_the_worst_join() -> None:
    whole = noise()
    stream = whole.copy()
    stream[JOINS[2] : JOINS[2] + 120] *= 0.1
    row = seams.report(np.split(stream, JOINS), whole, None)
    assert row["joins"] == 8
    assert row["own_level_5ms"] == pytest.approx(-20, abs=0.1)
    assert row["exact_level"] is row["exact_mel_near"] is None


# Looking inside


class Tokens:
    """Stands for T3."""

    def __init__(self) -> None:
        self.made = 0

    def tokens(self, first: int, *, step: int) -> Iterator[int]:
        for token in range(first, 1000, step):
            self.made += 1
            yield token


def test_tokens_are_seen_and_replaced_at_their_full_cost() -> None:
    t3 = Tokens()
    probe = SeamlessTokens(types.SimpleNamespace(_decoder=types.SimpleNamespace(_tokens=t3)))
    assert probe.can_replace
    assert list(itertools.islice(t3.tokens(5, step=5), 3)) == probe.sampled == [5, 10, 15]
    probe.clear()
    t3.made = 0
    with probe.replaced([1, 2, 3, 4]):
        assert list(t3.tokens(5, step=5)) == [1, 2, 3, 4]
    assert probe.sampled == [5, 10, 15, 20]
    assert t3.made == 5, "the end of speech is sampled, too"
    with probe.replaced([7, 8], with_t3=False):
        assert list(t3.tokens(5, step=5)) == [7, 8]
    assert t3.made == 5
    assert not SeamlessTokens(types.SimpleNamespace()).can_replace


class Source:
    """Stands for our vocoder's source."""

    def __init__(self, torch: Any) -> None:
        self.torch = torch
        self.random = torch.Generator().manual_seed(0)

    def samples(self, state: Any, f0: Any) -> tuple[Any, Any]:
        return self.torch.randn(1, 1, f0.shape[1] * SAMPLES_PER_FRAME, generator=self.random), self.torch.zeros(1)


class Vocoder:
    """Stands for our vocoder: what is heard is its source, of which it knows two frames more than it returns."""

    def __init__(self, torch: Any) -> None:
        self.torch = torch
        self.source = Source(torch)

    def speak(self, *cuts: int) -> Any:
        """Shape (frames * 480,); the last cut is followed by the two frames that had to wait."""
        state, heard = types.SimpleNamespace(position=0), []
        for index, new in enumerate(cuts):
            final = index == len(cuts) - 1
            source = self.source.samples(state, self.torch.zeros(1, new + 2))[0][0, 0]
            frames = new + 2 * final
            heard.append(source[: frames * SAMPLES_PER_FRAME])
            state.position += frames
        return self.torch.cat(heard)


def test_another_decode_gets_the_streams_source() -> None:
    torch = pytest.importorskip("torch")
    vocoder = Vocoder(torch)
    probe = SeamlessSource(types.SimpleNamespace(_decoder=types.SimpleNamespace(_vocoder=vocoder)))
    stream = vocoder.speak(5, 20, 8)
    length = 35 * SAMPLES_PER_FRAME
    assert len(stream) == length
    for cuts in ([33], [12, 21]):
        with probe.replayed():
            probe.clear()
            assert torch.equal(vocoder.speak(*cuts), stream)
    with probe.replayed():
        probe.clear()
        longer = vocoder.speak(40)
    assert torch.equal(longer[:length], stream) and len(longer) > length, "behind its end it is another one"
    probe.clear()
    assert not torch.equal(vocoder.speak(33), stream)
    SeamlessSource(types.SimpleNamespace())  # of a decoder without such a thing nothing is known


class Clockwork:
    """Stands for a loaded engine: half a second of work for every token."""

    on_cuda = False
    can_replace = True
    source = SeamlessSource(types.SimpleNamespace())

    def __init__(self, job: Job) -> None:
        self.spoken: list[tuple[str, Any]] = []

    def warm_up(self) -> None:
        pass

    def peak_vram(self) -> None:
        return None

    def speak(self, utterance: Utterance, **settings: Any) -> child.Run:
        self.spoken.append((utterance.name, utterance.given))
        total = utterance.tokens * 0.5
        tokens = utterance.given or [1] * utterance.tokens
        return child.Run([(total, 1.0)], total, [], tokens, tokens, [noise(0.1)])


def work(monkeypatch: pytest.MonkeyPatch, folder: Path, **changes: Any) -> dict[str, Any]:
    monkeypatch.setattr(child.upstream, "load_chatterbox", lambda: None)
    monkeypatch.setattr(child, "Speaker", Clockwork)
    utterances = [Utterance(name, "Hello.", tokens) for name, tokens in (("short", 10), ("long", 100), ("last", 20))]
    job = Job("", "cpu", "seamless", "ours", {}, False, True, time.time(), utterances, seams=True)
    return child.work(dataclasses.replace(job, **changes), folder)


@pytest.mark.parametrize(
    ("seconds", "spoken", "left_out", "seams"),
    [
        (None, ["short", "long", "last"], 0, True),
        (1000.0, ["short", "long", "last"], 0, True),
        (55.0, ["short", "last"], 1, True),
        (6.5, ["short"], 2, True),
        (0.0, ["short"], 3, False),
    ],
)
def test_what_would_not_end_in_time_is_left_out_and_said(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    seconds: float | None,
    spoken: list[str],
    left_out: int,
    seams: bool,
) -> None:
    until = None if seconds is None else time.time() + seconds
    result = work(monkeypatch, tmp_path, until=until)
    assert [each["name"] for each in result["utterances"]] == spoken
    assert len(result["left_out"]) == left_out
    assert ("seams" in result) == seams


def test_seams_are_looked_at_with_the_tokens_of_the_exact_profile(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    result = work(monkeypatch, tmp_path, seam_tokens=[3] * 20)
    assert result["seams"]["decoded"] == [3] * 20
    assert result["utterances"][-1]["decoded"] == [1] * 20
    decoders.read_samples(result, tmp_path)
    assert [len(chunk) for chunk in result["seams"]["one_chunk"]] == [2400]


# The machine, tables, the plot


def test_the_machine_is_described() -> None:
    facts, versions = machine.machine(), machine.versions()
    assert facts["cpu"] and facts["cores"] >= 1 and facts["memory_gb"] > 0.1
    assert versions["python"] == sys.version.split()[0]
    said = machine.in_words({**facts, "gpu": "GPU X"}, {**versions, "torch": None})
    assert facts["cpu"] in said and "GPU X" in said and "torch" not in said
    available, total = machine.available_memory(), machine.total_memory()
    assert available is None or total is None or 0 < available <= total


def test_tables_are_aligned() -> None:
    rows = [{"decoder": "ours", "x": 1.0}, {"decoder": "upstream", "x": 123.456}, {"decoder": "none", "x": None}]
    columns = (("decoder", report.words("decoder")), ("x s", report.number("x", 1)))
    assert report.table("Title", columns, rows).splitlines() == [
        "Title",
        "",
        "decoder     x s",
        "ours        1.0",
        "upstream  123.5",
        "none          -",
    ]
    assert report.table("Title", columns, []) == ""


def timeline(arrivals: list[tuple[float, float]]) -> dict[str, Any]:
    ends = list(itertools.accumulate(seconds for _, seconds in arrivals))
    made = [[at - 0.1, end] for (at, _), end in zip(arrivals, ends, strict=True)]
    return {
        "decoder": "exact",
        "utterance": "3 s",
        "total_s": arrivals[-1][0],
        "tokens": made,
        "mel": [],
        "arrivals": arrivals,
    }


def test_the_plot_shows_underruns(tmp_path: Path) -> None:
    from PIL import Image

    def has_underrun(name: str, *timelines: dict[str, Any]) -> bool:
        path = tmp_path / name
        plot.draw(timelines, path, "a machine")
        data = path.read_bytes()
        assert data.startswith(b"\x89PNG\r\n\x1a\n")
        assert len(data) < 200_000
        pixels = np.asarray(Image.open(path).convert("RGB"))
        assert pixels.shape[0] > 500 and pixels.shape[1] > 1000
        return bool((pixels == (0xD5, 0x5E, 0x00)).all(axis=2).sum() > 50)

    smooth, gaps = timeline([(0.5, 1.0), (1.0, 2.0)]), timeline([(0.5, 1.0), (3.0, 2.0)])
    assert not has_underrun("smooth.png", smooth)
    assert has_underrun("gaps.png", smooth, gaps)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gaps.png", "smooth.png"]


# A GPU's part, as far as it can be seen without one


def test_every_profile_and_precision_is_measured_on_a_gpu() -> None:
    found = gpu.variants(["exact", "fast"])
    assert found == [
        {"profile": "exact", "dtype": "bfloat16"},
        {"profile": "exact", "dtype": "float32"},
        {"profile": "exact", "cuda_graphs": False},
        {"profile": "fast"},
        {"profile": "fast", "cuda_graphs": False},
    ]


def test_nothing_of_a_gpu_is_measured_without_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = checkpoint.Checkpoint(tmp_path, True, True, "none")
    monkeypatch.setattr(gpu, "run", None)
    with pytest.raises(ValueError, match="cpu is no GPU"):
        gpu.measure(weights, "cpu", ["exact"], Progress(), quick=True)


def test_a_variant_that_fails_is_said_and_the_others_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def run(job: Job, folder: Path, **options: Any) -> dict[str, Any]:
        asked.append((job.compute, job.at_once))
        if job.compute.get("dtype") == "float32":
            return {"error": "out of memory"}
        row = {"at_once": 1, "rtf": 0.1, "peak_vram": 2e9, "spans": [["token", 0.0, 2.0, 700], ["flow", 0, 9, 9]]}
        return {"in_turns": [row]}

    monkeypatch.setattr(gpu, "run", run)
    weights = checkpoint.Checkpoint(tmp_path, True, True, "none")
    rows, errors = gpu.measure(weights, "cuda:0", ["exact"], Progress(), quick=False)
    assert errors == ["exact float32: out of memory"]
    assert [row["variant"] for row in rows] == ["exact bfloat16", "exact cuda_graphs=False"]
    assert rows[0]["tokens_per_s"] == 350 and rows[0]["peak_vram_mb"] == 2000
    assert all(at_once == [1, 4, 16, 64] for _, at_once in asked)


# The command


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert command.main(arguments) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ") and said.err.count("\n") == 1
    return said.err


def test_what_cannot_be_done_is_said_at_once(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "'quick' is unknown (known: exact, balanced, fast)" in refused(capsys, "--profiles", "exact,quick")
    assert "names none" in refused(capsys, "--profiles", ",")
    assert "is not a directory" in refused(capsys, "--model-dir", str(tmp_path / "missing"))
    assert "has no ve.safetensors or ve.pt" in refused(capsys, "--model-dir", str(tmp_path))
    assert "in a folder that is there" in refused(capsys, "--json", str(tmp_path / "missing" / "a.json"))
    assert "--plot" in refused(capsys, "--plot", str(tmp_path))
    assert "at least 1" in refused(capsys, "--rounds", "0")
    with pytest.raises(SystemExit, match="2"):
        command.main(["--only", "nonsense"])


def test_a_checkpoint_without_a_voice_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for name in ("ve.pt", "t3_cfg.pt", "s3gen.pt", "tokenizer.json"):
        (tmp_path / name).touch()
    assert "has no conds.pt" in refused(capsys, "--model-dir", str(tmp_path))


def test_a_device_that_is_not_here_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    if not is_installed():
        pytest.skip(SKIP_REASON)
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert "finds no CUDA GPU" in refused(capsys, "--device", "cuda", "--only", "decoders")
    assert "needs a GPU of NVIDIA" in refused(capsys, "--device", "cpu", "--only", "gpu")


def test_too_small_a_machine_is_said_before_anything_is_built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(checkpoint, "_build", None)
    monkeypatch.setattr(checkpoint, "available_memory", lambda: 2 * 10**9)
    with pytest.raises(BenchError, match=r"about 6 GB of memory, 2\.0 GB are available"):
        checkpoint.checkpoint(None, False, Progress()).__enter__()
    monkeypatch.setattr(checkpoint, "available_memory", lambda: None)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: types.SimpleNamespace(free=10**9))
    with pytest.raises(BenchError, match=r"need 3\.3 GB in .*, 1\.0 GB are free"):
        checkpoint.checkpoint(None, False, Progress()).__enter__()
    assert list((tmp_path / "wyoming-chatterbox").iterdir()) == []


def test_the_random_checkpoint_is_built_once_and_replaced_when_its_recipe_changes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    built = []

    def build(path: Path, *options: str) -> None:
        built.append(options)
        path.mkdir()
        (path / "weights").write_text("")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(checkpoint, "available_memory", lambda: None)
    monkeypatch.setattr(checkpoint, "_FULL_SIZE", 0)
    monkeypatch.setattr(checkpoint, "_build", build)
    folder = checkpoint.cache_folder()
    paths = []
    for seconds in (10.5, 10.5, 11.0):
        monkeypatch.setattr(checkpoint, "_OPTIONS", ("--clip-seconds", str(seconds)))
        with checkpoint.checkpoint(None, False, Progress()) as weights:
            assert weights.ends_where_told and not weights.tiny
            assert (weights.path / "weights").exists()
            paths.append(weights.path)
            assert list(folder.iterdir()) == [weights.path]
    assert paths[0] == paths[1] != paths[2]
    assert built == [("--clip-seconds", "10.5"), ("--clip-seconds", "11.0")]


def test_the_random_checkpoint_is_really_built() -> None:
    if not is_installed():
        pytest.skip(SKIP_REASON)
    with checkpoint.checkpoint(None, True, Progress()) as weights:
        assert weights.ends_where_told and weights.tiny
        assert find_files(weights.path).conditionals is not None
    assert not weights.path.exists()


def test_what_a_build_leaves_when_it_fails_is_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(checkpoint, "available_memory", lambda: None)
    monkeypatch.setattr(checkpoint, "_FULL_SIZE", 0)
    monkeypatch.setattr(checkpoint, "_BUILDER", tmp_path / "failing.py")
    (tmp_path / "failing.py").write_text("import sys, os; os.mkdir(sys.argv[1]); raise MemoryError('no room')")
    with pytest.raises(BenchError, match="could not be made: MemoryError: no room"):
        checkpoint.checkpoint(None, False, Progress()).__enter__()
    assert list(checkpoint.cache_folder().iterdir()) == []


def test_a_decoder_that_fails_is_said_and_the_others_are_compared(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def run(job: Job, folder: Path, **options: Any) -> dict[str, Any]:
        if job.name == "balanced":
            return {"error": "no such thing"}
        if job.name != "upstream":
            assert [each.given for each in job.utterances] == [[4, 5]]
        chunks = [noise(1.0), noise(1.0)]
        spoken = {
            "name": "2 s",
            "arrivals": [(2.0, 1.0), (4.0, 1.0)] if job.name == "upstream" else [(1.0, 1.0), (1.2, 1.0)],
            "total": 4.0 if job.name == "upstream" else 1.6,
            "spans": [["token", 0.0, 0.5, 1], ["token", 0.5, 1.0, 1], ["token", 1.0, 1.2, 0], ["flow", 1.2, 2.0, 4]],
            "sampled": [4, 5] if job.name == "upstream" else [4, 6],
            "decoded": [4, 5],
            "first_audio_of_runs": [1.0],
            "stream": child._saved(folder, "a.npy", chunks),
        }
        return {
            "utterances": [spoken],
            "left_out": [],
            "load_s": 1.0,
            "warm_up_s": 1.0,
            "peak_rss": 4e9 if job.name == "upstream" else 1e9,
            "peak_anonymous": None,
            "peak_vram": None,
        }

    monkeypatch.setattr(decoders, "run", run)
    weights = checkpoint.Checkpoint(tmp_path, True, True, "none")
    found = decoders.compare(
        weights,
        "cpu",
        ["balanced", "exact"],
        [Utterance("2 s", "Hello.", 2)],
        Progress(),
        with_seams=True,
        repeat_within=0,
        until=None,
    )
    assert found.errors == ["balanced: no such thing"]
    theirs, ours = found.speed
    assert (theirs["decoder"], ours["decoder"]) == ("upstream", "exact")
    assert (ours["first_audio_x"], ours["rtf"], ours["rtf_x"]) == (2.0, 0.8, pytest.approx(2.5))
    assert (theirs["underruns"], theirs["gap_s"], ours["underruns"]) == (1, pytest.approx(1.0), 0)
    assert (ours["tokens"], ours["alike"], theirs["alike"]) == (2, 1, None)
    assert ours["token_ms"] == pytest.approx(400) and ours["tokens_per_s"] == pytest.approx(2 / 1.2)
    assert (ours["flow_s"], ours["vocoder_s"]) == (pytest.approx(0.8), None)
    assert found.processes[1]["peak_rss_x"] == 0.25
    assert [row["joins"] for row in found.seams] == [1, 1]
    assert found.timelines[1]["tokens"] == [[0.5, 0.04], [1.0, 0.08], [1.2, 0.08]]


def test_the_script_installs_what_its_parts_need(monkeypatch: pytest.MonkeyPatch) -> None:
    installed: list[tuple[str, ...]] = []
    stub = types.ModuleType("_environment")
    vars(stub).update(
        CHATTERBOX="chatterbox",
        DEV="dev",
        HTTP="http",
        PYTHON=Path(sys.prefix, "bin", "python"),
        ROOT=ROOT,
        ensure=lambda *parts: installed.append(parts),
        command=None,
    )
    monkeypatch.setitem(sys.modules, "_environment", stub)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    script = runpy.run_path(str(ROOT / "script" / "bench"))
    assert script["main"](["--only", "sockets", "--rounds", "0"]) == 1
    assert installed == [("http", "dev")]
    installed.clear()
    assert script["main"](["--rounds", "0"]) == 1
    assert installed == [("http", "dev"), ("chatterbox", "http", "dev")]


def test_latencies_through_the_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "_DESCRIBING", 0.2)
    rows = sockets.measure(2, Progress())
    assert len(rows) == 5 + len(http.ROUTES) + 1 + 3
    for row in rows:
        assert 0 < row["median_ms"] <= row["p99_ms"] <= row["max_ms"] < 10_000
        assert row["n"] >= 2


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> dict[str, Any]:
    """The whole command with the tiny checkpoint: its figures, with `stdout` and `folder`."""
    folder = tmp_path_factory.mktemp("bench")
    (folder / "tmp").mkdir()
    files = ["--json", str(folder / "bench.json"), "--plot", str(folder / "bench.png")]
    options = ["--tiny", "--model-dir", str(tiny_checkpoint), "--device", "cpu", "--quick", *files]
    env = environment(TMPDIR=str(folder / "tmp"), XDG_CACHE_HOME=str(folder / "cache"), HOME=str(folder / "home"))
    env.pop(checkpoint.INDUCTOR_CACHE, None)  # this process has one, as it has torch
    done = subprocess.run(
        [sys.executable, "-m", "script.benchmarks", *options, "--only", "decoders", "seams"],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads((folder / "bench.json").read_text())
    return {**found, "stdout": done.stdout, "stderr": done.stderr, "folder": folder}


def test_all_decoders_are_measured(measured: dict[str, Any]) -> None:
    speed = measured["speed"]
    assert [(row["decoder"], row["utterance"]) for row in speed] == [
        (name, length) for length in ("2 s", "5 s") for name in DECODERS
    ]
    for row in speed:
        assert row["tokens"] == (49 if row["utterance"] == "2 s" else 124)
        assert row["audio_s"] == pytest.approx(row["tokens"] / 25, abs=0.5)
        for name in ("first_audio_s", "first_chunk_s", "total_s", "rtf", "first_audio_x", "rtf_x"):
            assert math.isfinite(row[name]) and row[name] > 0, (row["decoder"], name)
        assert row["first_audio_s"] <= row["total_s"]
        # Our decoder need not say what it does; what it says must be possible.
        stages = [row[f"{stage}_s"] for stage in ("prefill", "token", "flow", "vocoder", "watermark")]
        assert all(seconds is None or 0 < seconds < row["total_s"] for seconds in stages)
    theirs = [row for row in speed if row["decoder"] == "upstream"]
    for row in theirs:
        stages = [row[f"{stage}_s"] for stage in ("prefill", "token", "flow", "vocoder", "watermark")]
        assert 0.5 * row["total_s"] < sum(stages) <= row["total_s"]
        assert row["tokens_per_s"] == pytest.approx(row["tokens"] / row["token_s"], rel=0.01)
        assert (row["first_audio_x"], row["rtf_x"]) == (1, 1)
    for row in measured["processes"]:
        assert 100 < row["peak_rss_mb"] < 20_000
        assert row["load_s"] > 0 and row["warm_up_s"] > 0
    assert not measured["errors"] and not measured["gpu"] and not measured["sockets"]


def test_upstreams_hole_is_seen_and_ours_is_not(measured: dict[str, Any]) -> None:
    rows = {row["decoder"]: row for row in measured["seams"]}
    assert list(rows) == DECODERS
    assert rows["upstream"]["joins"] == 4
    assert rows["upstream"]["hole_2ms"] <= -15
    assert rows["upstream"]["hole_5ms"] <= -10
    assert rows["upstream"]["own_level"] is None
    assert rows["upstream"]["exact_level_5ms"] <= -10
    for name in DECODERS[1:]:
        row = rows[name]
        assert row["joins"] >= 2
        assert row["hole_2ms"] > -10 and row["hole_5ms"] > -7
        assert abs(row["own_level"]) < 0.3 and abs(row["own_level_5ms"]) < 2
        assert 0 <= row["own_mel_elsewhere"] <= row["own_mel"] <= row["own_mel_near"] < 2
        assert math.isfinite(row["exact_mel_near"]) and math.isfinite(row["exact_mel_elsewhere"])
    assert rows["exact"]["exact_mel_near"] == rows["exact"]["own_mel_near"]
    assert rows["exact"]["own_mel"] < 0.6 < rows["upstream"]["exact_mel"]
    assert rows["upstream"]["exact_mel_elsewhere"] > rows["exact"]["own_mel_elsewhere"]


def test_what_it_was_measured_on_is_written_down(measured: dict[str, Any]) -> None:
    assert measured["command"].startswith("script/bench --tiny --model-dir ")
    assert measured["machine"]["device"] == "cpu" and measured["machine"]["cpu"]
    assert measured["versions"]["chatterbox-streaming"] == "0.1.2"
    assert "tiny" in measured["weights"]
    for said in ("upstream", "first audio s", "underruns", "peak RSS MB", "hole, 2 ms", measured["machine"]["cpu"]):
        assert said in measured["stdout"]
    for said in ("upstream: loading", "fast: 5 s, about ", "exact: 5 s in one chunk"):
        assert said in measured["stderr"]


def test_the_time_lines_are_drawn(measured: dict[str, Any]) -> None:
    data = (measured["folder"] / "bench.png").read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n") and 10_000 < len(data) < 200_000
    assert [each["decoder"] for each in measured["timelines"]] == DECODERS
    theirs = measured["timelines"][0]
    assert theirs["utterance"] == "5 s" and len(theirs["arrivals"]) == 5
    assert theirs["tokens"][-1][1] == theirs["mel"][-1][1] == pytest.approx(124 / 25)
    for tokens, mel in zip(theirs["mel"], theirs["arrivals"], strict=False):
        assert tokens[0] < mel[0], "a chunk is sent when its mel is made"


def test_nothing_is_left_behind(measured: dict[str, Any]) -> None:
    folder = measured["folder"]
    assert list((folder / "tmp").iterdir()) == []
    assert sorted(path.name for path in folder.iterdir()) == ["bench.json", "bench.png", "tmp"]


def test_utterances_in_turns_on_the_real_engine(tiny_checkpoint: Path) -> None:
    weights = checkpoint.Checkpoint(tiny_checkpoint, True, True, "tiny")
    rows, errors = gpu.in_turns(weights, "cpu", [{"profile": "exact"}], [1, 2], Progress())
    assert errors == []
    assert [(row["variant"], row["at_once"]) for row in rows] == [("exact", 1), ("exact", 2)]
    for row in rows:
        assert 0 < row["first_audio_s"] <= row["first_audio_max_s"] <= row["total_s"]
        assert row["rtf"] == pytest.approx(row["at_once"] / row["audio_per_s"], rel=0.5)
        assert row["peak_vram_mb"] is None


def test_a_profile_is_measured_alone_and_beside_another_program(tmp_path: Path, tiny_checkpoint: Path) -> None:
    file = tmp_path / "bench.json"
    options = ["--tiny", "--model-dir", str(tiny_checkpoint), "--device", "cpu", "--quick", "--json", str(file)]
    done = subprocess.run(
        [sys.executable, "-m", "script.benchmarks", *options, "--only", "busy", "--profiles", "fast"],
        cwd=ROOT,
        env=environment(TMPDIR=str(tmp_path)),
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(file.read_text())["busy"]
    assert (row["decoder"], row["rounds"]) == ("fast", 1)
    assert row["total_x"] == pytest.approx(row["total_busy_s"] / row["total_quiet_s"], rel=1e-3)
    for stage in busy.STAGES:
        assert 0 < row[f"{stage}_quiet_s"] < row["total_quiet_s"] and row[f"{stage}_x"] > 0
    assert "Beside a program that keeps all cores busy" in done.stdout


def test_the_other_program_works_while_it_is_wanted() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    with busy.competitor(2):
        pass
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before > 0.05
