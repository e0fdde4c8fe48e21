"""What hardware the machine has, seen without torch."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

_NVIDIA_GPUS = Path("/proc/driver/nvidia/gpus")
_NVIDIA_DEVICE = Path("/dev/nvidia0")

_NVIDIA_SMI_TIMEOUT = 5.0
"""Seconds; the driver wakes sleeping GPUs for it, which takes one or two."""


def nvidia_gpu_present() -> bool:
    """Returns True if the machine has an NVIDIA GPU with a driver, whatever build of torch is installed."""
    try:
        if any(_NVIDIA_GPUS.iterdir()):
            return True
    except OSError:
        pass  # no such driver, or not Linux
    if _NVIDIA_DEVICE.exists():
        return True
    program = shutil.which("nvidia-smi")  # Windows, and Linux inside Windows, have only this
    if program is None:
        return False
    try:
        listing = subprocess.run([program, "-L"], capture_output=True, timeout=_NVIDIA_SMI_TIMEOUT, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return listing.returncode == 0 and b"GPU" in listing.stdout
