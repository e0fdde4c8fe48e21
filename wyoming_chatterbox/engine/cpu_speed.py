"""Whether this CPU is fast enough for a model, by a timed test in a process of its own; imports no torch.

The result is kept on disk for the processor, the packages and the settings. What was too slow is tested again at the
next two starts: other programs may have been at work.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from ..blocking import call_within
from ..compute_settings import ComputeSettings
from ..errors import WyomingChatterboxError
from ..limits import PATH_SECONDS
from ..private_files import make_folder, write_file
from .hardware import processor

_LOGGER = logging.getLogger(__name__)

FAST_ENOUGH = 0.8
"""RTF of a model that has a lead over its listener while other programs are at work."""

_MODULE = "wyoming_chatterbox.engine.chatterbox.speed_estimate"
_TIMEOUT = 180.0
"""Seconds for the test. It takes 10; a busy small machine imports torch alone in 60."""

_MAX_TESTS = 3
_MAX_BYTES = 64 * 1024
"""A result takes about 400 bytes: 100 machines or versions of torch."""


class SpeedUnknown(WyomingChatterboxError):
    """The test failed; the message says why."""


def estimated_rtf(model: str, compute: ComputeSettings, data: Path) -> float:
    """Returns the RTF that this CPU would have with a model, about; blocks for some 10 s where it is not known yet.

    Args:
        model: of the family, one that plan.py gives causal attention with these settings.
        compute: how it would be computed.
        data: the server's folder; the result is kept there.

    Raises:
        SpeedUnknown: the test failed.
    """
    path, key = data / "cpu-speed.json", _key(model, compute)
    known = _read(path)
    rtf, tests = known.get(key, (float("inf"), 0))
    if rtf <= FAST_ENOUGH or tests >= _MAX_TESTS:
        return rtf
    _LOGGER.info("Timing this CPU for model %s, which takes about 10 s", model)
    rtf = min(rtf, _run_test(model, compute, data))
    known[key] = (rtf, tests + 1)
    _write(path, known)
    return rtf


def _run_test(model: str, compute: ComputeSettings, data: Path) -> float:
    job = json.dumps({"model": model, "compute": dataclasses.asdict(compute), "data": str(data)})
    try:
        done = subprocess.run(
            [sys.executable, "-m", _MODULE, job],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=False,
        )
        for line in done.stderr.splitlines():
            _LOGGER.debug("Timed test: %s", line)
        if done.returncode != 0:
            reason = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
            raise SpeedUnknown(f"the timed test of this CPU failed: {reason}")
        return float(json.loads(done.stdout.strip().splitlines()[-1])["rtf"])
    except subprocess.TimeoutExpired:
        raise SpeedUnknown(f"the timed test of this CPU did not end within {_TIMEOUT:g} s") from None
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise SpeedUnknown(f"the timed test of this CPU failed: {error or type(error).__name__}") from None


def _key(model: str, compute: ComputeSettings) -> str:
    try:
        torch = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        torch = "unknown"
    settings = " ".join(f"{name}={value}" for name, value in dataclasses.asdict(compute).items())
    return f"{model}; {processor()}; {_cpus()} CPUs; torch {torch}; {settings}"


def _cpus() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not every system says it
        return os.cpu_count() or 1


def _read(path: Path) -> dict[str, tuple[float, int]]:
    """Returns (best RTF, number of tests) by key; nothing where the file is missing or damaged."""

    def read() -> bytes:
        with path.open("rb") as file:
            return file.read(_MAX_BYTES + 1)

    try:
        content = call_within(PATH_SECONDS, read)
        stored: Any = json.loads(content) if len(content) <= _MAX_BYTES else {}
        return {str(key): (float(rtf), int(tests)) for key, (rtf, tests) in stored.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        _LOGGER.warning("%s is ignored, and the CPU is timed again: %s", path, error or type(error).__name__)
        return {}


def _write(path: Path, known: dict[str, tuple[float, int]]) -> None:
    """Keep what is known. Raises nothing: what cannot be written is tested again at the next start."""

    def write() -> None:
        make_folder(path.parent)
        write_file(path, json.dumps(known, indent=1).encode())

    try:
        call_within(PATH_SECONDS, write)
    except (OSError, RuntimeError) as error:
        _LOGGER.warning("The result of the timed test cannot be kept in %s: %s", path, error)
