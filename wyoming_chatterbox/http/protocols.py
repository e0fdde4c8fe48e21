"""uvicorn's two protocols with what they lack: limits in time and number, and silence about tokens.

They use parts of uvicorn that it does not promise to keep: pyproject.toml bounds its version, and
tests/http/test_protocols.py looks whether the parts are there.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame

from ..limits import MAX_FRAGMENTS, MAX_HEAD_LINES, UNREAD_BODY_SECONDS
from ..timeouts import LATE_SECONDS, Timer
from .connection_slots import HALF_REQUEST, NO_REQUEST, SILENT_SECONDS, SILENT_WEBSOCKET
from .disconnects import CloseCode
from .transport import ClientTransport


class HttpProtocol(H11Protocol):
    """HTTP/1.1 of one connection.

    It hands its transport on in the scope's state: who is sent audio and takes none has to be cut off.
    """

    transport: ClientTransport

    def __init__(self, event_timeout: float, **named: Any) -> None:
        """`event_timeout`: seconds in which a request's head must be complete."""
        super().__init__(**named)
        self._event_timeout = event_timeout
        self._head_timer: Timer | None = None
        self._body_timer: Timer | None = None
        self._head_lines = 0
        self._refused = False
        self._idle_since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, ClientTransport)
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        if self.conn.their_state is h11.IDLE:
            self._head_lines += data.count(b"\n")
        cycle = self.cycle
        super().data_received(data)
        if self.cycle is not cycle:
            self.transport.request_began()
        if self.conn.their_state is not h11.SEND_BODY and self._body_timer is not None:
            self._body_timer.cancel()
        if self.conn.their_state is not h11.IDLE:
            self._head_is_here()
        elif self.transport.get_protocol() is self and not self.transport.is_closing():
            if self._head_lines > MAX_HEAD_LINES:
                self.send_400_response(f"More than {MAX_HEAD_LINES} header lines.")
            self._expect_head()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        self._head_is_here()
        self.transport.request_began()
        super().handle_websocket_upgrade(event)

    def send_400_response(self, msg: str) -> None:
        self._refused = True
        try:
            super().send_400_response(msg)
        except h11.LocalProtocolError:  # the answer to the request has begun: it can only break off
            self.transport.close()

    def on_response_complete(self) -> None:
        self._idle_since = self.transport.since = self.loop.time()
        super().on_response_complete()
        if self.conn.their_state is h11.SEND_BODY and not self.transport.is_closing():
            self._body_timer = Timer(UNREAD_BODY_SECONDS, self.transport.abort)

    def timeout_keep_alive_handler(self) -> None:
        stalled = self.loop.time() - self._idle_since - self.timeout_keep_alive
        if stalled > LATE_SECONDS:  # the process was stopped: a request may be waiting in the socket
            self._idle_since = self.loop.time()
            self.timeout_keep_alive_task = self.loop.call_later(
                min(stalled, self.timeout_keep_alive), super().timeout_keep_alive_handler
            )
            return
        super().timeout_keep_alive_handler()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_is_here()
        if self._body_timer is not None:
            self._body_timer.cancel()
        super().connection_lost(exc)

    @property
    def expects_more(self) -> bool:
        return self._refused or self.conn.their_state in (h11.SEND_BODY, h11.ERROR)

    @property
    def rank(self) -> int | None:
        if self.conn.their_state is h11.SEND_BODY:
            return HALF_REQUEST
        if self.cycle is None or self.cycle.response_complete:
            return NO_REQUEST
        return None

    def give_way(self) -> None:
        """Nothing is owed to who asked for nothing."""

    def _expect_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = Timer(self._event_timeout, self.transport.abort)

    def _head_is_here(self) -> None:
        self._head_lines = 0
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """A WebSocket's frames."""

    transport: ClientTransport

    def __init__(self, **named: Any) -> None:
        super().__init__(**named)
        self.conn.debug = False  # it would log the handshake's headers, and a token is among them
        self._unsent_pong: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, ClientTransport)
        super().connection_made(transport)
        # The transport stands in for the HTTP connection, which is no longer there.
        self.app_state = {**self.app_state, "transport": transport}

    def handle_cont(self, event: Frame) -> None:
        if self.close_sent:
            return
        if len(self.frames) >= MAX_FRAGMENTS:
            self.conn.fail(CloseCode.POLICY_VIOLATION, f"a message of more than {MAX_FRAGMENTS} frames")
            self.handle_parser_exception()
            return
        super().handle_cont(event)

    def handle_ping(self) -> None:
        """Answer a ping; to a client that does not read only the latest one is answered, as RFC 6455, 5.5.3 allows."""
        if self.writable.is_set():
            super().handle_ping()
        else:
            self._unsent_pong = self.conn.data_to_send()

    def resume_writing(self) -> None:
        pong, self._unsent_pong = self._unsent_pong, []
        if pong and not self.close_sent:
            self.transport.write(b"".join(pong))
        super().resume_writing()

    def keepalive_timeout(self) -> None:
        stalled = self.loop.time() - self.ping_sent_at - (self.ping_timeout or 0.0)
        if stalled > LATE_SECONDS:  # the process was stopped: the pong may be waiting in the socket
            self.pong_timer = self.loop.call_later(
                min(stalled, self.ping_timeout or stalled), super().keepalive_timeout
            )
            return
        super().keepalive_timeout()

    async def send(self, message: Any) -> None:
        await super().send(message)
        if self.initial_response is not None and self.close_sent:
            self.handshake_complete = True  # it was answered by a refusal; without this uvicorn logs an error

    @property
    def expects_more(self) -> bool:
        return self.close_sent and self.conn.close_rcvd is None

    @property
    def rank(self) -> int | None:
        silent = self.loop.time() - self.transport.since >= SILENT_SECONDS
        return SILENT_WEBSOCKET if silent and not self.transport.speaking else None

    def give_way(self) -> None:
        if self.handshake_complete and not self.close_sent:
            with contextlib.suppress(Exception):
                self.conn.fail(CloseCode.TRY_AGAIN_LATER, "others need the place of this idle connection")
                self.transport.write(b"".join(self.conn.data_to_send()))
