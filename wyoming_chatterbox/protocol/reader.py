"""Bytes → events: a reader that trusts nothing.

`wyoming`'s own reader has no limit on payloads and no timeouts, and one malformed line ends it with an
exception; everything it does not bound is bounded here. What nobody handles is neither parsed nor held.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from wyoming.event import Event

from .. import json_limits
from ..limits import LARGE_DATA_BYTES, MAX_HEADER_BYTES, MAX_JSON_BYTES, MAX_PAYLOAD_BYTES
from ..speech.errors import InvalidEvent
from ..timeouts import wait_for
from .events import CLIENT_EVENTS, truncate

HANDLED = frozenset(event.type for event in CLIENT_EVENTS)
"""Events whose data is read; that of others is thrown away unread."""

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
        """time.monotonic() at which an event began to arrive; None: none is arriving."""

    async def read(self) -> Event | None:
        """Returns the next event, or None at the end of the stream (an event that was cut off counts as the end).

        Raises:
            InvalidEvent: what arrived is not an event; the reader must not be used any more, as it cannot know where
                the next one begins.
        """
        first = await self._reader.read(1)
        if not first:
            return None
        self.inside_since = time.monotonic()
        try:
            return await wait_for(self._event_timeout, self._read_rest(first))
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
        del line  # no copy of the bytes outlives the parsing
        event_type = header.get("type")
        if not isinstance(event_type, str):
            raise InvalidEvent("A header has no 'type' that is a string")
        handled = event_type in HANDLED
        data = header.get("data") or {}
        if not isinstance(data, dict):
            raise InvalidEvent(f"The data of {truncate(event_type)} is not an object")
        data_length = _checked_length(header, "data_length", MAX_JSON_BYTES)
        payload_length = _checked_length(header, "payload_length", MAX_PAYLOAD_BYTES)
        del header
        if not handled:
            data = {}
            await self._discard(data_length)
        elif data_length:
            data = {**data, **await self._read_data(data_length, f"data of {truncate(event_type)}")}
        await self._discard(payload_length)
        return Event(type=event_type, data=data)

    async def _read_data(self, length: int, what: str) -> dict[str, Any]:
        if length <= LARGE_DATA_BYTES:
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


def _checked_length(header: dict[str, Any], name: str, limit: int) -> int:
    value = header.get(name)
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InvalidEvent(f"{name} is {truncate(value)}; it must be a number of bytes")
    if value > limit:
        raise InvalidEvent(f"{name} is {value}; at most {limit} bytes are taken")
    return value
