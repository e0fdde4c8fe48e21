"""What can go wrong at this edge, in the shape that OpenAI's clients read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from ..speech.errors import InvalidSetting, SpeechError, TextTooLong

STATUS = {
    "internal-error": 500,
    "empty-text": 400,
    "text-too-long": 413,
    "text-timeout": 408,
    "unsupported-text-format": 400,
    "voice-not-found": 404,
    "invalid-setting": 400,
    "program-not-found": 404,
    "model-unavailable": 503,
    "engine-failed": 500,
    "server-busy": 503,
    "shutting-down": 503,
    "invalid-event": 400,
    "invalid-request": 400,
    "model-not-found": 404,
    "not-found": 404,
    "method-not-allowed": 405,
    "unauthorized": 401,
    "token-needed": 403,
    "invalid-voice": 400,
    "cannot-clone": 409,
    "voices-unavailable": 503,
    "host-not-allowed": 421,
    "origin-not-allowed": 403,
    "body-too-large": 413,
    "body-timeout": 408,
}
"""The HTTP status of every code. The codes are part of the interface, those of speech/errors.py among them."""

RETRY_SECONDS = 2
"""What a client that is refused for now is told to wait."""


class InvalidRequest(SpeechError):
    """A field of the request is missing, unknown or of the wrong type."""

    code = "invalid-request"


class ModelNotFound(SpeechError):
    """No model of that name."""

    code = "model-not-found"


class NotFound(SpeechError):
    """There is nothing at that path."""

    code = "not-found"


class MethodNotAllowed(SpeechError):
    """The path does not take that method."""

    code = "method-not-allowed"


class Unauthorized(SpeechError):
    """No token, or not one of the server's."""

    code = "unauthorized"


class TokenNeeded(SpeechError):
    """What only clients with a token may do, on a server that has none."""

    code = "token-needed"


class InvalidVoice(SpeechError):
    """A clip, a name or settings with which there can be no voice."""

    code = "invalid-voice"


class CannotClone(SpeechError):
    """The server's model clones no voices."""

    code = "cannot-clone"


class VoicesUnavailable(SpeechError):
    """The folder of voices does not answer: its disk or its share is gone."""

    code = "voices-unavailable"


class HostNotAllowed(SpeechError):
    """The Host header names no name of this server: a web page of somebody else resolves to it."""

    code = "host-not-allowed"


class OriginNotAllowed(SpeechError):
    """A web page of another server asks."""

    code = "origin-not-allowed"


class BodyTooLarge(SpeechError):
    """The request's body exceeds what is taken."""

    code = "body-too-large"


class BodyTimeout(SpeechError):
    """The request's body did not arrive in time."""

    code = "body-timeout"


def error_body(error: SpeechError, param: str | None = None) -> dict[str, Any]:
    """Returns what OpenAI's clients read: {"error": {"message", "type", "param", "code"}}."""
    if param is None and isinstance(error, InvalidSetting):
        param = str(error).partition(":")[0]
    elif param is None and isinstance(error, TextTooLong):
        param = "input"
    kind = "invalid_request_error" if STATUS[error.code] < 500 else "server_error"
    return {"error": {"message": str(error), "type": kind, "param": param, "code": error.code}}


class JSONResponse(Response):
    """JSON in ASCII: what a client sent (lone surrogates, say) can be said back to it whatever it is."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


def error_response(
    error: SpeechError, param: str | None = None, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """Returns an error as a response with its status."""
    status = STATUS[error.code]
    merged = dict(headers or {})
    if status == 503:
        merged.setdefault("Retry-After", str(RETRY_SECONDS))
    if status == 401:
        merged.setdefault("WWW-Authenticate", "Bearer")
    return JSONResponse(error_body(error, param), status, merged)
