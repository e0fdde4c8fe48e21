"""Access control: host names, origins and bearer tokens; limits on size and time.

A web page in a browser of this network can reach this server too. Two things tell it apart: its Origin, and, where its
owner lets a name of their own resolve to this server's address ("DNS rebinding"), the Host it asks for.
"""

from __future__ import annotations

import logging
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..limits import MAX_JSON_BYTES, MAX_UPLOAD_BYTES, UPLOAD_SECONDS
from ..speech.errors import SpeechError
from .body import Body
from .errors import (
    BodyTimeout,
    BodyTooLarge,
    HostNotAllowed,
    InvalidRequest,
    OriginNotAllowed,
    TokenNeeded,
    Unauthorized,
    error_response,
)
from .policy import Policy, tidy
from .quoting import quoted
from .state import EdgeState

_LOGGER = logging.getLogger(__name__)

_CORS_METHODS = "GET, POST, DELETE"
_CORS_HEADERS = "Authorization, Content-Type, *"  # OpenAI's client in a browser sends a dozen of its own
_CORS_EXPOSED = "X-Model, X-Voice, X-Fallback, X-Utterance"
_CORS_SECONDS = "600"

_SECURITY = {
    # The page needs no foreign sources: it plays audio from memory, and its worklet is one of our files.
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "media-src 'self' blob:; connect-src 'self'; font-src 'self'; worker-src 'self'; manifest-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "permissions-policy": "microphone=(self), camera=(), geolocation=()",
    "cross-origin-opener-policy": "same-origin",
}


class AccessGuard:
    """Stands before the application: what it refuses, no route sees."""

    def __init__(self, app: ASGIApp, state: EdgeState, policy: Policy) -> None:
        self._app = app
        self._state = state
        self._policy = policy
        self._origins = frozenset(state.settings.http_cors_origin)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        scope = tidy(scope)
        headers = Headers(scope=scope)
        if scope["type"] == "http":
            send = self._counted(scope, self._with_headers(headers.get("origin"), send))
        try:
            _check_framing(headers)
            self._check_host(headers)
            self._check_origin(headers)
            if scope["type"] == "http" and scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
                await _answer_preflight(send)
                return
            await self._check_token(scope, headers)
        except SpeechError as error:
            _LOGGER.warning("Refused %s: %s", quoted(scope["path"]), quoted(error))
            # Of a WebSocket too: Starlette answers its handshake with it. What of a body is on its way is taken in by
            # the connection, so that the client reads this.
            await error_response(error, headers={"Connection": "close"})(scope, receive, send)
            return
        if scope["type"] == "websocket":
            await self._app(scope, receive, send)
            return
        limit, seconds = MAX_JSON_BYTES, self._state.settings.event_timeout
        if _changes_voices(scope):
            limit, seconds = MAX_UPLOAD_BYTES, max(UPLOAD_SECONDS, seconds)
        body = Body(receive, limit, seconds)
        try:
            body.check_length(headers)
            await self._app(scope, body.receive, send)
        except (BodyTooLarge, BodyTimeout) as error:
            await error_response(error, headers={"Connection": "close"})(scope, receive, send)
        finally:
            body.close()

    def _check_host(self, headers: Headers) -> None:
        host = headers.get("host", "")
        if not self._policy.allows_host(host):
            raise HostNotAllowed(f"Host {host[:100]!r} is not a name of this server; add it with --http-host")

    def _check_origin(self, headers: Headers) -> None:
        origin = headers.get("origin")
        if origin is None or origin in self._origins:
            return
        # The scheme is not compared: a reverse proxy may have taken TLS off.
        if origin != "null" and urlsplit(origin).netloc.casefold() == headers.get("host", "").casefold():
            return
        raise OriginNotAllowed(f"Web pages of {origin[:100]!r} may not use this server; see --http-cors-origin")

    async def _check_token(self, scope: Scope, headers: Headers) -> None:
        tokens = self._state.tokens
        if tokens is None and self._policy.changes_something(scope):
            raise TokenNeeded("Voices are added and deleted only by clients with a token; see --http-token-file")
        if tokens is None or self._policy.is_open(scope):
            return
        token = _bearer(headers)
        if token is None and scope["type"] == "websocket":
            token = next((protocol[7:] for protocol in scope["subprotocols"] if protocol.startswith("bearer.")), None)
        if token is None:
            raise Unauthorized("A token is needed, as the API key: Authorization: Bearer TOKEN (see --http-token-file)")
        if not await tokens.accept(token):
            raise Unauthorized("The API key is not a token of this server; use one of its --http-token-file")
        scope["state"]["token"] = token  # a WebSocket lasts, and its token may be revoked

    def _counted(self, scope: Scope, send: Send) -> Send:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._state.prometheus.count_request(_route(scope), message["status"])
            await send(message)

        return sending

    def _with_headers(self, origin: str | None, send: Send) -> Send:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _SECURITY.items():
                    headers.setdefault(name, value)
                if origin is not None and origin in self._origins:
                    headers["access-control-allow-origin"] = origin
                    headers["access-control-expose-headers"] = _CORS_EXPOSED
                    headers.add_vary_header("Origin")
            await send(message)

        return sending


def _check_framing(headers: Headers) -> None:
    """Refuse a request whose end two servers may see at different places (RFC 9112, 6.1): the way to smuggle one in."""
    if "content-length" in headers and "transfer-encoding" in headers:
        raise InvalidRequest("Content-Length and Transfer-Encoding do not go together")


def _bearer(headers: Headers) -> str | None:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.casefold() == "bearer" and token.strip() else None


def _changes_voices(scope: Scope) -> bool:
    return scope["type"] == "http" and scope["method"] != "GET" and str(scope["path"]).startswith("/v1/audio/voices")


def _route(scope: Scope) -> str:
    """Returns the route that was found for a request, as it is declared; files of the page and what is not there are
    one."""
    route = scope.get("route")
    return str(getattr(route, "path", "")) or "other"


async def _answer_preflight(send: Send) -> None:
    """A browser asks whether a page of an allowed origin (it was looked at) may send what it wants to send."""
    headers = [
        (b"access-control-allow-methods", _CORS_METHODS.encode()),
        (b"access-control-allow-headers", _CORS_HEADERS.encode()),
        (b"access-control-max-age", _CORS_SECONDS.encode()),
    ]
    await send({"type": "http.response.start", "status": 204, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
