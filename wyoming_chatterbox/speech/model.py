"""The life of one model over its host: waiting, downloading, loading, ready, unloaded, failed."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass

from ..engine.base import Cancelled, EngineBroken, EngineError, NothingToSay
from ..errors import SettingsError
from ..hosting.base import (
    AudioChunk,
    EngineHost,
    EngineHung,
    EngineInfo,
    EngineSpec,
    LoadFailed,
    LoadPhase,
    SentenceJob,
)
from ..logs import error_kind
from ..speech_settings import GenerationSettings
from ..timeouts import wait_for
from ..voices.library import built_in
from ..voices.voice import Voice
from .admission import SentenceOrder
from .idle import IdleTracker
from .voice_preparation import PreparationQueue

_LOGGER = logging.getLogger(__name__)

RETRY_SECONDS = (10.0, 30.0, 60.0, 300.0)
"""Pauses before another try to load a model whose failure may pass (no network yet); the last one repeats."""

PREPARE_ANYWAY_SECONDS = 30.0
"""Longest wait of a voice for a moment without speech before it is prepared all the same."""


class ModelState(enum.Enum):
    """The stages of a model's life; the values are words for logs and Info."""

    WAITING = "waiting to be loaded"
    DOWNLOADING = "downloading"
    LOADING = "loading weights"
    WARMING = "warming up"
    READY = "ready"
    UNLOADED = "not loaded, loads with the next request"
    FAILED = "failed"


_PHASES = {
    LoadPhase.DOWNLOADING: ModelState.DOWNLOADING,
    LoadPhase.LOADING: ModelState.LOADING,
    LoadPhase.WARMING: ModelState.WARMING,
}
"""The states of a model that is being loaded, by what its host reports."""


@dataclass(frozen=True)
class ModelStatus:
    """A model's state, with details for people."""

    state: ModelState = ModelState.WAITING
    progress: float | None = None
    """Share of the download that is done, 0 to 1."""

    error: str | None = None

    def __str__(self) -> str:
        if self.state is ModelState.DOWNLOADING and self.progress is not None:
            return f"downloading, {self.progress:.0%} done"
        return f"{self.state.value}: {self.error}" if self.error else self.state.value


@contextlib.asynccontextmanager
async def _enough_room() -> AsyncIterator[float]:
    """Yields that no memory is lacking."""
    yield 0.0


class _EngineLost(EngineError):
    """The engine was unloaded, broke or hung while a job waited for its turn."""


