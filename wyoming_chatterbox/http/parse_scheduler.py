"""How much of the event loop's time goes into parsing what HTTP clients send.

Whoever sends a megabyte of chunks or frames with a byte in each makes the parsers, which are Python, work for seconds.
Bytes are therefore handed to them in slices, from one connection after the other, and after a few milliseconds the
loop turns to everything else (Wyoming, audio) for at least as long.
"""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

SLICE_BYTES = 512
"""Bytes given to a parser at once. Chunks of one byte each take 6 bytes and 60 µs of h11: 5 ms a slice."""

BURST_SECONDS = 0.002
"""Time after which a burst of slices ends. With the slice that ends it, 7 ms; `describe` needs a few turns of the loop
and has 100 ms."""


class ByteSource(Protocol):
    """A connection with bytes to be parsed."""

    def parse(self, limit: int) -> bool:
        """Parse up to `limit` bytes; returns True if a request began."""

    @property
    def has_bytes(self) -> bool:
        """True while there are bytes that may be parsed now."""


class ParseScheduler:
    """Lets connections parse in turn.

    After a burst the loop does all that it led to, and then pauses parsing for as long as both took: HTTP gets half of
    the loop at most while somebody floods it. A request that begins ends a burst, so that of many that arrive together
    the first is worked on before the last is parsed.
    """

    def __init__(self) -> None:
        self._waiting: dict[ByteSource, None] = {}  # in order of arrival
        self._scheduled = False

    def submit(self, source: ByteSource) -> None:
        """Let a connection parse what it has when it is its turn."""
        self._waiting[source] = None
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._burst)

    def discard(self, source: ByteSource) -> None:
        """Forget a connection."""
        self._waiting.pop(source, None)

    def _burst(self) -> None:
        began = time.perf_counter()
        request_began = False
        while self._waiting and not request_began and time.perf_counter() - began < BURST_SECONDS:
            source = next(iter(self._waiting))
            del self._waiting[source]
            request_began = source.parse(SLICE_BYTES)
            if source.has_bytes:
                self._waiting[source] = None
        asyncio.get_running_loop().call_soon(self._pause, began)

    def _pause(self, began: float) -> None:
        asyncio.get_running_loop().call_later(time.perf_counter() - began, self._resume)

    def _resume(self) -> None:
        if self._waiting:
            self._burst()
        else:
            self._scheduled = False
