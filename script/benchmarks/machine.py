"""What it was measured on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from pathlib import Path
from typing import Any

_FLAGS = (
    "avx2",
    "avx_vnni",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_tile",
    "amx_bf16",
    "amx_int8",
    "asimddp",
    "i8mm",
    "bf16",
)
"""Processor flags that decide how fast matrices are multiplied."""

_PACKAGES = ("torch", "chatterbox-streaming", "transformers", "numpy")


def machine() -> dict[str, Any]:
    """Returns the processor and its memory; what is not known here is None or empty."""
    processor = _read("/proc/cpuinfo")
    model = re.search(r"^model name\s*: (.+)$", processor, re.M)
    flags = re.search(r"^(?:flags|Features)\s*: (.+)$", processor, re.M)
    known = flags.group(1).split() if flags else []
    return {
        "cpu": model.group(1).strip() if model else platform.processor() or platform.machine(),
        "cores": cores(),
        "flags": [flag for flag in _FLAGS if flag in known],
        "memory_gb": _rounded(total_memory()),
        "system": f"{platform.system()} {platform.machine()}",
        "load_before": round(os.getloadavg()[0], 2),
    }


def versions() -> dict[str, str | None]:
    """Of Python and the packages that matter."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


def in_words(facts: dict[str, Any], versions: dict[str, str | None]) -> str:
    """Two lines."""
    memory = f", {facts['memory_gb']:.0f} GB" if facts["memory_gb"] else ""
    flags = f" ({' '.join(facts['flags'])})" if facts["flags"] else ""
    gpu = f"; {facts['gpu']}" if facts.get("gpu") else ""
    packages = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    load = f"load {facts['load_before']} before"
    return f"{facts['cpu']}{flags}, {facts['cores']} cores{memory}{gpu}, {load}\n{packages}"


def cores() -> int:
    """Those this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def total_memory() -> int | None:
    """Returns a number of bytes."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return None


def available_memory() -> int | None:
    """Returns bytes that a process may still use; None where that is not known."""
    found = re.search(r"^MemAvailable:\s+(\d+) kB$", _read("/proc/meminfo"), re.M)
    free = [int(found.group(1)) * 1024] if found else []
    limit, used = _read("/sys/fs/cgroup/memory.max").strip(), _read("/sys/fs/cgroup/memory.current").strip()
    if limit.isdigit() and used.isdigit():
        free.append(int(limit) - int(used))
    return min(free, default=None)


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def _rounded(count: int | None) -> float | None:
    return None if count is None else round(count / 1e9, 1)
