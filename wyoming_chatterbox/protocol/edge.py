"""The Wyoming edge: its listeners and its clients, from the first address to the last goodbye."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from ..settings import Settings
from ..speech.errors import ServerBusy, ShuttingDown
from ..speech.service import SpeechService
from .connection import Connection
from .listener import Listener, bind, open_stdio
from .pool import ConnectionPool, address_of

_LOGGER = logging.getLogger(__name__)

STDIO = "stdio://"


class WyomingEdge:
    """Serves Wyoming clients at every --uri."""

    def __init__(self, settings: Settings, service: SpeechService, on_stdio_closed: Callable[[], None]) -> None:
        """`on_stdio_closed`: called when the client on stdio:// has been answered and is gone."""
        self._settings = settings
        self._service = service
        self._on_stdio_closed = on_stdio_closed
        self.listeners: list[Listener] = []
        self.connections = ConnectionPool(settings.max_connections)
        self._stdio: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._stdio_task: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def uris(self) -> list[str]:
        return [listener.uri for listener in self.listeners] or [STDIO]

    @property
    def advertised(self) -> Listener | None:
        """The listener to advertise; None: no other machine could connect.

        A zeroconf service has one port: of several listeners the first that other machines can reach.
        """
        tcp = [listener for listener in self.listeners if listener.port is not None]
        return next((listener for listener in tcp if not listener.is_loopback), tcp[0] if tcp else None)

    async def bind(self) -> None:
        for uri in self._settings.uri:
            if uri != STDIO:
                self.listeners.append(await bind(uri, self._serve_client))
        if STDIO in self._settings.uri:
            self._stdio = await open_stdio()

    async def serve(self) -> None:
        for listener in self.listeners:
            await listener.serve()
        if self._stdio is not None:
            self._stdio_task = asyncio.create_task(self._serve_stdio(*self._stdio))

    def close(self) -> None:
        self._closed = True
        for listener in self.listeners:
            listener.close()

    async def drain(self, timeout: float, forced_close_timeout: float) -> None:
        tasks = self.connections.tasks
        for connection in tasks:
            connection.stop()
        if not tasks:
            return
        _, late = await asyncio.wait(tasks.values(), timeout=timeout)
        if late:
            _LOGGER.warning("%d connections did not finish within %g s; ending them", len(late), timeout)
            for task in late:
                task.cancel()
            await asyncio.wait(late, timeout=forced_close_timeout)

    def end(self) -> None:
        for task in self.connections.tasks.values():
            task.cancel()

    async def _serve_client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(
            reader,
            writer,
            self._service,
            self._settings,
            may_ask=self.connections.may_ask,
            large_events=self.connections.large_events,
        )
        if self._closed:
            await connection.refuse(ShuttingDown("The server is stopping"))
            return
        if not self.connections.admit():
            _LOGGER.warning("Refusing a client: %d are connected (--max-connections)", len(self.connections))
            await connection.refuse(ServerBusy(f"{len(self.connections)} clients are connected already"))
            return
        self.connections.add(connection, asyncio.create_task(connection.run(), name="connection"), address_of(writer))

    async def _serve_stdio(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(reader, writer, self._service, self._settings)
        task = asyncio.create_task(connection.run(finish_after_eof=True), name="stdio")
        self.connections.add(connection, task)
        await asyncio.wait((task,))
        self._on_stdio_closed()
