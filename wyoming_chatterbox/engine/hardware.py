"""What hardware the machine has, seen without torch."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import subprocess
from pathlib import Path

_NVIDIA_GPUS = Path("/proc/driver/nvidia/gpus")
_NVIDIA_DEVICE = Path("/dev/nvidia0")

_CPU_INFO = Path("/proc/cpuinfo")
_MEMORY_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""Of the container that this process runs in, if it does."""

_MEMORY_USED = (
    Path("/sys/fs/cgroup/memory.current"),
    Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)
_MEMORY_INFO = Path("/proc/meminfo")

_CPU_FACTS = ("vendor_id", "cpu family", "model", "model name", "stepping", "CPU implementer", "CPU part", "Features")
"""Lines of /proc/cpuinfo that say which processor it is: in virtual machines its name is that of a whole family."""

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
    listing = _nvidia_smi("-L")  # Windows, and Linux inside Windows, have only this
    return listing is not None and "GPU" in listing


def nvidia_gpu_memory(index: int | None = None, free: bool = False) -> float | None:
    """Returns the GB (10^9 bytes) of an NVIDIA GPU, or of the largest one; None where the driver does not say.

    Args:
        free: only what nobody uses.
    """
    query = f"--query-gpu=memory.{'free' if free else 'total'}"
    listing = _nvidia_smi(query, "--format=csv,noheader,nounits")
    sizes = [float(line) * 2**20 / 1e9 for line in (listing or "").split() if line.isdigit()]  # in MiB
    if index is not None:
        return sizes[index] if index < len(sizes) else None
    return max(sizes, default=None)


def memory() -> float:
    """Returns the GB (10^9 bytes) of memory that this process may use; infinity where the system does not say."""
    limits = []
    with contextlib.suppress(AttributeError, OSError, ValueError):  # Windows
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for path in _MEMORY_LIMITS:
        with contextlib.suppress(OSError, ValueError):  # there is none, or it is "max"
            limits.append(int(path.read_text()))
    return min(limits, default=float("inf")) / 1e9


def free_memory() -> float:
    """Returns the GB (10^9 bytes) that are free for this process; infinity where the system does not say."""
    free = []
    with contextlib.suppress(OSError, ValueError, IndexError):
        line = next(line for line in _MEMORY_INFO.read_text().splitlines() if line.startswith("MemAvailable:"))
        free.append(int(line.split()[1]) * 1024)
    for limit, used in zip(_MEMORY_LIMITS, _MEMORY_USED, strict=True):
        with contextlib.suppress(OSError, ValueError):
            free.append(max(0, int(limit.read_text()) - int(used.read_text())))
    return min(free, default=float("inf")) / 1e9


def processor() -> str:
    """Returns which processor this is, in one line."""
    try:
        lines = _CPU_INFO.read_text().split("\n\n")[0].splitlines()
    except OSError:
        lines = []
    known = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    facts = [known[fact] for fact in _CPU_FACTS if fact in known] or [platform.processor()]
    return " ".join([platform.machine(), *facts])


def _nvidia_smi(*arguments: str) -> str | None:
    """Returns what the driver's program prints; None where it is not there, fails or hangs."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    try:
        done = subprocess.run(
            [program, *arguments], capture_output=True, text=True, timeout=_NVIDIA_SMI_TIMEOUT, check=False
        )
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return None
    return done.stdout if done.returncode == 0 else None
