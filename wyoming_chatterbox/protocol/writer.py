"""Events → bytes: a writer that no client can hold up for ever."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

from wyoming.event import Event
from wyoming.version import __version__ as wyoming_version

from ..timeouts import wait_for


class EventWriter:
    """Writes one connection's events, each in one write, from any task."""

    def __init__(self, writer: asyncio.StreamWriter, write_timeout: float) -> None:
        """`write_timeout`: seconds in which the client must read something of what was sent."""
        self._writer = writer
        self._write_timeout = write_timeout
        self._draining = asyncio.Lock()  # asyncio before 3.12 takes one drain() at a time
        self.blocked_since: float | None = None
        """time.monotonic() since which writing waits for the client to read; None: it does not wait."""

    async def write(self, event: Event) -> None:
        """Send an event.

        Raises:
            OSError: the client is gone, or read nothing for too long (it is cut off then).
        """
        self._writer.write(encode(event))
        transport = self._writer.transport
        if not transport.get_write_buffer_size() and not transport.is_closing():
            await asyncio.sleep(0)  # all of it is sent; let other tasks run
            return
        if self.blocked_since is None:
            self.blocked_since = time.monotonic()
        try:
            await wait_for(self._write_timeout, self._drain())
        except asyncio.TimeoutError:
            self.abort()
            raise ConnectionAbortedError(f"the client took no audio for {self._write_timeout:g} s") from None
        finally:
            self.blocked_since = None

    async def _drain(self) -> None:
        async with self._draining:
            await self._writer.drain()

    def abort(self) -> None:
        """Close the connection at once; what was written is lost."""
        self._writer.transport.abort()

    async def close(self) -> None:
        """Close the connection once what was written is sent, or after `write_timeout` seconds."""
        try:
            self._writer.close()
            await wait_for(self._write_timeout, self._writer.wait_closed())
        except asyncio.TimeoutError:
            self.abort()
        except OSError:
            pass  # it is closed already


def encode(event: Event) -> bytes:
    """Returns an event's bytes. All data stands behind `data_length`, as clients cut header lines at 64 KiB."""
    header: dict[str, Any] = {"type": event.type, "version": wyoming_version}
    data = json.dumps(event.data, ensure_ascii=False).encode("utf-8", "replace") if event.data else b""
    if data:
        header["data_length"] = len(data)
    payload = event.payload or b""
    if payload:
        header["payload_length"] = len(payload)
    return b"".join((json.dumps(header).encode(), b"\n", data, payload))
