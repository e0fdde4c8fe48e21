"""Memory of this process: how much it has, and giving back what it no longer needs."""

from __future__ import annotations

import ctypes
import gc
import math
import mmap
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .chatterbox.compute import cuda_graphs
from .weights.progress import size_text


@dataclass(frozen=True)
class Memory:
    """What the process has at some moment, in bytes; None: not known, or none of the kind."""

    resident: int | None
    gpu: int | None
    """Held by torch's allocator; what CUDA itself takes is not in it."""

    @classmethod
    def now(cls) -> Memory:
        torch = _torch_with_cuda()
        gpu = None
        if torch is not None:
            gpu = sum(torch.cuda.memory_reserved(device) for device in range(torch.cuda.device_count()))
        return cls(_resident(), gpu)

    def change_to(self, after: Memory) -> str:
        """For a reader, e.g. "RSS 3.41 GB → 812 MB, VRAM 3.1 GB → 0 bytes"."""
        pairs = (("RSS", self.resident, after.resident), ("VRAM", self.gpu, after.gpu))
        known = [
            f"{name} {size_text(was)} → {size_text(now)}"
            for name, was, now in pairs
            if was is not None and now is not None
        ]
        return ", ".join(known) or "how much is not known on this system"


def give_back() -> None:
    """Return to the system what nothing refers to any more.

    What `without_collections` froze is not looked at: half a million objects of libraries and word lists would stop
    the event loop for 0.2 s.
    """
    gc.collect()
    torch = _torch_with_cuda()
    if torch is not None:
        # What cuBLAS took for every stream is not the allocator's to give back. A captured graph goes on using it.
        clear = getattr(getattr(torch, "_C", None), "_cuda_clearCublasWorkspaces", None)
        if clear is not None and not cuda_graphs.any_alive():
            clear()
        torch.cuda.empty_cache()
    trim_heap()


def _torch_with_cuda() -> Any:
    """torch, where it is loaded and uses CUDA; else None."""
    torch = sys.modules.get("torch")
    return torch if torch is not None and torch.cuda.is_initialized() else None


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


def zeros_on_pages(shape: Sequence[int], dtype: Any) -> Any:
    """Returns a large CPU tensor of zeros on pages of its own: they take room once they are written to, and go back to
    the system with the tensor. What lies in the heap leaves holes there, which smaller tensors then occupy."""
    torch = sys.modules["torch"]
    if sys.platform == "win32":
        return torch.zeros(shape, dtype=dtype)
    count = math.prod(shape)
    pages = mmap.mmap(-1, count * dtype.itemsize, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return torch.frombuffer(pages, dtype=dtype, count=count).view(*shape)


def release_pages(tensors: Iterable[Any]) -> int:
    """Give back the memory of weights that are a file's own pages; it is read again from the file where one is used.

    Args:
        tensors: torch tensors that nobody has written to since they were loaded. Those that are no file's pages, or not
            on the CPU, are left alone.

    Returns:
        How many bytes that were. Always 0 where the system is not Linux.
    """
    if not sys.platform.startswith("linux"):
        return 0
    mapped = _file_mappings()
    advise = ctypes.CDLL(None).madvise
    released = 0
    for tensor in tensors:
        if tensor.device.type != "cpu":
            continue
        storage = tensor.untyped_storage()
        begin = tensor.data_ptr()
        end = min(begin + tensor.numel() * tensor.element_size(), storage.data_ptr() + storage.nbytes())
        # Pages that hold something of a neighbour stay.
        begin, end = -(-begin // mmap.PAGESIZE) * mmap.PAGESIZE, end // mmap.PAGESIZE * mmap.PAGESIZE
        if begin >= end or not any(first <= begin and end <= last for first, last in mapped):
            continue
        if advise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), mmap.MADV_DONTNEED) == 0:
            released += end - begin
    return released


def _file_mappings() -> list[tuple[int, int]]:
    """Addresses (first, behind the last) where files are mapped, without those that this process can write through."""
    found: list[tuple[int, int]] = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        addresses, access, _, _, inode, *_ = line.split()
        if inode != "0" and access[3] == "p":
            first, last = addresses.split("-")
            found.append((int(first, 16), int(last, 16)))
    return found
