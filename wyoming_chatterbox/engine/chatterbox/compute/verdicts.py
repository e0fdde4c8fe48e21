"""Verdicts of timed tests on disk, so that a start neither repeats them nor speaks in another precision than the last.

One small JSON file: what was timed on which processor → the way that was fastest.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
from pathlib import Path

import torch

from ....blocking import call_within
from ....limits import PATH_SECONDS
from ....private_files import make_folder, write_file
from ...hardware import processor

_LOGGER = logging.getLogger(__name__)

_MAX_BYTES = 64 * 1024
"""A verdict takes about 200 bytes and a machine has 4, so this is room for 80 machines or versions of torch."""

_TIMED_FILES = ("compute/attention.py", "s3gen/incremental_hift.py", "compute/linear.py", "compute/timed_parts.py")


class Verdicts:
    """Remembers sure verdicts by name; in memory only until `keep_in` is called. For one thread at a time."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._known: dict[str, str] = {}

    def keep_in(self, path: Path | None) -> None:
        """Read the verdicts in a file, and write new ones there; None: keep them in memory. Raises nothing.

        Verdicts of this process stay: another one would give other samples.
        """
        self._path = path
        if path is None:
            return
        try:
            self._known = {**call_within(PATH_SECONDS, _read, path), **self._known}
        except FileNotFoundError:
            pass
        except (OSError, ValueError, RuntimeError) as error:
            _LOGGER.warning("%s is ignored, and timed tests are repeated: %s", path, error or type(error).__name__)

    def get(self, name: str) -> str | None:
        """Returns the verdict of this processor, number of threads, version of torch and code, or None."""
        return self._known.get(_key(name))

    def put(self, name: str, verdict: str) -> None:
        """Remember a verdict. Raises nothing: one that cannot be written is found again at the next start."""
        self._known[_key(name)] = verdict
        if self._path is None:
            return
        try:
            call_within(PATH_SECONDS, _write, self._path, self._known)
        except (OSError, RuntimeError) as error:
            _LOGGER.warning("Verdicts of timed tests cannot be kept in %s: %s", self._path, error)


VERDICTS = Verdicts()
"""Of this process."""


def _key(name: str) -> str:
    parts = [_processor(), f"{torch.get_num_threads()} threads", f"torch {torch.__version__}", _code(), name]
    return "; ".join(parts)


@functools.cache
def _code() -> str:
    """Returns a short hash of the source of what is timed: a change may make another precision the fastest."""
    digest = hashlib.sha256()
    for name in _TIMED_FILES:
        digest.update((Path(__file__).parents[1] / name).read_bytes())
    return f"code {digest.hexdigest()[:8]}"


@functools.cache
def _processor() -> str:
    return f"{processor()} {torch.backends.cpu.get_cpu_capability()}"


def _read(path: Path) -> dict[str, str]:
    with path.open("rb") as file:
        content = file.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise ValueError(f"it is larger than {_MAX_BYTES} bytes")
    stored = json.loads(content)
    if not isinstance(stored, dict) or not all(isinstance(verdict, str) for verdict in stored.values()):
        raise ValueError("it is not an object of strings")
    return stored


def _write(path: Path, known: dict[str, str]) -> None:
    while len(content := json.dumps(known, indent=1).encode()) > _MAX_BYTES:
        del known[next(iter(known))]  # the oldest
    make_folder(path.parent)
    write_file(path, content)
