"""A model as the service sees it: an engine, its thread, and where it is in its life."""

from __future__ import annotations

import asyncio
import enum
import logging
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass

from ..engine.base import Cancel, Cancelled, Engine, EngineError, NothingToSay, Samples, StreamMetrics
from ..engine.worker import EngineHung, EngineWorker
from ..settings import GenerationSettings
from ..voices.voice import Voice

_LOGGER = logging.getLogger(__name__)

RETRY_SECONDS = (10.0, 30.0, 60.0, 300.0)
"""Pauses before another try to load a model whose failure may pass (no network yet); the last one repeats."""


class ModelState(enum.Enum):
    """Where a model is in its life; the values are words for logs and Info."""

    WAITING = "waiting to be loaded"
    DOWNLOADING = "downloading"
    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"


@dataclass(frozen=True)
class ModelStatus:
    """A model's state and what a person would want to know about it."""

    state: ModelState = ModelState.WAITING
    progress: float | None = None
    """Share of the download that is done, 0 to 1."""

    error: str | None = None

    def __str__(self) -> str:
        if self.state is ModelState.DOWNLOADING and self.progress is not None:
            return f"downloading, {self.progress:.0%} done"
        return f"{self.state.value}: {self.error}" if self.error else self.state.value


Report = Callable[[ModelState, "float | None"], None]
"""How a factory says what it is doing: (state, progress)."""

EngineFactory = Callable[[Report, Cancel], Engine]
"""Makes an engine, blocking for as long as that takes; called on the engine's thread."""


class Model:
    """Loads an engine in the background and speaks with it. All its methods are for the event loop."""

    def __init__(
        self,
        name: str,
        voices: tuple[Voice, ...],
        factory: EngineFactory,
        *,
        retry_seconds: tuple[float, ...] = RETRY_SECONDS,
        engine_timeout: float | None = None,
    ) -> None:
        """
        Args:
            name: the model's name in logs, metrics and Info.
            voices: what Info lists until the engine is there and knows better; never empty.
            factory: makes the engine.
            retry_seconds: see RETRY_SECONDS.
            engine_timeout: seconds for one chunk, after which the engine is taken to hang; None: no limit.
        """
        self.name = name
        self.status = ModelStatus()
        self.trouble: str | None = None
        """Why the last sentence could not be spoken; None when it could."""

        self._declared_voices = voices
        self._factory = factory
        self._retry_seconds = retry_seconds
        self._engine_timeout = engine_timeout
        self._worker = EngineWorker(name)
        self._cancel = Cancel()
        self._engine: Engine | None = None
        self._settled = asyncio.Event()

    @property
    def voices(self) -> tuple[Voice, ...]:
        """The voices it speaks; the first is its default."""
        return self._engine.voices if self._engine is not None else self._declared_voices

    @property
    def ready(self) -> bool:
        return self.status.state is ModelState.READY

    async def load(self) -> None:
        """Load the engine and warm it up; returns when it is ready or failed for good. Never raises an error
        of the engine: `status` has it."""
        loop = asyncio.get_running_loop()

        def report(state: ModelState, progress: float | None) -> None:
            loop.call_soon_threadsafe(self._set_status, ModelStatus(state, progress))

        def make() -> Engine:
            engine = self._factory(report, self._cancel)
            engine.warm_up()
            return engine

        tries = 0
        while True:
            started = time.perf_counter()
            self._set_status(ModelStatus(ModelState.LOADING))
            try:
                self._engine = await self._worker.run(make)
            except Cancelled:
                return
            except Exception as error:
                retryable = bool(getattr(error, "retryable", False))
                if not isinstance(error, EngineError):
                    _LOGGER.exception("Model %s broke while it was loaded", self.name)
                self._set_status(ModelStatus(ModelState.FAILED, error=str(error) or type(error).__name__))
                self._settled.set()
                if not retryable:
                    _LOGGER.error("Model %s cannot be used: %s", self.name, error)
                    return
                pause = self._retry_seconds[min(tries, len(self._retry_seconds) - 1)]
                _LOGGER.warning("Model %s cannot be loaded yet, next try in %g s: %s", self.name, pause, error)
                await asyncio.sleep(pause)
                tries += 1
                continue
            self._set_status(ModelStatus(ModelState.READY))
            self._settled.set()
            _LOGGER.info("Model %s is ready after %.1f s", self.name, time.perf_counter() - started)
            return

    def _set_status(self, status: ModelStatus) -> None:
        # A report that was still on its way when loading ended must not undo the end.
        if status.state in (ModelState.DOWNLOADING, ModelState.LOADING) and self.ready:
            return
        self.status = status

    async def settled(self) -> None:
        """Wait until loading ended one way or the other for the first time."""
        await self._settled.wait()

    async def generate_stream(
        self, text: str, voice: Voice, settings: GenerationSettings, cancel: Cancel
    ) -> AsyncGenerator[tuple[Samples, StreamMetrics, int], None]:
        """The engine's `generate_stream()` on its thread, with the engine's sample rate.

        Raises:
            EngineError: as the engine does, or when the model is not ready.
        """
        engine = self._engine
        if engine is None:
            raise EngineError(f"Model {self.name} is {self.status}")
        stream = self._worker.stream(
            lambda: engine.generate_stream(text, voice, settings, cancel), cancel, self._engine_timeout
        )
        try:
            async with aclosing(stream) as items:
                async for samples, metrics in items:
                    yield samples, metrics, engine.sample_rate
        except EngineHung as error:
            self._hang(str(error))
            raise
        except (NothingToSay, Cancelled):
            raise
        except Exception as error:
            self.trouble = str(error) or type(error).__name__
            raise
        self.trouble = None

    def _hang(self, reason: str) -> None:
        """Let nobody wait for the thread, until it comes back."""
        if not self.ready:  # somebody else has noticed
            return
        loop = asyncio.get_running_loop()
        self.status = ModelStatus(ModelState.FAILED, error=reason)
        _LOGGER.error("Model %s hangs: %s; it is not asked again until it comes back", self.name, reason)

        def came_back() -> None:
            if self._cancel.is_set:  # it was closed meanwhile
                return
            _LOGGER.info("Model %s came back", self.name)
            loop.call_soon_threadsafe(self._set_status, ModelStatus(ModelState.READY))

        self._worker.submit(came_back)

    async def close(self) -> None:
        """Stop loading, end the thread after the current piece of work, free the engine."""
        self._cancel.set()
        engine, self._engine = self._engine, None
        if engine is not None:
            self._worker.submit(engine.close)
        self._worker.close()

    def join(self, timeout: float) -> bool:
        """Wait (blocking) for the thread; False when it is still at work after `timeout` seconds."""
        return self._worker.join(timeout)
