"""Messages → a WebSocket: JSON in text frames, audio in binary ones; a client that does not read is noticed."""

from __future__ import annotations

import asyncio
import contextlib
import json

from pydantic import BaseModel
from starlette.websockets import WebSocket, WebSocketDisconnect

from ..timeouts import wait_for
from .disconnects import ClientDisconnected, WriteTimeout
from .messages import Chunk

MAX_REASON_BYTES = 120
"""Of the reason that a connection is closed with; a close frame has room for 123."""


class MessageWriter:
    """Writes one connection's messages, from any task."""

    def __init__(self, socket: WebSocket, write_timeout: float) -> None:
        """`write_timeout`: seconds in which the client must read something of what was sent."""
        self._socket = socket
        self._write_timeout = write_timeout
        self._lock = asyncio.Lock()
        self._sending: asyncio.Future[None] | None = None  # a chunk with its frame

    async def send(self, message: BaseModel) -> None:
        """Send a message.

        Raises:
            ClientDisconnected: the client is gone.
            WriteTimeout: the client reads nothing.
        """
        async with self._lock:
            await self._write(_json(message))

    async def send_chunk(self, chunk: Chunk, frame: bytes) -> None:
        """Send audio: a message and the frame it announces, which follows even if this is cancelled; see `send`."""
        self._sending = asyncio.ensure_future(self._send_chunk(chunk, frame))
        await asyncio.shield(self._sending)

    async def finish_chunk(self) -> None:
        """Wait for the frame of a chunk whose sender was cancelled. Raises as `send`."""
        if self._sending is not None:
            await self._sending

    def abandon_chunk(self) -> None:
        """Do not send the frame of a chunk: the connection is over."""
        if self._sending is not None:
            self._sending.cancel()

    async def close(self, code: int, reason: str) -> None:
        """Close the connection. Raises nothing."""
        with contextlib.suppress(Exception):
            short = reason.encode()[:MAX_REASON_BYTES].decode("utf-8", "ignore")
            await wait_for(self._write_timeout, self._socket.close(code, short))

    async def _send_chunk(self, chunk: Chunk, frame: bytes) -> None:
        async with self._lock:  # nothing comes between a chunk and its frame
            await self._write(_json(chunk))
            await self._write(frame)

    async def _write(self, data: str | bytes) -> None:
        sending = self._socket.send_text(data) if isinstance(data, str) else self._socket.send_bytes(data)
        try:
            await wait_for(self._write_timeout, sending)
        except asyncio.TimeoutError:
            raise WriteTimeout(f"the client took no audio for {self._write_timeout:g} s") from None
        except (WebSocketDisconnect, RuntimeError, OSError):
            raise ClientDisconnected from None


def _json(message: BaseModel) -> str:
    """In ASCII: whatever a client sent (lone surrogates, say) can be sent back to it."""
    return json.dumps(message.model_dump(), separators=(",", ":"))
