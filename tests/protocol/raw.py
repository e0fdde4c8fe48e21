"""Clients that send bytes rather than events, and need not read what comes back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

from wyoming_chatterbox.testing.serving import Running


async def raw(server: Running) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to a server."""
    return await asyncio.open_connection("127.0.0.1", server.port)


def line(**header: Any) -> bytes:
    """A header line."""
    return json.dumps(header).encode() + b"\n"


@contextlib.asynccontextmanager
async def raw_clients(
    server: Running, count: int, sent: bytes, *, source: str = "127.0.0.1", window: int | None = None
) -> AsyncIterator[list[socket.socket]]:
    """Clients that connect, send something and read nothing.

    Args:
        source: the address they come from.
        window: bytes that their sockets take of what is sent to them.
    """
    loop = asyncio.get_running_loop()
    clients: list[socket.socket] = []
    try:
        for _ in range(count):
            client = socket.socket()
            clients.append(client)
            client.setblocking(False)
            if window is not None:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
            client.bind((source, 0))
            await loop.sock_connect(client, ("127.0.0.1", server.port))
            if sent:
                await loop.sock_sendall(client, sent)
        yield clients
    finally:
        for client in clients:
            client.close()
