"""Where torch would run, asked of a process that is gone afterwards: `python -m script.benchmarks.device auto`.

The benchmark's own process imports no torch, so that it takes no memory from those that are measured.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from .checkpoint import ROOT
from .errors import BenchError


def find_device(wanted: str) -> dict[str, Any]:
    """Returns the torch device for auto, cpu, mps, cuda or cuda:N, with what is known of it.

    Returns:
        `device`, `threads`, and for a GPU of NVIDIA `gpu` and `cuda`, else None.

    Raises:
        BenchError: torch or the device is not here.
    """
    done = subprocess.run(
        [sys.executable, "-m", "script.benchmarks.device", wanted],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        raise BenchError(f"torch does not work here: {(done.stderr.strip().splitlines() or ['no output'])[-1]}")
    found: dict[str, Any] = json.loads(lines[-1])
    if "error" in found:
        raise BenchError(found["error"])
    return found


def _facts(wanted: str) -> dict[str, Any]:
    from wyoming_chatterbox.engine.base import EngineError

    try:
        from wyoming_chatterbox.engine.chatterbox.compute.device import pick_device

        device = pick_device(wanted)
    except EngineError as error:
        return {"error": str(error)}
    import torch

    on_cuda = device.startswith("cuda")
    return {
        "device": device,
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name(device) if on_cuda else None,
        "cuda": torch.version.cuda if on_cuda else None,
    }


if __name__ == "__main__":
    print(json.dumps(_facts(sys.argv[1])))
