"""A host that runs its engine on a thread of this process."""

from __future__ import annotations

import asyncio
import functools
import logging
import math
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing

import numpy as np

from ..engine import memory
from ..engine.base import Cancelled, CancelToken, Engine, EngineBroken, EngineError, SupportsCloning
from ..engine.cuda_errors import is_sticky
from ..engine.load_errors import may_pass
from ..voices.voice import Voice
from .base import AudioChunk, EngineInfo, EngineSpec, LoadFailed, LoadPhase, SentenceJob, StatusReport
from .worker_thread import WorkerThread

_LOGGER = logging.getLogger(__name__)

SILENT_POWER = 1e-7
"""Mean square below which a chunk is silent: -70 dBFS. Speech is at -20; at -70 nobody hears a phone's speaker."""

EngineBuilder = Callable[[EngineSpec, StatusReport, CancelToken], Engine]
"""Builds an engine, blocking for as long as that takes; called on the engine's thread."""


class ThreadHost:
    """Builds an engine on a thread and runs it there. See `EngineHost`."""

    def __init__(self, name: str, build: EngineBuilder, *, chunk_timeout: float | None = None) -> None:
        """
        Args:
            name: the model's name, for the thread and the log.
            chunk_timeout: seconds for one chunk or one voice, after which the engine counts as hung; None: no limit.
        """
        self._name = name
        self._build = build
        self._chunk_timeout = chunk_timeout
        self._thread = WorkerThread(name)
        self._closed = CancelToken()
        self._engine: Engine | None = None

    async def start(self, spec: EngineSpec, on_status: StatusReport) -> EngineInfo:
        loop = asyncio.get_running_loop()

        def report(phase: LoadPhase, progress: float | None) -> None:
            loop.call_soon_threadsafe(on_status, phase, progress)

        def load() -> tuple[Engine, float]:
            engine = self._build(spec, report, self._closed)
            report(LoadPhase.WARMING, None)
            started = time.perf_counter()
            engine.warm_up()
            return engine, time.perf_counter() - started

        failure: EngineError
        try:
            engine, warm_up_seconds = await self._thread.run(load)
        except Cancelled:
            raise
        except Exception as error:
            reason = str(error) or type(error).__name__
            if is_sticky(error):
                failure = EngineBroken(reason)
            else:
                if not isinstance(error, EngineError):
                    _LOGGER.exception("Model %s broke while it was loaded", self._name)
                failure = LoadFailed(reason, retryable=may_pass(error))
        else:
            self._engine = engine
            return EngineInfo(
                spec.model,
                engine.fingerprint,
                engine.sample_rate,
                engine.voices,
                isinstance(engine, SupportsCloning),
                warm_up_seconds,
            )
        # Here, where nothing refers to the error any more: its traceback holds what was loaded in part.
        self._thread.post(memory.release_memory)
        raise failure

    async def stream(self, job: SentenceJob) -> AsyncGenerator[AudioChunk, None]:
        engine = self._loaded()
        cancel = CancelToken()
        try:
            speaking = self._thread.stream(lambda: _speak(engine, job, cancel), cancel, self._chunk_timeout)
            async with aclosing(speaking) as chunks:
                async for chunk in chunks:
                    yield chunk
        except Exception as error:
            _raise_if_broken(error)
            raise

    async def prepare(self, voice: Voice) -> bool:
        engine = self._loaded()
        if not isinstance(engine, SupportsCloning):
            return False
        try:
            return await self._thread.run(functools.partial(engine.prepare_voice, voice), self._chunk_timeout)
        except Exception as error:
            _raise_if_broken(error)
            raise

    def forget(self, voice: Voice) -> None:
        if isinstance(self._engine, SupportsCloning):
            self._thread.post(functools.partial(self._engine.forget_voice, voice))

    async def responsive(self) -> None:
        await self._thread.drained()

    async def stop(self) -> str:
        engine, self._engine = self._engine, None
        if engine is None:
            return "nothing was loaded"

        def unload() -> str:
            before = memory.MemoryUsage.now()
            try:
                engine.close()
            finally:
                memory.release_memory()
            return before.diff(memory.MemoryUsage.now())

        return await self._thread.run(unload)

    def close(self) -> None:
        self._closed.set()
        engine, self._engine = self._engine, None
        if engine is not None:
            self._thread.post(engine.close)
        self._thread.close()

    def join(self, timeout: float) -> bool:
        return self._thread.join(timeout)

    def _loaded(self) -> Engine:
        if self._engine is None:
            raise EngineError(f"no engine of model {self._name} is loaded")
        return self._engine


def _raise_if_broken(error: Exception) -> None:
    """Raises EngineBroken if an error ended all work of this process on its GPU."""
    if is_sticky(error) and not isinstance(error, EngineBroken):
        raise EngineBroken(str(error) or type(error).__name__) from error


def _speak(engine: Engine, job: SentenceJob, cancel: CancelToken) -> Iterator[AudioChunk]:
    """Yields a sentence's audio. Runs on the engine's thread.

    Silence at the beginning is held back until the first sound, so that nothing of a silent sentence is sent.

    Raises:
        EngineError: samples are not finite numbers, or the whole sentence is silent.
    """
    silent: list[AudioChunk] | None = []
    stream = engine.generate_stream(job.text, job.voice, job.settings, cancel)
    try:
        for samples, stats in stream:
            # One pass for both questions: the sum is not finite if any sample is not.
            power = float(np.dot(samples, samples)) / max(len(samples), 1)
            if not math.isfinite(power):
                raise EngineError("the model made samples that are not numbers")
            chunk = AudioChunk(samples, engine.sample_rate, time.perf_counter(), job.voice, stats)
            if silent is None:
                yield chunk
            elif power < SILENT_POWER:
                silent.append(chunk)
            else:
                yield from silent
                silent = None
                yield chunk
        if silent:
            raise EngineError("the model made only silence")
    finally:
        close = getattr(stream, "close", None)
        if close is not None:
            close()
