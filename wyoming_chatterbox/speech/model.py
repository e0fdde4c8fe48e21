"""A model as the service sees it: an engine, its thread, and where it is in its life."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import functools
import logging
import math
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

import numpy as np

from ..engine import memory
from ..engine.base import Cancel, Cancelled, Engine, EngineError, NothingToSay, Samples, StreamMetrics, SupportsCloning
from ..engine.cuda_errors import is_sticky
from ..engine.load_errors import may_pass
from ..engine.worker import EngineHung, EngineWorker
from ..logs import error_kind
from ..settings import GenerationSettings
from ..voices.library import built_in
from ..voices.voice import Voice
from ..waiting import within
from .preparing import Preparing
from .usage import Usage

_LOGGER = logging.getLogger(__name__)

RETRY_SECONDS = (10.0, 30.0, 60.0, 300.0)
"""Pauses before another try to load a model whose failure may pass (no network yet); the last one repeats."""


SILENT_POWER = 1e-7
"""Mean square below which a chunk is silent: -70 dBFS. Speech is at -20, and what a phone plays at -70 nobody hears."""

PREPARE_ANYWAY_SECONDS = 30.0
"""So long a voice waits for a moment without speech before it is computed all the same."""


class ModelState(enum.Enum):
    """Where a model is in its life; the values are words for logs and Info."""

    WAITING = "waiting to be loaded"
    DOWNLOADING = "downloading"
    LOADING = "loading weights"
    WARMING = "warming up"
    READY = "ready"
    UNLOADED = "unloaded, loads again with the next request"
    FAILED = "failed"


_ON_THE_WAY = (ModelState.DOWNLOADING, ModelState.LOADING, ModelState.WARMING)
"""What is reported while a model is loaded."""


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
        unload_after: float | None = None,
    ) -> None:
        """
        Args:
            name: the model's name in logs, metrics and Info.
            voices: its own, which Info lists until the engine is there and knows better.
            factory: makes the engine.
            retry_seconds: see RETRY_SECONDS.
            engine_timeout: seconds for one chunk, after which the engine is taken to hang; None: no limit.
            unload_after: seconds without speech after which `unload_when_idle` unloads the engine; None: never.
        """
        self.name = name
        self.status = ModelStatus()
        self.trouble: str | None = None
        """What kind of error kept the last sentence from being spoken; None when it was spoken. Everybody may see it:
        it quotes no message, which may quote a text."""

        self._own = voices
        self._cloned: tuple[Voice, ...] = ()
        self._preparing = Preparing()
        self.fingerprint = ""
        """The engine's; that of one that is unloaded stays. Empty before there was one."""

        self._factory = factory
        self._retry_seconds = retry_seconds
        self._engine_timeout = engine_timeout
        self._unload_after = unload_after
        self._usage = Usage()
        self._wanted = asyncio.Event()
        self._was_loaded = False
        self._worker = EngineWorker(name)
        self._cancel = Cancel()
        self._engine: Engine | None = None
        self._settled = asyncio.Event()
        self._loaded = asyncio.Event()  # an engine is there and does not hang
        self.broken = asyncio.Event()
        """Set for good once the engine can do nothing any more in this process; a new process can."""

    @property
    def ready(self) -> bool:
        return self.status.state is ModelState.READY

    @property
    def voices(self) -> tuple[Voice, ...]:
        """The voices it speaks: its own, the first of which is its default, then those of the library. They stay while
        the engine is unloaded."""
        return (*built_in(self._own, self._cloned), *self._cloned)

    def offer(self, cloned: Sequence[Voice]) -> None:
        """The library's voices for this model are these, from now on. What is kept of others is dropped once nobody
        speaks with them any more."""
        self._cloned = tuple(cloned)
        self._preparing.offer(self._cloned)
        self._forget_voices()

    async def prepare_voices(self, first: str | None = None) -> None:
        """Compute what requests for the library's voices need, one after the other, in the background. Ends only by
        being cancelled.

        Args:
            first: name of the voice that is most likely to be asked for.
        """
        while True:
            await self._loaded.wait()
            await self._preparing.next(first)
            # Speech comes first: in the middle of an utterance this would be heard as a pause.
            with contextlib.suppress(asyncio.TimeoutError):
                await within(PREPARE_ANYWAY_SECONDS, self._usage.idle(0.0))
            voice = await self._preparing.next(first)
            if self._loaded.is_set() and self._engine is not None:
                await self._prepare(self._engine, voice)

    async def _prepare(self, engine: Engine, voice: Voice) -> None:
        started = time.perf_counter()
        try:
            computed = isinstance(engine, SupportsCloning) and await self._worker.run(
                functools.partial(engine.prepare_voice, voice), self._engine_timeout
            )
        except EngineHung as error:
            self._hang(str(error))
        except Exception as error:
            if self._engine is not engine:  # it was unloaded meanwhile
                return
            if is_sticky(error):
                self._break(error)
                return
            if not isinstance(error, EngineError):
                _LOGGER.exception("Model %s broke on voice %s", self.name, voice.name)
            _LOGGER.error("Voice %s cannot be spoken: %s", voice.name, error)
            self._preparing.done(voice, failed=True)
        else:
            self._preparing.done(voice, time.perf_counter() - started, computed=computed)

    def _forget_voices(self) -> None:
        forgotten = self._preparing.take_forgotten()
        if isinstance(self._engine, SupportsCloning):
            for voice in forgotten:
                self._worker.submit(functools.partial(self._engine.forget_voice, voice))

    async def load(self) -> None:
        """Load the engine and warm it up; returns when it is ready or failed for good. Never raises an error
        of the engine: `status` has it."""
        tries = 0
        with self._usage:  # time to load is no time without speech
            while await self._try_to_load():
                pause = self._retry_seconds[min(tries, len(self._retry_seconds) - 1)]
                _LOGGER.warning(
                    "Model %s cannot be loaded yet, next try in %g s: %s", self.name, pause, self.status.error
                )
                await asyncio.sleep(pause)
                tries += 1

    async def _try_to_load(self) -> bool:
        """Load the engine once; True when it failed and may succeed later."""
        loop = asyncio.get_running_loop()
        started = time.perf_counter()
        warming_since = started

        def report(state: ModelState, progress: float | None) -> None:
            loop.call_soon_threadsafe(self._set_status, ModelStatus(state, progress))

        def make() -> Engine:
            nonlocal warming_since
            engine = self._factory(report, self._cancel)
            report(ModelState.WARMING, None)
            warming_since = time.perf_counter()
            engine.warm_up()
            return engine

        self._set_status(ModelStatus(ModelState.LOADING))
        try:
            engine = await self._worker.run(make)
        except Cancelled:
            return False
        except Exception as error:
            if is_sticky(error):
                self._break(error)
                return False
            if not isinstance(error, EngineError):
                _LOGGER.exception("Model %s broke while it was loaded", self.name)
            self._set_status(ModelStatus(ModelState.FAILED, error=str(error) or type(error).__name__))
            self._settled.set()
            self._worker.submit(memory.give_back)  # of what was loaded in part
            # What could be loaded before can be again, when the GPU's memory is not somebody else's any more.
            if self._was_loaded or may_pass(error):
                return True
            _LOGGER.error("Model %s cannot be used: %s", self.name, error)
            return False
        self._engine, self.fingerprint = engine, engine.fingerprint
        self._own = tuple(voice for voice in engine.voices if not voice.clips)
        self._preparing.again()
        self._set_status(ModelStatus(ModelState.READY))
        self._loaded.set()
        self._settled.set()
        ended = time.perf_counter()
        _LOGGER.info(
            "Model %s is %s after %.1f s, %.1f s of them to warm up",
            self.name,
            "back" if self._was_loaded else "ready",
            ended - started,
            ended - warming_since,
        )
        self._was_loaded = True
        return False

    async def unload_when_idle(self) -> None:
        """For a model that was loaded: unload it whenever it said nothing for `unload_after` seconds, and load it again
        when somebody asks for it. Ends only by being cancelled, or at once where nothing is to be unloaded."""
        while self._unload_after is not None and self._engine is not None:
            await self._usage.idle(self._unload_after)
            # No request can come between these two; the next one finds it unloaded.
            _LOGGER.info("Model %s was not used for %g min: unloading it", self.name, self._unload_after / 60)
            await self._unload(self._engine)
            await self._wanted.wait()
            _LOGGER.info("Model %s is asked for: loading it again", self.name)
            await self.load()

    async def _unload(self, engine: Engine) -> None:
        self._engine = None
        self._loaded.clear()
        self._wanted.clear()
        self._set_status(ModelStatus(ModelState.UNLOADED))

        def unload() -> None:
            before = memory.Memory.now()
            try:
                engine.close()
            finally:
                memory.give_back()
                after = memory.Memory.now()
                _LOGGER.info("Model %s is unloaded, memory given back: %s", self.name, before.change_to(after))

        try:
            # Shielded: also of a server that stops meanwhile the engine is closed.
            await asyncio.shield(self._worker.run(unload))
        except Exception:
            _LOGGER.exception("Model %s broke while it was unloaded", self.name)

    @contextlib.contextmanager
    def in_use(self, voice: Voice) -> Iterator[None]:
        """Around an utterance for which this model was chosen: one that is loaded stays, as does what it has of the
        voice."""
        try:
            with self._usage, self._preparing.using(voice):
                yield
        finally:
            self._forget_voices()

    def want(self) -> None:
        """There is a sentence for it to speak: a model that is unloaded begins to be loaded again."""
        if self.status.state is ModelState.UNLOADED:
            self._set_status(ModelStatus(ModelState.WAITING))
            self._wanted.set()

    def _set_status(self, status: ModelStatus) -> None:
        # A report that was still on its way when loading ended must not undo the end.
        if status.state in _ON_THE_WAY and self.ready:
            return
        if status.state in (ModelState.LOADING, ModelState.WARMING) and status.state is not self.status.state:
            _LOGGER.info("Model %s: %s", self.name, status)
        self.status = status

    async def settled(self) -> None:
        """Wait until loading ended one way or the other for the first time."""
        await self._settled.wait()

    async def generate_stream(
        self, text: str, voice: Voice, settings: GenerationSettings, cancel: Cancel
    ) -> AsyncGenerator[tuple[Samples, StreamMetrics, int, float], None]:
        """The engine's `generate_stream()` on its thread, with the engine's sample rate and when it was made
        (time.perf_counter()): it may be taken later.

        Raises:
            EngineError: as the engine does, or when the model is not ready.
        """
        engine = self._engine
        if engine is None:
            raise EngineError(f"Model {self.name} is {self.status}")
        stream = self._worker.stream(
            lambda: _checked(engine.generate_stream(text, voice, settings, cancel)), cancel, self._engine_timeout
        )
        try:
            async with aclosing(stream) as items:
                async for samples, metrics, made in items:
                    yield samples, metrics, engine.sample_rate, made
        except EngineHung as error:
            self._hang(str(error))
            raise
        except (NothingToSay, Cancelled):
            raise
        except Exception as error:
            self.trouble = error_kind(error)
            if is_sticky(error):
                self._break(error)
            raise
        self.trouble = None

    def _break(self, error: BaseException) -> None:
        """Never ask the engine again: nothing that it does in this process can succeed."""
        if self.broken.is_set():
            return
        reason = str(error) or type(error).__name__
        self.status = ModelStatus(ModelState.FAILED, error=reason)
        self._loaded.clear()
        self._settled.set()
        self._usage.begin()  # for good: to unload it and load it again would be of no use
        _LOGGER.error("Model %s is lost to this process: %s", self.name, reason)
        self.broken.set()

    def _hang(self, reason: str) -> None:
        """Let nobody wait for the thread, until it comes back."""
        if not self.ready:  # somebody else has noticed
            return
        loop = asyncio.get_running_loop()
        self.status = ModelStatus(ModelState.FAILED, error=reason)
        self._loaded.clear()
        self._usage.begin()  # until it comes back: an engine at work is not unloaded
        _LOGGER.error("Model %s hangs: %s; it is not asked again until it comes back", self.name, reason)

        def came_back() -> None:
            if self.broken.is_set():
                return
            _LOGGER.info("Model %s came back", self.name)
            self._set_status(ModelStatus(ModelState.READY))
            self._loaded.set()
            self._usage.end()

        def tell() -> None:
            if not self._cancel.is_set:  # else it was closed meanwhile
                loop.call_soon_threadsafe(came_back)

        self._worker.submit(tell)

    async def close(self) -> None:
        """Stop loading, end the thread after the current piece of work, free the engine."""
        self._cancel.set()
        self._loaded.clear()
        engine, self._engine = self._engine, None
        if engine is not None:
            self._worker.submit(engine.close)
        self._worker.close()

    def join(self, timeout: float) -> bool:
        """Wait (blocking) for the thread; False when it is still at work after `timeout` seconds."""
        return self._worker.join(timeout)


def _checked(chunks: Iterator[tuple[Samples, StreamMetrics]]) -> Iterator[tuple[Samples, StreamMetrics, float]]:
    """Yields every chunk of a sentence with the moment at which it was made. Runs on the engine's thread.

    Silence at the beginning waits for the first sound, so that of a silent sentence nothing is sent.

    Raises:
        EngineError: samples are not numbers, or the whole sentence is silent.
    """
    silent: list[tuple[Samples, StreamMetrics, float]] | None = []
    try:
        for samples, metrics in chunks:
            # One pass for both questions: what is not a number makes the sum one, too.
            power = float(np.dot(samples, samples)) / max(len(samples), 1)
            if not math.isfinite(power):
                raise EngineError("the model made samples that are not numbers")
            chunk = samples, metrics, time.perf_counter()
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
        close = getattr(chunks, "close", None)
        if close is not None:
            close()
