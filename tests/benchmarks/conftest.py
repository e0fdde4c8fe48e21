"""Fixtures of these tests."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from script.benchmarks import (
    checkpoint,
)
from wyoming_chatterbox.testing.serving import ROOT, environment


@pytest.fixture(scope="package")
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
