"""What lies between a client's socket and uvicorn's protocols, and bounds what uvicorn does not.

To the socket a `ClientTransport` is the protocol, to uvicorn's protocol it is the transport. Incoming bytes are passed
on in slices (see parse_scheduler.py). A client that does not read what it is sent is cut off. Closing is done so that a
client which is still sending reads its answer instead of a reset connection.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Protocol, cast

from ..faults import log_fault
from ..limits import LINGER_BYTES, LINGER_SECONDS
from ..timeouts import Timer
from .connection_slots import ConnectionSlots
from .parse_scheduler import ParseScheduler

_LOGGER = logging.getLogger(__name__)

READ_BYTES = 16 * 1024
"""Taken from a socket at once; the rest stays in the kernel until it is parsed. Of 1,000 clients have 16 MB here."""

WRITE_GRACE_SECONDS = 1.0
"""Added to --write-timeout here: who speaks to a client notices first, and says in the log what was spoken."""


class InnerProtocol(Protocol):
    """What a wire needs of uvicorn's protocols, beside asyncio's."""

    @property
    def expects_more(self) -> bool:
        """True while the client may still be sending what it began."""

    @property
    def rank(self) -> int | None:
        """How early the connection gives way to another; see connection_slots.py."""

    def give_way(self) -> None:
        """Say goodbye, if there is a way to."""


class ClientTransport(asyncio.BufferedProtocol, asyncio.Transport):
    """One client's connection."""

    def __init__(
        self, protocol: asyncio.Protocol, slots: ConnectionSlots, scheduler: ParseScheduler, write_timeout: float
    ) -> None:
        """`write_timeout`: seconds that the client may leave what was sent untaken."""
        asyncio.Transport.__init__(self)
        self._protocol = protocol
        self._slots = slots
        self._parse_scheduler = scheduler
        self._write_timeout = write_timeout + WRITE_GRACE_SECONDS
        self._transport: asyncio.Transport
        self._buffer = bytearray(READ_BYTES)
        self._unparsed = memoryview(self._buffer)[:0]
        self._held = False  # by uvicorn's flow control
        self._closing = False
        self._lingered = 0  # bytes
        self._request_began = False
        self._stall: Timer | None = None
        self._end: Timer | None = None
        self.stalled_at: float | None = None
        """When the client stopped taking what it is sent; None: it takes it."""

        self.since = 0.0
        """When what the connection is doing now began, in the loop's time."""

        self.speaking = False
        """A WebSocket has something to say; its session sets it."""

        self.address = ""

    @property
    def inner(self) -> InnerProtocol:
        return cast(InnerProtocol, self._protocol)

    # As the socket's protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.since = asyncio.get_running_loop().time()
        self.address = str((transport.get_extra_info("peername") or ("",))[0])
        self._slots.acquire(self)
        self._protocol.connection_made(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._closing = True
        self._slots.release(self)
        self._parse_scheduler.discard(self)
        for timer in (self._stall, self._end):
            if timer is not None:
                timer.cancel()
        self._protocol.connection_lost(exc)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self._closing:
            self._lingered += nbytes
            if self._lingered > LINGER_BYTES:
                self._transport.abort()
            return
        self._unparsed = memoryview(self._buffer)[:nbytes]
        self._transport.pause_reading()
        if not self._held:
            self._parse_scheduler.submit(self)

    def eof_received(self) -> bool | None:
        return None if self._closing else self._protocol.eof_received()

    def pause_writing(self) -> None:
        self.stalled_at = asyncio.get_running_loop().time()
        self._stall = Timer(self._write_timeout, self._cut_off)
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self.stalled_at = None
        if self._stall is not None:
            self._stall.cancel()
        self._protocol.resume_writing()

    def _cut_off(self) -> None:
        _LOGGER.warning("HTTP client at %s: cut off, it took nothing for %g s", self.address, self._write_timeout)
        self._transport.abort()

    # As a ByteSource

    def parse(self, limit: int) -> bool:
        piece, self._unparsed = bytes(self._unparsed[:limit]), self._unparsed[limit:]
        self._request_began = False
        try:
            self._protocol.data_received(piece)
        except Exception as error:
            log_fault(_LOGGER, error, "HTTP client at %s: cut off after an error of the server", self.address)
            self._transport.abort()
            return False
        if not self._unparsed and not self._held and not self._closing:
            self._transport.resume_reading()
        return self._request_began

    @property
    def has_bytes(self) -> bool:
        return bool(self._unparsed) and not self._held and not self._closing

    def request_began(self) -> None:
        """The protocol says: with these bytes a request is there."""
        self._request_began = True
        self.since = asyncio.get_running_loop().time()

    # As the transport of uvicorn's protocols

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = cast(asyncio.Protocol, protocol)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)

    def is_closing(self) -> bool:
        return self._closing or self._transport.is_closing()

    def is_reading(self) -> bool:
        return not self._held and not self._closing

    def pause_reading(self) -> None:
        self._held = True
        if not self._closing:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._held = False
        if self._closing:
            return
        if self._unparsed:
            self._parse_scheduler.submit(self)
        else:
            self._transport.resume_reading()

    def write(self, data: Any) -> None:
        if not self._closing:
            self._transport.write(data)

    def get_write_buffer_size(self) -> int:
        return self._transport.get_write_buffer_size()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._transport.set_write_buffer_limits(high, low)

    def abort(self) -> None:
        self._closing = True
        self._transport.abort()

    def close(self) -> None:
        """Close when all that was written is sent.

        Closing a socket with bytes in it that nobody read resets the connection, and the client loses the answer. Where
        the client may still be sending, only our direction is closed, and what comes is thrown away for a while.
        """
        if self._closing:
            return
        self._closing = True
        self._parse_scheduler.discard(self)
        if self._transport.is_closing():
            return
        if self._unparsed or self.inner.expects_more:
            self._transport.write_eof()
            self._transport.resume_reading()
            self._end = Timer(LINGER_SECONDS, self._transport.abort)
        else:
            self._transport.close()
            self._end = Timer(self._write_timeout, self._transport.abort)
        self._unparsed = self._unparsed[:0]

    # As a SlotHolder

    @property
    def rank(self) -> int | None:
        return 0 if self._closing else self.inner.rank

    def evict(self) -> None:
        """End at once, for somebody else's sake."""
        if not self._closing and self.stalled_at is None:
            self.inner.give_way()
        self._closing = True
        self._parse_scheduler.discard(self)
        if self._transport.get_write_buffer_size():
            self._transport.abort()
        else:
            self._transport.close()
