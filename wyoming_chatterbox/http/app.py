"""The edge's application: routes, errors, the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket

from .. import __version__
from ..speech.errors import SpeechError
from . import health, models_route, speech_route, voices_route, websocket
from .errors import InvalidRequest, MethodNotAllowed, NotFound, error_response
from .middleware import AccessGuard
from .policy import Policy
from .state import EdgeState
from .validation import to_speech_error

_ROUTE_MODULES = (speech_route, models_route, voices_route, health, websocket)

PAGE = Path(__file__).parent / "page"
"""The files of the page, served as they are."""


def create_app(state: EdgeState) -> FastAPI:
    """Returns the application of one server."""
    app = FastAPI(
        title="wyoming-chatterbox",
        version=__version__,
        summary="Chatterbox speech while it is made",
        docs_url=None,  # its page loads scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.edge = state
    health.register_metrics(state)
    for module in _ROUTE_MODULES:
        app.include_router(module.router)
    app.router.add_websocket_route("/{path:path}", _on_no_socket)
    app.mount("/", _Page(directory=PAGE, html=True))
    app.add_exception_handler(SpeechError, _on_speech_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(Exception, _on_fault)
    app.state.page_paths = _page_paths()
    policy = Policy(state.settings, routes_of(app), app.state.page_paths)
    app.add_middleware(AccessGuard, state=state, policy=policy)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    app.openapi()  # 60 ms of the event loop, which nobody is waiting for yet
    return app


def routes_of(app: FastAPI) -> list[BaseRoute]:
    """Returns every route of the application; the page's files are none."""
    declared = [route for route in app.routes if isinstance(route, Route)]
    return [*declared, *(route for module in _ROUTE_MODULES for route in module.router.routes)]


def _page_paths() -> frozenset[str]:
    """Returns the paths of the page's files, which everybody may read: "/" is the page itself."""
    return frozenset({"/", *(f"/{file.relative_to(PAGE).as_posix()}" for file in PAGE.rglob("*") if file.is_file())})


class _Page(StaticFiles):
    """Files that a browser asks for again every time: half of them from before an update would not fit together."""

    def file_response(self, *arguments: Any, **named: Any) -> Response:
        response = super().file_response(*arguments, **named)
        response.headers["Cache-Control"] = "no-cache"  # kept, and used when the server says 304
        return response


async def _on_speech_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, SpeechError)
    return error_response(error)


async def _on_invalid_request(request: Request, error: Exception) -> Response:
    """Our message for the first thing that is wrong: which field, which value, what is allowed."""
    assert isinstance(error, RequestValidationError)
    said, param = to_speech_error(list(error.errors()))
    return error_response(said, param)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    if isinstance(error.__cause__, SpeechError):  # FastAPI's word for whatever goes wrong while it reads the body
        return error_response(error.__cause__, headers={"Connection": "close"})
    if error.status_code in (404, 405):
        return _on_no_route(request)
    return error_response(InvalidRequest(str(error.detail)), headers=headers)


def _on_no_route(request: Request) -> Response:
    """Returns the answer where nothing takes the request: another method may, or nothing is there."""
    path, found = request.url.path, routes_of(request.app)
    allowed = _methods(request, found)
    if allowed:
        return error_response(
            MethodNotAllowed(f"{path!r} does not take {request.method}; it takes {', '.join(allowed)}"),
            headers={"Allow": ", ".join(allowed)},
        )
    if any(isinstance(route, WebSocketRoute) and route.path == path for route in found):
        return error_response(NotFound(f"{path!r} is a WebSocket; connect to it as ws://HOST:PORT{path}"))
    return error_response(NotFound(f"There is nothing at {path!r}; GET /openapi.json lists what there is"))


async def _on_no_socket(socket: WebSocket) -> None:
    await socket.send_denial_response(error_response(NotFound(f"There is no WebSocket at {socket.url.path!r}")))


def _methods(request: Request, routes: list[BaseRoute]) -> list[str]:
    """Returns what is taken at a request's path; none: there is nothing."""
    found = [
        route for route in routes if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE
    ]
    methods = {method for route in found for method in route.methods or ()}
    if request.url.path in request.app.state.page_paths:
        methods.add("GET")
    if "GET" in methods:
        methods.add("HEAD")
    return sorted(methods)


async def _on_fault(request: Request, error: Exception) -> Response:
    return error_response(SpeechError("The server failed; its log says more"))


def _openapi(app: FastAPI) -> dict[str, Any]:
    """FastAPI's description without its own shape of errors, which nobody gets here."""
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
        for path in schema["paths"].values():
            for operation in path.values():
                operation["responses"].pop("422", None)
        for name in ("HTTPValidationError", "ValidationError"):
            schema["components"]["schemas"].pop(name, None)
        app.openapi_schema = schema
    return app.openapi_schema
