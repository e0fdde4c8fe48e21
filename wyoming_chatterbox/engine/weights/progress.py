"""How far a download is: a bar on a terminal, lines in a log, never both."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any, TypeAlias

_LOGGER = logging.getLogger(__name__)

OnProgress: TypeAlias = Callable[[int, int], None]
"""Called with the bytes that are here and the bytes there will be, over all files."""

_STEP = 10
"""Percent between two lines of the log."""


class Progress:
    """Counts bytes over all files of a download. Shows nothing until the first byte comes.

    Args:
        title: what is downloaded.
        done: bytes that are here already.
        total: bytes there will be.
        on_progress: told of every change too.
    """

    def __init__(self, title: str, done: int, total: int, on_progress: OnProgress | None) -> None:
        self._title = title
        self._done = done
        self._total = total
        self._on_progress = on_progress
        self._bar: Any = None
        self._is_shown = False
        self._logged = 0

    def add(self, count: int) -> None:
        """Count more bytes; a negative count takes back bytes that turned out to be of no use."""
        if not self._is_shown:
            self._show()
        self._done += count
        if self._on_progress is not None:
            self._on_progress(self._done, self._total)
        if self._bar is not None:
            self._bar.update(count)
            return
        step = self._percent // _STEP
        if step > self._logged:
            self._log()
        self._logged = step

    def close(self) -> None:
        """End the bar's line on the terminal."""
        if self._bar is not None:
            self._bar.close()

    @property
    def _percent(self) -> int:
        return self._done * 100 // max(self._total, 1)

    def _show(self) -> None:
        self._is_shown = True
        if sys.stderr is not None and sys.stderr.isatty():
            from tqdm import tqdm  # huggingface_hub brings it

            self._bar = tqdm(
                desc=self._title, initial=self._done, total=self._total, unit="B", unit_scale=True, file=sys.stderr
            )
            return
        self._log()
        self._logged = self._percent // _STEP

    def _log(self) -> None:
        done, total = size_text(self._done), size_text(self._total)
        _LOGGER.info("Downloading %s: %d %% (%s of %s)", self._title, self._percent, done, total)


def size_text(count: int) -> str:
    """Returns a number of bytes as text, e.g. "3.19 GB"."""
    value = float(count)
    for unit in ("bytes", "kB", "MB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.2f} GB"
