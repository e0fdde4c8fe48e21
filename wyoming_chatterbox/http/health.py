"""For whoever watches the server: is it alive, can it speak."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.responses import PlainTextResponse, Response

from ..speech.model import ModelState
from .context import Context, Here
from .errors import JSONResponse
from .schemas import Health

router = APIRouter()

_STATES = {
    ModelState.WAITING: "waiting",
    ModelState.DOWNLOADING: "downloading",
    ModelState.LOADING: "loading",
    ModelState.WARMING: "warming",
    ModelState.READY: "ready",
    ModelState.UNLOADED: "unloaded",
    ModelState.FAILED: "failed",
}
"""The words of the interface, which do not change with those of the log."""


@router.get("/health", response_class=PlainTextResponse)
@router.get("/health/live", response_class=PlainTextResponse)
async def live() -> PlainTextResponse:
    """The process serves requests."""
    return PlainTextResponse("OK")


@router.get("/health/ready", response_model=Health, responses={503: {"model": Health}})
async def ready(here: Here) -> Response:
    """A request would be spoken now, if need be by the embedded voice; 503 where nothing can speak."""
    said = health(here)
    can_speak = said["speaks"] is not None and not here.stopping
    return JSONResponse(said, 200 if can_speak else 503, {"Cache-Control": "no-store"})


def health(here: Context) -> dict[str, Any]:
    """What `ready` says."""
    readiness = here.service.readiness()
    return Health(
        model=readiness.model,
        state=_STATES[readiness.status.state],  # type: ignore[arg-type]
        progress=readiness.status.progress,
        speaks=readiness.speaks,
        status=here.service.describe(),
        stopping=here.stopping,
    ).model_dump()
