"""The Prometheus series: what every edge's utterances cost, and how the server is.

They are counted where somebody can ask for them: at the HTTP edge, whose extra brings `prometheus-client`. The light
server has its log line per utterance (speech/metrics.py).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from .. import __version__
from ..engine.memory import MemoryUsage
from ..speech.metrics import UtteranceMetrics

PREFIX = "wyoming_chatterbox"

_LATENCY_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0, 20.0, 60.0)
"""From the embedded voice's to a CPU's; a listener waits unwillingly from a second on."""

_RTF_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 0.9, 1.0, 1.25, 1.5, 2.0, 4.0, 8.0, 16.0)
"""Above 1 the listener hears gaps."""


class _Total(Collector):
    """A counter that is counted elsewhere."""

    def __init__(self, name: str, text: str, value: Callable[[], float]) -> None:
        self._name, self._text, self._value = name, text, value

    def collect(self) -> Iterator[Metric]:
        yield CounterMetricFamily(self._name, self._text, value=self._value())


class PrometheusMetrics:
    """All series of one server, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        named: dict[str, Any] = {"namespace": PREFIX, "registry": self.registry}
        Info("build", "Version of the server", **named).info({"version": __version__})
        ProcessCollector(registry=self.registry)  # resident memory, CPU, open files
        self._utterances = Counter(
            "utterances", "Utterances that ended, by outcome: finished, cancelled, error", ["edge", "model", "outcome"],
            **named,
        )  # fmt: skip
        self._errors = Counter("errors", "Utterances that ended with an error, by its code", ["edge", "code"], **named)
        self._cancellations = Counter("cancellations", "Utterances whose client left or cancelled", ["edge"], **named)
        self._fallbacks = Counter(
            "fallbacks", "Utterances that the embedded voice spoke in the place of a model", ["edge"], **named
        )
        self._first_audio = Histogram(
            "first_audio_seconds", "Request read to first audio written", ["edge", "model"], buckets=_LATENCY_BUCKETS,
            **named,
        )  # fmt: skip
        self._rtf = Histogram(
            "rtf", "Generation time / audio, of utterances that a model made", ["model"], buckets=_RTF_BUCKETS, **named
        )
        self._audio = Counter("audio_seconds", "Audio that was made or replayed", ["model"], **named)
        self._generation = Counter("generation_seconds", "Time the engines worked", ["model"], **named)
        self._characters = Counter("characters", "Characters that were spoken, after cleaning", ["model"], **named)
        self._requests = Counter("http_requests", "HTTP requests, by route and status", ["route", "status"], **named)

    def observe(self, metrics: UtteranceMetrics) -> None:
        """Count an utterance that has ended."""
        edge, model, outcome = metrics.edge, metrics.model, metrics.outcome
        failed = outcome not in ("finished", "cancelled")
        self._utterances.labels(edge, model, "error" if failed else outcome).inc()
        if failed:
            self._errors.labels(edge, outcome).inc()
        if outcome == "cancelled":
            self._cancellations.labels(edge).inc()
        if metrics.fallback:
            self._fallbacks.labels(edge).inc()
        if metrics.first_audio is not None:
            self._first_audio.labels(edge, model).observe(metrics.first_audio)
        if metrics.rtf is not None:
            self._rtf.labels(model).observe(metrics.rtf)
        self._audio.labels(model).inc(metrics.audio)
        self._generation.labels(model).inc(metrics.generation)
        self._characters.labels(model).inc(metrics.chars)

    def count_request(self, route: str, status: int) -> None:
        """Count an HTTP request: its route as it is declared, never what a client made of it."""
        self._requests.labels(route, str(status)).inc()

    def add_gauge(self, name: str, text: str, value: Callable[[], float]) -> None:
        """A series whose value is looked at whenever somebody asks."""
        Gauge(name, text, namespace=PREFIX, registry=self.registry).set_function(value)

    def add_counter(self, name: str, text: str, value: Callable[[], float]) -> None:
        """The same for what only grows."""
        self.registry.register(_Total(f"{PREFIX}_{name}", text, value))

    def add_state(self, text: str, states: tuple[str, ...], state: Callable[[], tuple[str, str]]) -> None:
        """A series for each state of a model, 1 for the one it is in; `state` gives (model, state)."""
        gauge = Gauge("model_state", text, ["model", "state"], namespace=PREFIX, registry=self.registry)
        model, _ = state()
        for known in states:
            gauge.labels(model, known).set_function(functools.partial(_is, state, known))

    def add_memory(self) -> None:
        """The GPU's memory; the process's own is among the series that prometheus-client makes."""
        self.add_gauge(
            "gpu_memory_bytes", "Held by torch's allocator on all GPUs", lambda: float(MemoryUsage.now().gpu or 0)
        )

    def page(self) -> bytes:
        """Returns all of it in Prometheus' text format."""
        return generate_latest(self.registry)


def _is(state: Callable[[], tuple[str, str]], wanted: str) -> float:
    return float(state()[1] == wanted)
