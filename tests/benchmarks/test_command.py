"""The command: what cannot be measured is said at once."""

from __future__ import annotations

import runpy
import shutil
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from script.benchmarks import (
    checkpoint,
    command,
    comparison,
    http,
    runner,
    sockets,
)
from script.benchmarks.errors import BenchError
from script.benchmarks.job import Job, Utterance
from script.benchmarks.progress import Progress
from tests.benchmarks.helpers import noise
from tests.checkpoint_fixture import SKIP_REASON
from wyoming_chatterbox.engine.requirements import is_installed
from wyoming_chatterbox.engine.weights.files import find_files
from wyoming_chatterbox.testing.serving import ROOT

pytestmark = pytest.mark.timeout(300)
"""Four processes that import torch: a busy machine takes its time."""


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
    assert "--only busy: for the original model only" in refused(capsys, "--model", "nano", "--only", "busy")


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

    def build(path: Path, model: str, *options: str) -> None:
        built.append((model, *options))
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
    assert built == [("original", "--clip-seconds", "10.5"), ("original", "--clip-seconds", "11.0")]
    with checkpoint.checkpoint(None, False, Progress(), "nano") as weights:
        assert "nano" in weights.path.name
    with checkpoint.checkpoint(None, False, Progress()) as weights:
        assert weights.path == paths[2], "another model's weights stay"
    assert len(built) == 3


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
            "stream": runner._saved(folder, "a.npy", chunks),
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

    monkeypatch.setattr(comparison, "run", run)
    weights = checkpoint.Checkpoint(tmp_path, True, True, "none")
    found = comparison.compare(
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
