"""What was computed of voices, on disk, so that a start computes none of it again.

Files are safetensors, never pickles. Each is named after a hash of all that it depends on, and holds a hash of its own
content: a file that is damaged is computed again.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...blocking import DaemonThreads
from ...private_files import make_private_folder, remove_stale, write_file

_LOGGER = logging.getLogger(__name__)

Arrays = Mapping[str, NDArray[Any]]

MAX_BYTES = 512 * 2**20
"""A voice takes 0.2 MB; this is room for two thousand."""

_MAX_FILE_BYTES = 16 * 2**20
"""Ten seconds of a reference clip make 0.2 MB; what is larger was not written here."""

DISK_SECONDS = 5.0
"""Longest the engine's thread waits for the disk: computing a voice anew takes a GPU 1 s and a CPU 10."""

_SUFFIX = ".safetensors"
_FORMAT = "1"


class ConditionalsCache:
    """Named arrays in a folder, by what they were computed from. Its methods block."""

    def __init__(self, folder: Path, max_bytes: int = MAX_BYTES) -> None:
        """
        Args:
            folder: made when something is kept; one that cannot be written to keeps nothing.
            max_bytes: of all files; what was not used for longest goes first.
        """
        self._folder = folder
        self._max_bytes = max_bytes
        self._works = True
        self._disk = DaemonThreads("conditionals")

    def get(self, *depends_on: str) -> dict[str, NDArray[Any]] | None:
        """Returns what was kept under these words, or None where it was not, or is damaged."""
        path = self._path(depends_on)
        if self._disk.unfinished:
            return None  # it hangs
        try:
            content = self._disk.call(_read, path, timeout=DISK_SECONDS)
        except FileNotFoundError:
            return None
        except (OSError, RuntimeError) as error:
            _LOGGER.warning("%s cannot be read (%s): it is computed again", path, error)
            return None
        arrays = _unpacked(content)
        if arrays is None:
            _LOGGER.warning("%s is damaged: it is computed again", path)
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # used now
        return arrays

    def put(self, arrays: Arrays, *depends_on: str) -> None:
        """Keep arrays under these words. Raises nothing: what cannot be kept is computed again at the next start."""
        path = self._path(depends_on)
        if self._disk.unfinished:
            return  # it hangs
        try:
            self._disk.call(self._write, path, _packed(arrays), timeout=DISK_SECONDS)
        except (OSError, RuntimeError) as error:
            if self._works:
                _LOGGER.warning(
                    "What is computed of voices cannot be kept in %s (%s), so every start computes it; see --data-dir",
                    self._folder,
                    error,
                )
            self._works = False

    def _write(self, path: Path, content: bytes) -> None:
        make_private_folder(self._folder)
        remove_stale(self._folder)
        write_file(path, content)
        self._prune()

    def _path(self, depends_on: tuple[str, ...]) -> Path:
        name = hashlib.sha256("\n".join((_FORMAT, *depends_on)).encode()).hexdigest()
        return self._folder / f"{name}{_SUFFIX}"

    def _prune(self) -> None:
        files = []
        for path in self._folder.glob(f"*{_SUFFIX}"):
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                files.append((status.st_mtime_ns, status.st_size, path))
        total = sum(size for _, size, _ in files)
        for _, size, path in sorted(files)[:-1]:  # the newest stays in any case
            if total <= self._max_bytes:
                return
            path.unlink(missing_ok=True)
            total -= size


def _read(path: Path) -> bytes:
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)  # a pipe in its place is no reason to wait
    with os.fdopen(os.open(path, flags), "rb") as file:
        return file.read(_MAX_FILE_BYTES + 1)


def _packed(arrays: Arrays) -> bytes:
    from safetensors.numpy import save

    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    return bytes(save(contiguous, metadata={"sha256": _digest(contiguous)}))


def _unpacked(content: bytes) -> dict[str, NDArray[Any]] | None:
    """Returns the arrays, or None for what is not what `_packed` made."""
    import json

    from safetensors import SafetensorError
    from safetensors.numpy import load

    if len(content) > _MAX_FILE_BYTES:
        return None
    try:
        arrays = load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        digest = header["__metadata__"]["sha256"]
    except (SafetensorError, ValueError, KeyError, TypeError):
        return None
    return arrays if digest == _digest(arrays) else None


def _digest(arrays: Arrays) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
