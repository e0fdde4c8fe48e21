"""Wyoming events on the wire: a reader that trusts nothing, and a writer that cannot be held up for ever.

`wyoming`'s own reader has no limit on payloads and no timeouts, and one malformed line ends it with an
exception; everything it does not bound is bounded here. What nobody handles is neither parsed nor held.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

from wyoming.event import Event
from wyoming.version import __version__ as wyoming_version

from .. import json_limits
from ..speech.errors import InvalidEvent
from ..waiting import within

MAX_HEADER_BYTES = 64 * 1024
"""One header line. It is what the `wyoming` client's own reader takes (asyncio's default limit)."""

MAX_DATA_BYTES = 1024 * 1024
"""The JSON behind a header. 20,000 characters of text, each escaped as \\ud83d\\ude00, are 240 kB."""

MAX_PAYLOAD_BYTES = 16 * 1024 * 1024
"""The binary part, which no event for a text-to-speech server has: it is read and thrown away, never kept.
A client that speaks to the wrong port may send audio; 16 MiB is eight minutes of it."""

LARGE_BYTES = 64 * 1024
"""Data of more waits for its turn; 20,000 characters without escapes are 20 to 80 kB."""

LARGE_EVENTS = 8
"""Events with large data that are read at once, of all clients together; the others wait in their sockets. Each holds
2 MiB while its end arrives, so 16 MiB in all, where 128 clients that stop before the end would hold 128."""

HANDLED = frozenset({"ping", "select-program", "synthesize", "synthesize-start", "synthesize-chunk"})
"""Events whose data somebody looks at; that of others is thrown away unread."""

_DISCARD_BYTES = 64 * 1024


class EventReader:
    """Reads one connection's events."""

    def __init__(self, reader: asyncio.StreamReader, event_timeout: float, large: asyncio.Semaphore) -> None:
        """
        Args:
            reader: made with limit=MAX_HEADER_BYTES.
            event_timeout: seconds for one event once its first byte is here.
            large: of all connections, for LARGE_EVENTS at once.
        """
        self._reader = reader
        self._event_timeout = event_timeout
        self._large = large
        self.inside_since: float | None = None
        """time.monotonic() at which an event began to arrive; None: none is on its way."""

    async def read(self) -> Event | None:
        """The next event, or None at the end of the stream (an event that was cut off counts as the end).

        Raises:
            InvalidEvent: what came is not an event; where the next one begins cannot be known.
        """
        first = await self._reader.read(1)
        if not first:
            return None
        self.inside_since = time.monotonic()
        try:
            return await within(self._event_timeout, self._read_rest(first))
        except asyncio.TimeoutError:
            raise InvalidEvent(f"An event was not complete after {self._event_timeout:g} s") from None
        except asyncio.IncompleteReadError:
            return None
        except asyncio.LimitOverrunError:
            raise InvalidEvent(
                f"A header is longer than {MAX_HEADER_BYTES} bytes; put the data behind data_length"
            ) from None
        finally:
            self.inside_since = None

    async def _read_rest(self, first: bytes) -> Event:
        line = first if first == b"\n" else first + await self._reader.readuntil(b"\n")
        header = _json_object(line, "header")
        del line  # of an event nothing is held but what it is made into
        event_type = header.get("type")
        if not isinstance(event_type, str):
            raise InvalidEvent("A header has no 'type' that is a string")
        handled = event_type in HANDLED
        data = header.get("data") or {}
        if not isinstance(data, dict):
            raise InvalidEvent(f"The data of {shortened(event_type)} is not an object")
        data_length = _length(header, "data_length", MAX_DATA_BYTES)
        payload_length = _length(header, "payload_length", MAX_PAYLOAD_BYTES)
        del header
        if not handled:
            data = {}
            await self._discard(data_length)
        elif data_length:
            data = {**data, **await self._read_data(data_length, f"data of {shortened(event_type)}")}
        await self._discard(payload_length)
        return Event(type=event_type, data=data)

    async def _read_data(self, length: int, what: str) -> dict[str, Any]:
        if length <= LARGE_BYTES:
            return _json_object(await self._reader.readexactly(length), what)
        async with self._large:
            return _json_object(await self._reader.readexactly(length), what)

    async def _discard(self, remaining: int) -> None:
        while remaining:
            remaining -= len(await self._reader.readexactly(min(remaining, _DISCARD_BYTES)))


def _json_object(document: bytes, what: str) -> dict[str, Any]:
    try:
        value = json_limits.parse(document)
    except json_limits.TooMuchJSON as error:
        raise InvalidEvent(f"The {what} is too much: {error}") from None
    except (ValueError, RecursionError) as error:
        raise InvalidEvent(f"The {what} is not JSON ({error}), {len(document)} bytes") from None
    if not isinstance(value, dict):
        raise InvalidEvent(f"The {what} is not a JSON object, {len(document)} bytes")
    return value


def _length(header: dict[str, Any], name: str, limit: int) -> int:
    value = header.get(name)
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InvalidEvent(f"{name} is {shortened(value)}; it must be a number of bytes")
    if value > limit:
        raise InvalidEvent(f"{name} is {value}; at most {limit} bytes are taken")
    return value


def shortened(value: object) -> str:
    """What a client sent, fit for a log line and an answer."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


class EventWriter:
    """Writes one connection's events, each as one piece, from any task."""

    def __init__(self, writer: asyncio.StreamWriter, write_timeout: float) -> None:
        """`write_timeout`: seconds that the client may leave what was sent untaken."""
        self._writer = writer
        self._write_timeout = write_timeout
        self._draining = asyncio.Lock()  # asyncio before 3.12 takes one drain() at a time
        self.blocked_since: float | None = None
        """time.monotonic() since which the client has to take something before more is sent; None: it need not."""

    async def write(self, event: Event) -> None:
        """Send an event.

        Raises:
            OSError: the client is gone, or took nothing for too long (it is cut off then).
        """
        self._writer.write(encode(event))
        transport = self._writer.transport
        if not transport.get_write_buffer_size() and not transport.is_closing():
            await asyncio.sleep(0)  # all of it is on its way; others get their turn
            return
        if self.blocked_since is None:
            self.blocked_since = time.monotonic()
        try:
            await within(self._write_timeout, self._drain())
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
            await within(self._write_timeout, self._writer.wait_closed())
        except asyncio.TimeoutError:
            self.abort()
        except OSError:
            pass  # it is closed, which is what was wanted


def encode(event: Event) -> bytes:
    """An event's bytes. All data stands behind `data_length`, as clients cut header lines at 64 KiB."""
    header: dict[str, Any] = {"type": event.type, "version": wyoming_version}
    data = json.dumps(event.data, ensure_ascii=False).encode("utf-8", "replace") if event.data else b""
    if data:
        header["data_length"] = len(data)
    payload = event.payload or b""
    if payload:
        header["payload_length"] = len(payload)
    return b"".join((json.dumps(header).encode(), b"\n", data, payload))
