"""Tensors on memory pages of their own, and weights that are a file's pages: memory that goes back to the system."""

from __future__ import annotations

import ctypes
import math
import mmap
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch


def zeros_on_pages(shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    """Returns a large CPU tensor of zeros on pages of its own: they take room once they are written to, and go back to
    the system with the tensor. What lies in the heap leaves holes there, which smaller tensors then occupy."""
    if sys.platform == "win32":
        return torch.zeros(shape, dtype=dtype)
    count = math.prod(shape)
    pages = mmap.mmap(-1, count * dtype.itemsize, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return torch.frombuffer(pages, dtype=dtype, count=count).view(*shape)


def release_pages(tensors: Iterable[torch.Tensor]) -> int:
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
    mappings: list[tuple[int, int]] = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        addresses, access, _, _, inode, *_ = line.split()
        if inode != "0" and access[3] == "p":
            first, last = addresses.split("-")
            mappings.append((int(first, 16), int(last, 16)))
    return mappings
