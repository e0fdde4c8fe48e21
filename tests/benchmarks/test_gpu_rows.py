"""The GPU's part, as far as it can be seen without one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from script.benchmarks import (
    checkpoint,
    gpu,
)
from script.benchmarks.job import Job
from script.benchmarks.progress import Progress

pytestmark = pytest.mark.timeout(300)
"""Four processes that import torch: a busy machine takes its time."""


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
