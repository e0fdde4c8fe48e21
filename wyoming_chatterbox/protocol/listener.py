"""Where clients come from: tcp://, unix:// and stdio://."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import stat
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import urlsplit

from ..blocking import OUTPUT_THREAD
from ..limits import MAX_HEADER_BYTES
from ..sockets import ListenError, bind_sockets, cause

_LOGGER = logging.getLogger(__name__)

OnClient = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""Serves one client until it is gone."""

_BACKLOG = 128


class Listener:
    """One URI that is listened on."""

    def __init__(self, uri: str, servers: list[asyncio.Server], hosts: list[str], port: int | None, path: Path | None):
        self.uri = uri
        """As it is: with the port that was chosen where port 0 was asked for."""
        self.hosts = hosts
        """The addresses that are bound; "0.0.0.0" and "::" mean all of a family."""
        self.port = port
        self._servers = servers
        self._path = path

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return all(ipaddress.ip_address(host).is_loopback for host in self.hosts)

    async def serve(self) -> None:
        """Take clients. Before this they are refused, as if nothing were there yet.

        Raises:
            ListenError: another server began to listen there since the address was bound.
        """
        try:
            for server in self._servers:
                await server.start_serving()
        except OSError as error:
            raise ListenError(f"Cannot listen on {self.uri}: {cause(error)}") from None

    def close(self) -> None:
        """Take no further clients; those that are here stay."""
        for server in self._servers:
            server.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)


async def bind(uri: str, on_client: OnClient) -> Listener:
    """Take the address of a tcp:// or unix:// URI; `serve()` takes clients there.

    Raises:
        ListenError: the address is in use, not of this machine, or not allowed.
    """
    parts = urlsplit(uri)
    if parts.scheme == "unix":
        return await _bind_unix(Path(parts.netloc + parts.path), uri, on_client)
    assert parts.hostname is not None and parts.port is not None, "settings.check_uri() has seen it"
    return await _bind_tcp(parts.hostname, parts.port, uri, on_client)


async def _bind_tcp(host: str, port: int, uri: str, on_client: OnClient) -> Listener:
    sockets = await bind_sockets(host, port, uri)
    servers = [
        await asyncio.start_server(
            on_client, sock=listening, limit=MAX_HEADER_BYTES, backlog=_BACKLOG, start_serving=False
        )
        for listening in sockets
    ]
    hosts = [listening.getsockname()[0] for listening in sockets]
    port = sockets[0].getsockname()[1]
    return Listener(f"tcp://{f'[{host}]' if ':' in host else host}:{port}", servers, hosts, port, None)


async def _bind_unix(path: Path, uri: str, on_client: OnClient) -> Listener:
    try:
        if path.exists():
            if not stat.S_ISSOCK(path.stat().st_mode):
                raise ListenError(f"Cannot listen on {uri}: {path} exists and is not a socket; name another path")
            if await _answers(path):
                raise ListenError(f"Cannot listen on {uri}: another server is listening there; stop it first")
            path.unlink()  # left behind by a process that was killed
        server = await asyncio.start_unix_server(
            on_client, path=path, limit=MAX_HEADER_BYTES, backlog=_BACKLOG, start_serving=False
        )
    except OSError as error:
        raise ListenError(f"Cannot listen on {uri}: {cause(error)}") from None
    return Listener(uri, [server], [], None, path)


async def _answers(path: Path) -> bool:
    try:
        _, writer = await asyncio.open_unix_connection(path)
    except OSError:
        return False
    writer.close()
    return True


async def open_stdio() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Returns the process's standard streams as a connection, whatever they are: pipes, a terminal, files.

    From here on file descriptor 1 is standard error: what a library prints must not get between the events.

    Raises:
        ListenError: one of them is closed.
    """
    if sys.stdin is None or sys.stdout is None:  # their descriptors belong to something else by now
        raise ListenError("Cannot listen on stdio://: standard input or output is closed")
    source, target = os.dup(0), os.dup(1)
    os.dup2(2, 1)
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=MAX_HEADER_BYTES)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(_read_end(source), "rb", 0))
    # A protocol that also knows drain(): StreamWriter needs one, and its reader is not used.
    transport, protocol = await loop.connect_write_pipe(
        lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader()), os.fdopen(_write_end(target), "wb", 0)
    )
    return reader, asyncio.StreamWriter(transport, protocol, None, loop)


def _read_end(source: int) -> int:
    """Returns a descriptor that the event loop can wait for and that gives what `source` does."""
    if _can_be_waited_for(source):
        return source
    reading, writing = os.pipe()
    threading.Thread(target=_copy, args=(source, writing), name="stdin", daemon=True).start()
    return reading


def _write_end(target: int) -> int:
    """Returns a descriptor that the event loop can wait for and whose content goes to `target`."""
    if _can_be_waited_for(target):
        return target
    reading, writing = os.pipe()
    # Not a daemon: the last audio is on its way when the connection is closed.
    threading.Thread(target=_copy, args=(reading, target), name=OUTPUT_THREAD).start()
    return writing


def _can_be_waited_for(descriptor: int) -> bool:
    mode = os.fstat(descriptor).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(descriptor)


def _copy(source: int, target: int) -> None:
    try:
        while data := os.read(source, 65536):
            while data:
                data = data[os.write(target, data) :]
    except OSError as error:
        _LOGGER.warning("Standard input or output: %s", error.strerror)
    finally:
        os.close(target)
        os.close(source)
