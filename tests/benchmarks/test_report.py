"""The machine, tables and the plot."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from script.benchmarks import (
    machine,
    plot,
    report,
)

pytestmark = pytest.mark.timeout(300)
"""Four processes that import torch: a busy machine takes its time."""


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
