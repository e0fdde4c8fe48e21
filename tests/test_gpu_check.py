"""`script/gpu-check` without a GPU: its reduced form, and the checks themselves on the device of fake_cuda.py."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from script.benchmarks import gpu
from script.benchmarks.checkpoint import Checkpoint
from script.benchmarks.comparison import run
from script.benchmarks.job import Job
from script.benchmarks.progress import Progress
from script.gpu_check import checks, command
from script.gpu_check.checks import CHECKS, Checked
from script.gpu_check.record import FAILED, PASSED, SKIPPED, Outcome, Record
from tests.checkpoint_fixture import SKIP_REASON, tiny_checkpoint
from wyoming_chatterbox.compute_settings import ComputeSettings
from wyoming_chatterbox.engine.chatterbox.compute.graph_check import GraphMismatch
from wyoming_chatterbox.engine.chatterbox.engine import ChatterboxEngine
from wyoming_chatterbox.engine.chatterbox.s3gen import graphs
from wyoming_chatterbox.engine.chatterbox.s3gen.graphs import FlowGraphs
from wyoming_chatterbox.engine.chatterbox.streaming import SeamlessDecoder
from wyoming_chatterbox.engine.chatterbox.t3 import captured_steps
from wyoming_chatterbox.engine.chatterbox.t3.decode import Decoder
from wyoming_chatterbox.engine.chatterbox.t3.sequence import Sequence
from wyoming_chatterbox.engine.chatterbox.t3.tokens import TokenGenerator
from wyoming_chatterbox.engine.requirements import is_installed
from wyoming_chatterbox.testing.serving import ROOT, environment

if not is_installed():
    pytest.skip(SKIP_REASON, allow_module_level=True)

import torch

from tests.engine.chatterbox.fake_cuda import FakeCuda, FakeDevice

__all__ = ["tiny_checkpoint"]

ORDER = [
    "versions and VRAM",
    "graphs captured",
    "first audio",
    "ms per graph",
    "graph = eager",
    "200 concurrent replays",
    "after a family is destroyed",
]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_without_a_gpu_what_needs_one_is_skipped(tiny_checkpoint: Path, tmp_path: Path) -> None:
    options = ["--tiny", "--device", "cpu", "--model-dir", str(tiny_checkpoint), "--out", str(tmp_path / "new")]
    done = subprocess.run(
        [sys.executable, "-m", "script.gpu_check", *options],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "new" / command.FILE).read_text())
    results = {each["check"]: (each["state"], each["found"]) for each in found["checks"]}
    assert list(results) == [*ORDER, "benchmark"]
    for name, (state, why) in results.items():
        if name in ("versions and VRAM", "first audio", "benchmark"):
            assert state == PASSED, (name, why)
        else:
            assert (state, why) == (SKIPPED, "no GPU")
    assert "with cuDNN's attention: skipped (no GPU)" in results["first audio"][1]
    assert found["passed"] is True and found["versions"]["torch"] == torch.__version__
    assert len(found["benchmark"]) == 1
    lines = done.stdout.splitlines()
    assert any(line.startswith("200 concurrent replays") and "skipped" in line for line in lines)
    assert [path.name for path in (tmp_path / "new").iterdir()] == [command.FILE]


def test_without_a_gpu_nothing_else_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--device", "cpu"]) == 1
    assert "error: torch would run on cpu: this needs a GPU of NVIDIA" in capsys.readouterr().err


# The checks on a device that only says it is a GPU


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    cuda, step, flow_step = FakeCuda(), Decoder.captured_step, FlowGraphs.step

    def token_step(self: Decoder, sequence: Sequence, end: int) -> None:
        cuda.last_sequence = sequence
        step(self, sequence, end)
        cuda.saw(lambda: self.captured_step(sequence, end))

    def frame_step(self: FlowGraphs, buffers: Any) -> None:
        flow_step(self, buffers)
        cuda.saw(lambda: self.step(buffers))

    monkeypatch.setattr(Decoder, "captured_step", token_step)
    monkeypatch.setattr(FlowGraphs, "step", frame_step)
    monkeypatch.setattr(captured_steps, "TYPICAL_POSITIONS", 512)
    monkeypatch.setattr(graphs, "TYPICAL_FRAMES", 384)
    monkeypatch.setattr(torch, "cuda", cuda)
    monkeypatch.setattr(checks, "REPLAYS_TOGETHER", 5)
    monkeypatch.setattr(checks, "_TIMED_REPLAYS", 1)
    return cuda


@pytest.fixture
def checked(cuda: FakeCuda, tiny_checkpoint: Path) -> Checked:
    """An engine whose graphs are captured on a device that only says it is a GPU."""
    engine = ChatterboxEngine.load(tiny_checkpoint, "cpu", None, 0, ComputeSettings())
    decoder: Any = engine.decoder
    assert isinstance(decoder, SeamlessDecoder)
    decoder.tokens = TokenGenerator(engine.chatterbox.t3, graphs=True)
    tokens: Any = decoder.tokens
    tokens.decoder.device = FakeDevice("cpu")
    flow = decoder.flow
    flow._graphs = FlowGraphs(flow._estimator, flow._times, 0.7)
    decoder.cuda_stream = cuda.Stream()
    made = Checked(torch, tiny_checkpoint, "cpu", True)
    made.engine, made.device = engine, "cuda"
    return made


def _outcomes(checked: Checked) -> dict[str, Outcome]:
    return {name: checks.do(name, check, checked) for name, check in CHECKS[1:]}


def test_all_checks_pass_where_graphs_do_what_they_should(checked: Checked) -> None:
    found = _outcomes(checked)
    assert [name for name, _ in CHECKS] == ORDER
    assert {name: outcome.state for name, outcome in found.items()} == dict.fromkeys(ORDER[1:], PASSED), found
    assert found["graphs captured"].figures["graphs"] == {"language model": 2, "flow decoder": 6}
    assert len(found["ms per graph"].figures["rows"]) == found["graph = eager"].figures["graphs"] == 8
    assert {"with_cudnn_s", "without_cudnn_s"} <= found["first audio"].figures.keys()


def test_graphs_that_cannot_be_captured_fail_the_check(checked: Checked, cuda: FakeCuda) -> None:
    cuda.breaks_at = 1
    found = _outcomes(checked)
    assert found["graphs captured"].state == FAILED
    assert "cannot be captured here" in found["graphs captured"].found
    assert found["first audio"].state == PASSED, "it works without them"
    assert found["graph = eager"] == Outcome("graph = eager", SKIPPED, "not all graphs are there")


def _other_numbers(checked: Checked, cuda: FakeCuda) -> None:
    def spoil() -> None:
        for buffers in checked.decoder.flow._graphs._captured.values():
            buffers.x.mul_(1.1)

    cuda.spoil = spoil


def _wrong_beside_another(checked: Checked, cuda: FakeCuda) -> None:
    def spoil() -> None:
        if cuda.current_stream() is checked.decoder.cuda_stream:
            cuda.last_sequence.cache.layers[-1].mul_(1 + 1e-6)

    cuda.spoil = spoil


def _wrong_afterwards(checked: Checked, cuda: FakeCuda) -> None:
    alive, count = len(cuda.graphs), 0

    def spoil() -> None:
        nonlocal count
        if len(cuda.graphs) > alive:
            count += 1
            for buffers in checked.decoder.flow._graphs._captured.values():
                buffers.x.mul_(1 + 1e-6)

    cuda.spoil = spoil


@pytest.mark.parametrize(
    ("fault", "check"),
    [
        (_other_numbers, "graph = eager"),
        (_wrong_beside_another, "200 concurrent replays"),
        (_wrong_afterwards, "after a family is destroyed"),
    ],
)
def test_graphs_that_compute_something_else_fail_their_check(
    checked: Checked, cuda: FakeCuda, fault: Callable[[Checked, FakeCuda], None], check: str
) -> None:
    every = dict(CHECKS)
    assert checks.do("graphs captured", every["graphs captured"], checked).state == PASSED
    fault(checked, cuda)
    outcome = checks.do(check, every[check], checked)
    assert outcome.state == FAILED
    assert outcome.found.startswith(GraphMismatch.__name__)


# The command


def test_a_process_that_dies_fails_the_check_that_it_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = Record(tmp_path / command.FILE)

    def dies(words: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        Record(record.path).add(Outcome(ORDER[0], PASSED, "a GPU"))
        return subprocess.CompletedProcess(words, -11)

    monkeypatch.setattr(subprocess, "run", dies)
    weights = Checkpoint(tmp_path, True, True, "none")
    found = command._engine_checks(weights, "cuda", record, Progress(), tmp_path).checks
    assert [each["check"] for each in found] == ORDER
    assert [each["state"] for each in found] == [PASSED, FAILED] + [SKIPPED] * 5
    assert found[1]["found"] == "the process ended with status -11"


def test_what_would_not_end_within_ten_minutes_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    began, asked = time.time() - command.SECONDS + 300, []

    def in_turns(
        weights: Checkpoint, device: str, settings: Any, at_once: Any, progress: Progress, *, timeout: float
    ) -> tuple[list[dict[str, Any]], list[str]]:
        asked.append(timeout)
        object.__setattr__(progress, "began", progress.began - 100)
        return [{"variant": settings[0]["profile"]}], []

    monkeypatch.setattr(gpu, "in_turns", in_turns)
    record = Record(tmp_path / command.FILE)
    outcome = command._benchmark(Checkpoint(tmp_path, True, True, "none"), "cuda", record, Progress(began))
    assert asked == [pytest.approx(300, abs=20), pytest.approx(200, abs=20), pytest.approx(100, abs=20)]
    assert (outcome.state, outcome.found) == (PASSED, "3 rows, 4 variants left out: the ten minutes were over")
    assert record.get("benchmark") == [{"variant": name} for name in ("exact", "exact", "exact")]


def test_a_job_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    job = Job(str(tmp_path), "cpu", "seamless", "slow", {}, True, True, time.time())
    assert run(job, tmp_path, timeout=0.05) == {"error": "it took longer than 0 s"}
