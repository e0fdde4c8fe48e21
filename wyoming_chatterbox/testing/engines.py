"""Engines for testing the server around them: each does one thing that a real one does only sometimes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..engine.base import Cancelled, CancelToken, EngineError, Samples, StreamMetrics
from ..hosting.thread import EngineBuilder, ThreadHost
from ..speech.model import Model
from ..speech_settings import GenerationSettings
from ..voices.voice import Voice

RATE = 24000


def voice(name: str, model: str) -> Voice:
    return Voice(name, model, f"{name} for tests", ("en",), "tests", "https://example.org")


class ToneEngine:
    """Costs nothing: every sentence is `chunks` chunks of `samples` samples, whose value tells which sentence it is.

    Sentence number k (from 1, over the engine's life) has the value k / 1000.
    """

    sample_rate = RATE

    def __init__(self, model: str = "tone", chunks: int = 2, samples: int = 2400) -> None:
        self.model = model
        self.fingerprint = f"{model}, for tests"
        self.voices = (voice(model, model),)
        self.chunks = chunks
        self.samples = samples
        self.texts: list[str] = []
        self.spoken_by: list[str] = []
        """Names of the voices, of every text."""

        self.settings: list[GenerationSettings] = []
        self.threads: set[int] = set()

    def warm_up(self) -> None:
        pass

    def generate_stream(
        self, text: str, voice: Voice, settings: GenerationSettings, cancel: CancelToken
    ) -> Iterator[tuple[Samples, StreamMetrics]]:
        self.texts.append(text)
        self.spoken_by.append(voice.name)
        self.settings.append(settings)
        self.threads.add(threading.get_ident())
        value = len(self.texts) / 1000
        for number in range(1, self.chunks + 1):
            cancel.raise_if_set()
            self.work(number, cancel)
            audio = number * self.samples / RATE
            yield (
                np.full(self.samples, value, dtype=np.float32),
                StreamMetrics(number, 0.001, number * 0.001, audio, number * 0.001 / audio),
            )

    def work(self, number: int, cancel: CancelToken) -> None:
        """What precedes chunk `number`."""

    def close(self) -> None:
        pass


class SlowEngine(ToneEngine):
    """Takes `seconds` for every chunk and looks at the cancellation every millisecond, as a real one per token."""

    def __init__(self, seconds: float, chunks: int = 1000, model: str = "slow") -> None:
        super().__init__(model, chunks)
        self.seconds = seconds
        self.stopped_at: float | None = None
        self.made = 0

    def generate_stream(
        self, text: str, voice: Voice, settings: GenerationSettings, cancel: CancelToken
    ) -> Iterator[tuple[Samples, StreamMetrics]]:
        try:
            yield from super().generate_stream(text, voice, settings, cancel)
        except (Cancelled, GeneratorExit):  # inside a chunk, or between two
            self.stopped_at = time.monotonic()
            raise

    def work(self, number: int, cancel: CancelToken) -> None:
        until = time.monotonic() + self.seconds
        while time.monotonic() < until:
            cancel.raise_if_set()
            time.sleep(0.001)
        self.made += 1


class BreakingEngine(ToneEngine):
    """Breaks before chunk `at` of every sentence that says "break"."""

    def __init__(self, at: int, error: Exception | None = None, model: str = "breaking") -> None:
        super().__init__(model, chunks=3)
        self._at = at
        self._error = error or EngineError("out of memory")

    def work(self, number: int, cancel: CancelToken) -> None:
        if number == self._at and "break" in self.texts[-1]:
            raise self._error


def model_of(engine: ToneEngine) -> Model:
    """Returns a model that loads at once."""
    return hosted_model(engine.model, engine.voices, lambda spec, report, cancel: engine)


def hosted_model(
    name: str,
    voices: tuple[Voice, ...],
    build: EngineBuilder,
    *,
    engine_timeout: float | None = None,
    **options: Any,
) -> Model:
    """Returns a model whose engine is what `build` returns, on a thread. `options` are those of Model."""
    return Model(name, voices, ThreadHost(name, build, chunk_timeout=engine_timeout), **options)
