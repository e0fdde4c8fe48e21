"""Each profile beside another busy program, and alone, in turns within one process.

A program with as many busy threads as there are cores may take half of the machine, so twice the time is a fair
share. What is more than that is lost while threads wait for each other, see wyoming_chatterbox/openmp.py.
"""

from __future__ import annotations

import contextlib
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from . import comparison
from .checkpoint import Checkpoint
from .job import Job, Utterance
from .machine import cores
from .progress import Progress

UTTERANCE = Utterance("1 s", "Come in, it is open.", 24)
"""Short, for exact takes half a minute to speak it beside another program."""

ROUNDS, QUICK_ROUNDS = 3, 1

_SETTLE_SECONDS = 0.5
"""Until the other program's threads run, and after it ended."""

# Hashing holds no lock of the interpreter; the end of standard input is the end of the program that measures.
_COMPETITOR = """
import hashlib, os, sys, threading
data = bytes(1 << 24)
def spin():
    while True:
        hashlib.sha256(data)
for _ in range(int(sys.argv[1])):
    threading.Thread(target=spin, daemon=True).start()
sys.stdin.read()
os._exit(0)
"""

STAGES = ("prefill", "token", "flow", "vocoder")


@contextlib.contextmanager
def competitor(threads: int) -> Iterator[None]:
    """Run a program beside this one that keeps so many threads busy; it ends with the block."""
    process = subprocess.Popen([sys.executable, "-c", _COMPETITOR, str(threads)], stdin=subprocess.PIPE)
    try:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_SETTLE_SECONDS)
        yield
    finally:
        process.kill()
        process.communicate()


def measure(
    checkpoint: Checkpoint, device: str, profiles: Sequence[str], progress: Progress, *, quick: bool
) -> tuple[list[dict[str, Any]], list[str]]:
    """Returns (a row for each profile, errors)."""
    rows, errors = [], []
    for name in profiles:
        job = Job(
            model_dir=str(checkpoint.path),
            device=device,
            decoder="seamless",
            name=name,
            compute={"profile": name},
            tiny=checkpoint.tiny,
            ends_where_told=checkpoint.ends_where_told,
            began=progress.began,
            busy=UTTERANCE,
            busy_rounds=QUICK_ROUNDS if quick else ROUNDS,
            busy_threads=cores(),
        )
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            result = comparison.run(job, Path(folder))
        if "error" in result:
            errors.append(f"busy {name}: {result['error']}")
        else:
            rows.append(row(name, result["busy"]))
    return rows, errors


def row(name: str, runs: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """One profile.

    Args:
        runs: "quiet" and "busy", each the seconds of every stage of every run, and "total".
    """
    found: dict[str, Any] = {"decoder": name, "rounds": len(runs["quiet"])}
    for stage in ("total", *STAGES):
        quiet, busy = (statistics.median(run[stage] for run in runs[state]) for state in ("quiet", "busy"))
        found |= {f"{stage}_quiet_s": quiet, f"{stage}_busy_s": busy, f"{stage}_x": busy / quiet if quiet else None}
    return found
