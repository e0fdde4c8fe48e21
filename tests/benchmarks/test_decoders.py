"""Decoders measured on the tiny checkpoint, the socket, and a busy machine."""

from __future__ import annotations

import json
import math
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from script.benchmarks import (
    busy,
    checkpoint,
    gpu,
)
from script.benchmarks.progress import Progress
from wyoming_chatterbox.testing.serving import ROOT, environment

pytestmark = pytest.mark.timeout(300)
"""Four processes that import torch: a busy machine takes its time."""


DECODERS = ["upstream", "exact", "balanced", "fast"]


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


@pytest.mark.slow
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


def test_another_model_of_the_family_is_measured(tmp_path: Path) -> None:
    options = ["--model", "nano", "--tiny", "--device", "cpu", "--quick", "--profiles", "fast", "--only", "decoders"]
    done = subprocess.run(
        [sys.executable, "-m", "script.benchmarks", *options, "--json", str(tmp_path / "bench.json")],
        cwd=ROOT,
        env=environment(XDG_CACHE_HOME=str(tmp_path)),
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "bench.json").read_text())["speed"]
    assert [(row["decoder"], row["utterance"], row["tokens"]) for row in rows] == [
        ("fast", "2 s", 50),
        ("fast", "5 s", 125),
    ]
    assert all(row["audio_s"] == pytest.approx(row["tokens"] / 25, abs=0.5) for row in rows)