class Model:
    """Loads an engine into its host in the background and speaks with it. All methods are for the event loop."""

    def __init__(
        self,
        name: str,
        voices: tuple[Voice, ...],
        host: EngineHost,
        *,
        retry_seconds: tuple[float, ...] = RETRY_SECONDS,
        unload_after: float | None = None,
        parameters: Collection[str] | None = None,
        on_demand: bool = False,
    ) -> None:
        """
        Args:
            name: the model's name in logs, metrics and Info.
            voices: its built-in voices, which Info lists until the engine is loaded and names them itself.
            host: where its engine runs.
            retry_seconds: see RETRY_SECONDS.
            unload_after: seconds without speech after which `unload_when_idle` unloads the engine; None: never.
            parameters: the settings of speech that it has; None: all of them, or none that matters.
            on_demand: it is not loaded before somebody asks for it.
        """
        self.name = name
        self._parameters = parameters
        self._warned_of: set[str] = set()
        """Names of voices."""

        self.status = ModelStatus(ModelState.UNLOADED if on_demand else ModelState.WAITING)
        self.room: Callable[[], AbstractAsyncContextManager[float]] = _enough_room
        """Entered while it is loaded: makes room in memory first, and yields the GB that are lacking."""

        self.last_error: str | None = None
        """The kind of error that kept the last sentence from being spoken; None if it was spoken. It may be shown to
        anybody: it contains no message, which might quote a text."""

        self.fingerprint = ""
        """Fingerprint of the last loaded engine; empty until the first load."""

        self.broken = asyncio.Event()
        """Set for good once no engine can work in this process any more; a new process can."""

        self._built_in_voices = voices
        self._cloned_voices: tuple[Voice, ...] = ()
        self._preparation = PreparationQueue()
        self._host = host
        self._retry_seconds = retry_seconds
        self._unload_after = unload_after
        self._order = SentenceOrder()
        self._usage = IdleTracker()
        self._load_requested = asyncio.Event()
        self._on_demand = on_demand
        self._makes_way = asyncio.Event()  # another model needs its memory
        self._unloaded = asyncio.Event()
        self._unloaded.set()
        self._was_loaded = False
        self._engine: EngineInfo | None = None
        self._decided = asyncio.Event()
        self._usable = asyncio.Event()  # an engine is loaded and does not hang
        self._recovery: asyncio.Task[None] | None = None

    def check_parameters(self, names: Iterable[str]) -> None:
        """Raises SettingsError for the first setting of speech that this model does not have; the message names it."""
        for name in self._without_effect(names):
            raise SettingsError(
                f"{name}: refused, model {self.name} has no such setting; it has {', '.join(self._parameters or ())}"
            )

    def warn_of_settings(self, voice: Voice) -> None:
        """Warn once of a voice's settings that this model does not have."""
        ignored = self._without_effect(voice.settings)
        if ignored and voice.name not in self._warned_of:
            self._warned_of.add(voice.name)
            _LOGGER.warning(
                "Voice %s: %s has no effect, model %s has no such setting", voice.name, ", ".join(ignored), self.name
            )

    def _without_effect(self, names: Iterable[str]) -> list[str]:
        if self._parameters is None:
            return []
        return [name for name in names if hasattr(GenerationSettings, name) and name not in self._parameters]

    @property
    def loaded(self) -> bool:
        """Its engine takes memory."""
        return self._engine is not None

    @property
    def ready(self) -> bool:
        return self.status.state is ModelState.READY

    @property
    def voices(self) -> tuple[Voice, ...]:
        """The voices it speaks: the built-in ones, the first of which is its default, then those of the library. They
        stay while the engine is unloaded."""
        return (*built_in(self._built_in_voices, self._cloned_voices), *self._cloned_voices)

    def set_cloned_voices(self, voices: Sequence[Voice]) -> None:
        """Replace the library's voices for this model. What is held in memory for others is dropped once no utterance
        uses them any more."""
        self._cloned_voices = tuple(voices)
        self._preparation.offer(self._cloned_voices)
        self._forget_unused_voices()

    async def prepare_voices(self, first: str | None = None) -> None:
        """Compute what requests for the library's voices need, one after the other, in the background. Runs until it
        is cancelled.

        Args:
            first: name of the voice that is most likely to be requested.
        """
        while True:
            await self._usable.wait()
            await self._preparation.next(first)
            # Speech comes first: in the middle of an utterance this would be heard as a pause.
            with contextlib.suppress(asyncio.TimeoutError):
                await wait_for(PREPARE_ANYWAY_SECONDS, self._usage.idle(0.0))
            voice = await self._preparation.next(first)
            if self._usable.is_set() and self._engine is not None:
                await self._prepare(self._engine, voice)

    async def _prepare(self, engine: EngineInfo, voice: Voice) -> None:
        started = time.perf_counter()
        try:
            computed = False
            if engine.clones:
                async with self._order.turn():
                    self._check_usable(engine)
                    computed = await self._host.prepare(voice)
        except EngineHung as error:
            self._mark_hung(str(error))
        except _EngineLost:
            return
        except Exception as error:
            if self._engine is not engine:  # it was unloaded meanwhile
                return
            if isinstance(error, EngineBroken):
                self._mark_broken(str(error))
                return
            if not isinstance(error, EngineError):
                _LOGGER.exception("Model %s broke on voice %s", self.name, voice.name)
            _LOGGER.error("Voice %s cannot be spoken: %s", voice.name, error)
            self._preparation.done(voice, failed=True)
        else:
            self._preparation.done(voice, time.perf_counter() - started, computed=computed)

    def _forget_unused_voices(self) -> None:
        for voice in self._preparation.pop_unused():
            self._host.forget(voice)

    async def load(self) -> None:
        """Load the engine and warm it up; returns when it is ready or failed for good. Never raises an error of the
        engine: `status` has it."""
        tries = 0
        with self._usage:  # loading time is not idle time
            while await self._try_to_load():
                pause = self._retry_seconds[min(tries, len(self._retry_seconds) - 1)]
                _LOGGER.warning(
                    "Model %s cannot be loaded yet, next try in %g s: %s", self.name, pause, self.status.error
                )
                await asyncio.sleep(pause)
                tries += 1

    async def _try_to_load(self) -> bool:
        """Load the engine once; returns True if it failed and may succeed later."""
        async with self.room() as lacking:
            if lacking:
                error = f"it needs {lacking:.1f} GB more memory than are free"
                self._set_status(ModelStatus(ModelState.FAILED, error=error))
                self._decided.set()
                return True
            return await self._load_engine()

    async def _load_engine(self) -> bool:
        started = time.perf_counter()
        self._set_status(ModelStatus(ModelState.LOADING))
        try:
            engine = await self._host.start(EngineSpec(self.name, self._cloned_voices), self._on_status)
        except Cancelled:
            return False
        except EngineBroken as error:
            self._mark_broken(str(error))
            return False
        except LoadFailed as error:
            self._set_status(ModelStatus(ModelState.FAILED, error=str(error)))
            self._decided.set()
            # What could be loaded before can be again, once another program has freed the GPU's memory.
            if self._was_loaded or error.retryable:
                return True
            _LOGGER.error("Model %s cannot be used: %s", self.name, error)
            return False
        self._engine, self.fingerprint = engine, engine.fingerprint
        self._built_in_voices = tuple(voice for voice in engine.voices if not voice.clips)
        self._preparation.requeue_all()
        self._set_status(ModelStatus(ModelState.READY))
        self._unloaded.clear()
        self._usable.set()
        self._decided.set()
        _LOGGER.info(
            "Model %s is %s after %.1f s, %.1f s of them to warm up",
            self.name,
            "back" if self._was_loaded else "ready",
            time.perf_counter() - started,
            engine.warm_up_seconds,
        )
        self._was_loaded = True
        return False

    def _on_status(self, phase: LoadPhase, progress: float | None) -> None:
        self._set_status(ModelStatus(_PHASES[phase], progress))

    async def run(self) -> None:
        """Load the model, or wait until it is asked for, and give its memory back when it is not needed. Runs until it
        is cancelled; returns where the model cannot be used, or is never to be unloaded."""
        if self._on_demand:
            await self._load_requested.wait()
        await self.load()
        await self.unload_when_idle()

    async def unload_when_idle(self) -> None:
        """Unload a loaded model whenever it has said nothing for `unload_after` seconds, or another one needs its
        memory, and load it again when it is requested. Runs until it is cancelled; returns at once if the model is
        never to be unloaded."""
        while self._engine is not None and (self._unload_after is not None or self.room is not _enough_room):
            await self._until_to_be_unloaded()
            # No request can come between these two; the next one finds it unloaded.
            if self._makes_way.is_set():
                _LOGGER.info("Model %s makes way for another: unloading it", self.name)
            else:
                _LOGGER.info(
                    "Model %s was not used for %g min: unloading it", self.name, (self._unload_after or 0) / 60
                )
            await self._unload()
            await self._load_requested.wait()
            _LOGGER.info("Reloading model %s", self.name)
            await self.load()

    async def _until_to_be_unloaded(self) -> None:
        """Wait until it has not been used for long enough; nobody uses it at the moment this returns."""
        while True:
            waiting = [asyncio.create_task(self._until_it_makes_way())]
            if self._unload_after is not None:
                waiting.append(asyncio.create_task(self._usage.idle(self._unload_after)))
            try:
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in waiting:
                    task.cancel()
            if not self._usage.in_use:
                return

    async def _until_it_makes_way(self) -> None:
        await self._makes_way.wait()
        await self._usage.idle(0.0)

    async def make_way(self) -> None:
        """Have it unloaded once nobody uses it: another one needs the memory. Returns when it is."""
        if self._engine is None:
            return
        self._makes_way.set()
        try:
            await self._unloaded.wait()
        finally:
            self._makes_way.clear()

    async def _unload(self) -> None:
        self._engine = None
        self._usable.clear()
        self._load_requested.clear()
        self._set_status(ModelStatus(ModelState.UNLOADED))
        try:
            # Shielded: the engine is closed even if the server stops meanwhile.
            released = await asyncio.shield(self._host.stop())
        except Exception:
            _LOGGER.exception("Model %s broke while it was unloaded", self.name)
        else:
            _LOGGER.info("Model %s is unloaded, memory given back: %s", self.name, released)
        self._unloaded.set()

    @contextlib.contextmanager
    def lease(self, voice: Voice) -> Iterator[None]:
        """Keep the model loaded, and what it has of the voice in memory, for the time of an utterance."""
        try:
            with self._usage, self._preparation.using(voice):
                yield
        finally:
            self._forget_unused_voices()

    def request_load(self) -> None:
        """Start loading the model again if it is unloaded: it has a sentence to speak."""
        if self.status.state is ModelState.UNLOADED:
            self._set_status(ModelStatus(ModelState.WAITING))
            self._load_requested.set()

    def _set_status(self, status: ModelStatus) -> None:
        # A report that was still on its way when loading ended must not undo the end.
        if status.state in _PHASES.values() and self.ready:
            return
        if status.state in (ModelState.LOADING, ModelState.WARMING) and status.state is not self.status.state:
            _LOGGER.info("Model %s: %s", self.name, status)
        self.status = status

    async def wait_until_decided(self) -> None:
        """Wait until the first attempt to load has ended, successfully or not."""
        await self._decided.wait()

    async def stream(self, job: SentenceJob) -> AsyncGenerator[AudioChunk, None]:
        """Speak one sentence when its turn has come, see `EngineHost.stream`.

        Raises:
            EngineError: as the host does, or if the model is not ready.
        """
        engine = self._engine
        if engine is None:
            raise EngineError(f"Model {self.name} is {self.status}")
        try:
            async with self._order.turn():
                self._check_usable(engine)
                async with aclosing(self._host.stream(job)) as chunks:
                    async for chunk in chunks:
                        yield chunk
        except EngineHung as error:
            self._mark_hung(str(error))
            raise
        except (NothingToSay, Cancelled, _EngineLost):
            raise
        except Exception as error:
            self.last_error = error_kind(error)
            if isinstance(error, EngineBroken):
                self._mark_broken(str(error))
            raise
        self.last_error = None

    def _check_usable(self, engine: EngineInfo) -> None:
        """Raises _EngineLost if the engine was lost while a job waited for its turn."""
        if self._engine is not engine or not self._usable.is_set():
            raise _EngineLost(f"Model {self.name} is {self.status}")

    def _mark_broken(self, reason: str) -> None:
        """Never use the engine again: nothing that it does in this process can succeed."""
        if self.broken.is_set():
            return
        self.status = ModelStatus(ModelState.FAILED, error=reason)
        self._usable.clear()
        self._decided.set()
        self._usage.begin()  # for good: to unload it and load it again would be of no use
        _LOGGER.error("Model %s is lost to this process: %s", self.name, reason)
        self.broken.set()

    def _mark_hung(self, reason: str) -> None:
        """Use the engine no more until it comes back."""
        if not self.ready:  # it is marked already
            return
        self.status = ModelStatus(ModelState.FAILED, error=reason)
        self._usable.clear()
        self._usage.begin()  # until it comes back: an engine at work is not unloaded
        _LOGGER.error("Model %s hangs: %s; it is not used again until it comes back", self.name, reason)
        self._recovery = asyncio.create_task(self._wait_for_recovery())

    async def _wait_for_recovery(self) -> None:
        await self._host.responsive()
        if self.broken.is_set():
            return
        _LOGGER.info("Model %s came back", self.name)
        self._set_status(ModelStatus(ModelState.READY))
        self._usable.set()
        self._usage.end()

    async def close(self) -> None:
        """Stop loading, free the engine and end its host after the current piece of work."""
        self._usable.clear()
        self._engine = None
        if self._recovery is not None:
            self._recovery.cancel()
        self._host.close()

    def join(self, timeout: float) -> bool:
        """Block until the host has ended; returns False if it is still at work after `timeout` seconds."""
        return self._host.join(timeout)
