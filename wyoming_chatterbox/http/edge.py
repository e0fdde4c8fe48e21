"""The life of the HTTP edge: uvicorn inside the server's own event loop, between its sockets and its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn

from ..addresses import http_address
from ..limits import MAX_HEAD_BYTES, MAX_JSON_BYTES
from ..settings import Settings
from ..sockets import ListenError, bind_sockets, cause
from ..speech.service import SpeechService
from ..voices.library import VoiceLibrary
from .app import create_app
from .auth import BearerTokens
from .connection_slots import ConnectionSlots, OverloadGuard
from .parse_scheduler import ParseScheduler
from .protocols import HttpProtocol, WebSocketProtocol
from .state import EdgeState
from .transport import ClientTransport

_LOGGER = logging.getLogger(__name__)

_KEEP_ALIVE_SECONDS = 30
"""A connection without a request is kept so long; health checks and pages come back within it."""

_PING_SECONDS = 20.0
"""A WebSocket whose client vanished is noticed after twice this."""

_CLOSE_SECONDS = 1.0
"""How long uvicorn may take to close connections that have nothing more to say."""


class HttpEdge:
    """Serves HTTP and WebSocket clients at --http-uri."""

    def __init__(self, settings: Settings, service: SpeechService, library: VoiceLibrary | None) -> None:
        """
        Args:
            library: the voices that can be cloned; None where the model cannot.

        Raises:
            SettingsError: the token file has no token that can be used.
        """
        tokens = BearerTokens(settings.http_token_file) if settings.http_token_file is not None else None
        self.state = EdgeState(settings, service, tokens, library)
        self._sockets: list[socket.socket] = []
        self._host = ""
        self.port = 0
        """The TCP port, once bound."""

        self._uvicorn = _Uvicorn(_config(self.state))
        self._serving: asyncio.Task[None] | None = None

    async def bind(self) -> None:
        http_uri = self.state.settings.http_uri
        assert http_uri is not None
        self._sockets = await bind_sockets(*http_address(http_uri), http_uri)
        self._host, self.port = self._sockets[0].getsockname()[:2]

    @property
    def uri(self) -> str:
        """The base URL, once bound, with the port that was chosen where port 0 was asked for."""
        return f"http://{f'[{self._host}]' if ':' in self._host else self._host}:{self.port}"

    @property
    def uris(self) -> list[str]:
        return [self.uri]

    async def serve(self) -> None:
        self._serving = asyncio.create_task(self._uvicorn.serve(self._sockets), name="http")
        while not self._uvicorn.started and not self._serving.done():
            await asyncio.sleep(0.001)
        if self._serving.done():
            try:
                self._serving.result()
            except OSError as error:  # bound twice, as by --uri and --http-uri, and listened on once
                raise ListenError(f"Cannot listen on {self.uri}: {cause(error)}") from None

    def close(self) -> None:
        for server in getattr(self._uvicorn, "servers", []):
            server.close()
        for listening in self._sockets:
            listening.close()

    async def drain(self, timeout: float, forced_close_timeout: float) -> None:
        late = await self.state.drain(timeout, forced_close_timeout)
        if late:
            _LOGGER.warning("%d HTTP clients did not finish within %g s; ended them", late, timeout)
        if self._serving is None:
            return
        self._uvicorn.should_exit = True
        await asyncio.wait((self._serving,), timeout=_CLOSE_SECONDS)
        for connection in list(self._uvicorn.server_state.connections):
            connection.transport.abort()
        self._uvicorn.force_exit = True
        await asyncio.wait((self._serving,), timeout=_CLOSE_SECONDS)

    def end(self) -> None:
        for stream in list(self.state.active_streams):
            stream.end()


class _Uvicorn(uvicorn.Server):
    """uvicorn without its hands on the process: signals are the server's."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _config(state: EdgeState) -> uvicorn.Config:
    settings = state.settings
    slots, scheduler = ConnectionSlots(settings.max_connections), ParseScheduler()

    def connection(**named: Any) -> ClientTransport:
        return ClientTransport(HttpProtocol(settings.event_timeout, **named), slots, scheduler, settings.write_timeout)

    return uvicorn.Config(
        OverloadGuard(create_app(state), slots),
        http=connection,  # type: ignore[arg-type]  # uvicorn calls what should be a class, and asks it nothing else
        ws=WebSocketProtocol,
        ws_max_size=MAX_JSON_BYTES,
        ws_ping_interval=_PING_SECONDS,
        ws_ping_timeout=_PING_SECONDS,
        ws_per_message_deflate=False,  # audio does not become smaller
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
    )
