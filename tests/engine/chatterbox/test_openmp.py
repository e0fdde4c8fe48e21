"""How OpenMP's threads wait is decided before torch loads it; libgomp itself prints what it has read."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from wyoming_chatterbox import openmp
from wyoming_chatterbox.testing.serving import ROOT, spawned

if not sys.platform.startswith("linux"):
    pytest.skip("torch has libgomp on Linux only", allow_module_level=True)

SHOWN = r"GOMP_SPINCOUNT = '(\d+)'"


@pytest.fixture(autouse=True)
def _unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without what this process has set for itself."""
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_DISPLAY_ENV", "verbose")


@pytest.mark.parametrize(
    ("users", "expected"),
    [({}, str(openmp.SPIN_COUNT)), ({"GOMP_SPINCOUNT": "77"}, "77"), ({"OMP_WAIT_POLICY": "passive"}, "0")],
    ids=str,
)
def test_the_server_decides_before_torch_is_loaded_and_a_user_wins(
    tmp_path: Path, tiny_checkpoint: Path, users: dict[str, str], expected: str
) -> None:
    # The weights are too small for the real model, which is noticed once torch is there.
    arguments = ("--model", "original", "--model-dir", str(tiny_checkpoint), "--device", "cpu", "--no-fallback")
    with spawned(tmp_path, *arguments, env=users) as server:
        found = server.wait_for(SHOWN)
    assert found.group(1) == expected


def test_so_does_the_python_api() -> None:
    program = "from wyoming_chatterbox.engine.chatterbox import upstream; upstream.load_chatterbox()"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=dict(os.environ), stderr=subprocess.PIPE, text=True, check=True
    )
    assert re.findall(SHOWN, done.stderr)[:1] == [str(openmp.SPIN_COUNT)]
