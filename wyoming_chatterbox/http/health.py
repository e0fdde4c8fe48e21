"""For whoever watches the server: is it alive, can it speak."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.responses import PlainTextResponse, Response

from ..speech.model import ModelState
from .errors import JSONResponse
from .schemas import Health
from .state import EdgeState, State

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
async def ready(state: State) -> Response:
    """A request would be spoken now, if need be by the embedded voice; 503 where nothing can speak."""
    said = health(state)
    can_speak = said["speaks"] is not None and not state.stopping
    return JSONResponse(said, 200 if can_speak else 503, {"Cache-Control": "no-store"})


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(state: State) -> Response:
    """Prometheus' series."""
    return Response(state.prometheus.page(), media_type=METRICS_TYPE)


def register_metrics(state: EdgeState) -> None:
    """Let the series say how the server is, and count every utterance."""
    service, prometheus = state.service, state.prometheus
    service.observers.append(prometheus.observe)
    cache = service.cache
    prometheus.add_gauge("queue", "Utterances that are spoken or wait", lambda: service.running)
    prometheus.add_gauge("queue_limit", "As many may be (--max-queue)", lambda: state.settings.max_queue)
    prometheus.add_gauge("websockets", "WebSockets that are open", lambda: state.open_websockets)
    prometheus.add_gauge("ready", "1 while something can speak", lambda: float(service.readiness().speaks is not None))
    prometheus.add_gauge(
        "model_progress", "Share of the download that is done", lambda: service.readiness().status.progress or 0
    )
    prometheus.add_state("What the model is doing", tuple(_STATES.values()), lambda: _state(state))
    prometheus.add_memory()
    prometheus.add_gauge("cache_bytes", "Kept sentences, on disk", lambda: cache.size)
    prometheus.add_gauge("cache_sentences", "Kept sentences", lambda: len(cache))
    prometheus.add_counter("cache_hits", "Sentences that came from the cache", lambda: cache.hits)
    prometheus.add_counter(
        "cache_misses", "Sentences that could have come from it and were not there", lambda: cache.misses
    )


def _state(state: EdgeState) -> tuple[str, str]:
    readiness = state.service.readiness()
    return readiness.model, _STATES[readiness.status.state]


def health(state: EdgeState) -> dict[str, Any]:
    """Returns what `ready` says."""
    readiness = state.service.readiness()
    return Health(
        model=readiness.model,
        state=_STATES[readiness.status.state],  # type: ignore[arg-type]
        progress=readiness.status.progress,
        speaks=readiness.speaks,
        status=state.service.describe(),
        stopping=state.stopping,
    ).model_dump()
