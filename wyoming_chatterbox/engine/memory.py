"""Memory of this process: how much it has, and giving back what it no longer needs."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from .weights.progress import size_text


class DeviceMemory(Protocol):
    """The memory of accelerators. An engine that uses one registers it, so that nothing here needs its library."""

    def reserved(self) -> int | None:
        """Returns the bytes that this process holds; None while it uses no accelerator."""

    def release(self) -> None:
        """Return to the driver what nothing refers to any more."""


_devices: list[DeviceMemory] = []


def register_device_memory(device: DeviceMemory) -> None:
    """Count and release the memory of an accelerator too, from now on."""
    _devices.append(device)


@dataclass(frozen=True)
class MemoryUsage:
    """What the process holds at one moment, in bytes; None: not known, or none of the kind."""

    resident: int | None
    gpu: int | None
    """Held by torch's allocator; what CUDA itself takes is not in it."""

    @classmethod
    def now(cls) -> MemoryUsage:
        """Returns the memory that the process holds now."""
        reserved = [count for device in _devices if (count := device.reserved()) is not None]
        return cls(_resident(), sum(reserved) if reserved else None)

    def diff(self, after: MemoryUsage) -> str:
        """Returns the change for a log line, e.g. "RSS 3.41 GB → 812 MB, VRAM 3.1 GB → 0 bytes"."""
        pairs = (("RSS", self.resident, after.resident), ("VRAM", self.gpu, after.gpu))
        known = [
            f"{name} {size_text(was)} → {size_text(now)}"
            for name, was, now in pairs
            if was is not None and now is not None
        ]
        return ", ".join(known) or "how much is not known on this system"


def release_memory() -> None:
    """Return to the system what nothing refers to any more.

    What `gc_paused` froze is not looked at: half a million objects of libraries and word lists would stop
    the event loop for 0.2 s.
    """
    gc.collect()
    for device in _devices:
        device.release()
    trim_heap()


def _resident() -> int | None:
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:  # not Linux
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def trim_heap() -> None:
    """Give back what was freed: glibc keeps it for itself unless it is told otherwise; other C libraries have no such
    call."""
    if not sys.platform.startswith("linux"):
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(ctypes.c_size_t(0))
