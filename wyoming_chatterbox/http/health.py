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


METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Prometheus' text format."""


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


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(here: Here) -> Response:
    """Prometheus' series."""
    return Response(here.series.page(), media_type=METRICS_TYPE)


def watch(here: Context) -> None:
    """Let the series say how the server is, and count every utterance."""
    service, series = here.service, here.series
    service.observers.append(series.observe)
    cache = service.cache
    series.watch("queue", "Utterances that are spoken or wait", lambda: service.running)
    series.watch("queue_limit", "As many may be (--max-queue)", lambda: here.settings.max_queue)
    series.watch("websockets", "WebSockets that are open", lambda: here.sockets)
    series.watch("ready", "1 while something can speak", lambda: float(service.readiness().speaks is not None))
    series.watch(
        "model_progress", "Share of the download that is done", lambda: service.readiness().status.progress or 0
    )
    series.watch_state("What the model is doing", tuple(_STATES.values()), lambda: _state(here))
    series.watch_memory()
    series.watch("cache_bytes", "Kept sentences, on disk", lambda: cache.size)
    series.watch("cache_sentences", "Kept sentences", lambda: len(cache))
    series.watch_total("cache_hits", "Sentences that came from the cache", lambda: cache.hits)
    series.watch_total(
        "cache_misses", "Sentences that could have come from it and were not there", lambda: cache.misses
    )


def _state(here: Context) -> tuple[str, str]:
    readiness = here.service.readiness()
    return readiness.model, _STATES[readiness.status.state]


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
