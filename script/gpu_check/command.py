"""The command line: the weights, the checks in a process of their own, then the benchmark's rows of a GPU."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from script.benchmarks import gpu, report
from script.benchmarks.checkpoint import INDUCTOR_CACHE, ROOT, Checkpoint, check_model_dir, checkpoint
from script.benchmarks.device import find_device
from script.benchmarks.errors import BenchError
from script.benchmarks.machine import in_words, machine, versions
from script.benchmarks.progress import Progress

from . import record as records
from .checks import CHECKS
from .record import FAILED, PASSED, SKIPPED, Outcome, Record

SECONDS = 580.0
"""Of ten minutes for all of it; the rest is for the table."""

_BENCHMARK_SECONDS = 60.0
"""A variant that begins with fewer seconds left would not end in time: it loads, warms up and speaks 21 texts."""

_PROFILES = ("exact", "balanced", "fast")

BENCHMARK = "benchmark"

FILE = "gpu-check.json"


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="script/gpu-check",
        description="Check on an NVIDIA GPU what no test can see without one: that CUDA graphs are captured and "
        "compute what they should, also beside each other; then measure first audio and throughput. It takes ten "
        "minutes at most. A table goes to stdout, progress to stderr; the exit status is 1 when a check failed.",
    )
    made.add_argument("--out", type=Path, metavar="DIR", help=f"write all that was found to DIR/{FILE}")
    made.add_argument(
        "--model-dir",
        type=Path,
        metavar="DIR",
        help="real weights (default: random ones of full size, 3.2 GB, made once and kept in a cache)",
    )
    made.add_argument("--device", default="auto", help="cuda or cuda:N (default: %(default)s)")
    made.add_argument(
        "--tiny",
        action="store_true",
        help="small random networks, also without a GPU, where what needs one is skipped: tests this program itself; "
        "--model-dir is a tiny checkpoint of wyoming_chatterbox/testing/random_checkpoint.py",
    )
    return made


def main(arguments: Sequence[str]) -> int:
    options = parser().parse_args(arguments)
    # Its processes and folders go with it, too, when it is ended like this.
    before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        with tempfile.TemporaryDirectory(prefix="gpu-check-") as folder:
            return _check(options, list(arguments), Path(folder))
    except BenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    finally:
        signal.signal(signal.SIGTERM, before)


def _check(options: argparse.Namespace, arguments: list[str], folder: Path) -> int:
    progress = Progress(name="gpu-check")
    if options.model_dir is not None:
        check_model_dir(options.model_dir)
    facts = {**machine(), **find_device(options.device)}
    if not facts["device"].startswith("cuda") and not options.tiny:
        raise BenchError(
            f"torch would run on {facts['device']}: this needs a GPU of NVIDIA (--tiny tests the program without one)"
        )
    record = Record(_record_path(options.out, folder))
    record.set(
        command=" ".join(["script/gpu-check", *arguments]),
        date=time.strftime("%Y-%m-%d"),
        machine=facts,
        versions=versions(),
    )
    print(in_words(facts, record.get("versions")), flush=True)
    with checkpoint(options.model_dir, options.tiny, progress) as weights:
        record.set(weights=weights.described)
        print(f"Weights: {weights.described}", flush=True)
        record = _engine_checks(weights, facts["device"], record, progress, folder)
        record.add(_benchmark(weights, facts["device"], record, progress))
    record.set(passed=not record.failed, seconds=progress.seconds)
    _show(record)
    return int(record.failed)


def _record_path(out: Path | None, folder: Path) -> Path:
    if out is None:
        return folder / FILE
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / FILE).unlink(missing_ok=True)
    except OSError as error:
        raise BenchError(f"--out {out}: {error.strerror or error}; give a folder that can be written to") from error
    return out.resolve() / FILE


def _engine_checks(weights: Checkpoint, device: str, record: Record, progress: Progress, folder: Path) -> Record:
    """Do the checks that need the engine in a process of their own; the record as it left it."""
    path = record.path
    job = folder / "job.json"
    job.write_text(
        json.dumps(
            {
                "model_dir": str(weights.path),
                "device": device,
                "tiny": weights.tiny,
                "ends_where_told": weights.ends_where_told,
                "began": progress.began,
                "record": str(path),
            }
        )
    )
    try:
        done = subprocess.run(
            [sys.executable, "-m", "script.gpu_check.runner", str(job)],
            cwd=ROOT,
            env={INDUCTOR_CACHE: str(folder), **os.environ, "PYTHONWARNINGS": "ignore"},
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            timeout=max(1.0, SECONDS - progress.seconds),
        )
        end = f"the process ended with status {done.returncode}"
    except subprocess.TimeoutExpired:
        end = "the ten minutes were over"
    record = Record(path)
    for index, (name, _) in enumerate(CHECKS[len(record.checks) :]):
        state, found = (FAILED, end) if index == 0 else (SKIPPED, "the check before it did not end")
        record.add(Outcome(name, state, found))
    return record


def _benchmark(weights: Checkpoint, device: str, record: Record, progress: Progress) -> Outcome:
    """Returns the rows that `script/bench --only gpu` has; without a GPU, a single one that shows that they can be
    measured."""
    on_cuda = device.startswith("cuda")
    variants = gpu.variants(_PROFILES) if on_cuda else [{"profile": "exact"}]
    started, rows, errors, left_out = progress.seconds, [], [], 0
    for variant in variants:
        left = SECONDS - progress.seconds
        if left < _BENCHMARK_SECONDS:
            left_out += 1
            continue
        measured, failed = gpu.in_turns(
            weights, device, [variant], gpu.QUICK_AT_ONCE if on_cuda else (1,), progress, timeout=left
        )
        rows += measured
        errors += failed
        record.set(benchmark=rows)
    seconds = progress.seconds - started
    if errors:
        return Outcome(BENCHMARK, FAILED, "; ".join(errors), seconds)
    if not rows:
        return Outcome(BENCHMARK, SKIPPED, "the ten minutes were over")
    found = f"{len(rows)} rows" + (f", {left_out} variants left out: the ten minutes were over" if left_out else "")
    return Outcome(BENCHMARK, PASSED, found if on_cuda else f"{found}; on a CPU: the figures say nothing", seconds)


def _show(record: Record) -> None:
    graphs: list[dict[str, Any]] = next(
        (each["figures"]["rows"] for each in record.checks if "rows" in each["figures"]), []
    )
    for text in (
        records.graphs_table(graphs),
        report.table("Several utterances at once", report.GPU, record.get("benchmark") or []),
        records.checks_table(record.checks),
    ):
        if text:
            print(f"\n{text}", end="", flush=True)
