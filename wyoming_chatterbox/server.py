"""The life of the process: startup, serve, drain, shutdown."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from . import __version__
from .blocking import run_blocking
from .descriptors import report_exhaustion_briefly
from .discovery.advertisement import Advertisement
from .edge import Edge
from .engine.registry import create_library
from .errors import SettingsError
from .installation import installing
from .model_factory import create_catalog, spoken_languages
from .protocol.edge import WyomingEdge
from .settings import Settings
from .speech.catalog import ModelCatalog
from .speech.model import Model
from .speech.service import SpeechService
from .timeouts import wait_for
from .voices.library import VoiceLibrary
from .voices.watcher import watch_folders

if TYPE_CHECKING:
    from .http.edge import HttpEdge

_LOGGER = logging.getLogger(__name__)

_EMBEDDED_SECONDS = 30.0
"""Longest wait for the embedded voice before clients are taken without it."""

_VOICES_SECONDS = 30.0
"""Longest wait for the clips to be opened; 500 take 8 s, a network share that is not there takes for ever."""

_LANGUAGES_SECONDS = 30.0
"""Longest wait for what tells languages apart; it takes 0.1 s for each of them, from a slow card some seconds."""

_FORCED_CLOSE_TIMEOUT = 1.0
"""Seconds after the shutdown's deadline in which clients may be told that their utterance ends early."""

_GOODBYE_SECONDS = 7.0
"""Longest wait for what goes on in the background: the two halves of a zeroconf goodbye have 3 s each."""

_JOIN_SECONDS = 0.5
"""How long an engine's thread may take to notice its cancellation before the process exits without it."""

EXIT_ENGINE_BROKEN = 1
"""Exit status where only a new process can speak with the model again; service managers start it after this status."""

LEAST_UPTIME_SECONDS = 300.0
"""A process runs at least so long before it ends for a broken engine: where the GPU fails at every start, the service
is restarted twelve times an hour at most, and the embedded voice speaks the rest of the time."""


class Server:
    """Serves Wyoming clients until it is told to stop.

    server = Server(settings)
    await server.start()
    await server.stopped()
    await server.shutdown()
    """

    def __init__(
        self,
        settings: Settings,
        models: ModelCatalog | None = None,
        library: VoiceLibrary | None = None,
    ) -> None:
        """
        Args:
            models: instead of those that the settings name.
            library: the voices that the model clones, where `models` are given; None: there are none.
        """
        self._settings = settings
        if models is None:
            models = create_catalog(settings)
            library = create_library(
                settings.voice_folders,
                settings.reference_clip,
                [model.name for model in models.speakers],
                spoken_languages(settings),
            )
        self.models = models
        self.library = None if models.primary_is_fallback else library
        """The voices that can be cloned; None where the model cannot."""

        self.service = SpeechService(settings, models)
        self.wyoming = WyomingEdge(settings, self.service, on_stdio_closed=self.stop)
        self.http: HttpEdge | None = None
        self._background_tasks: list[asyncio.Task[None]] = []  # what goes on in the background until the end
        self._advertisement: Advertisement | None = None
        self._stop = asyncio.Event()
        self._started = time.perf_counter()
        self.exit_status = 0
        """Of the process, once `run` returned."""

    @property
    def edges(self) -> list[Edge]:
        """The protocols that clients are served with."""
        return [self.wyoming] if self.http is None else [self.wyoming, self.http]

    async def start(self) -> None:
        """Take the addresses, load the embedded voice, serve; a larger model goes on loading in the background.

        Clients are refused until the embedded voice is there (0.5 s): reading its word lists stops the event loop
        for 0.1 s at a time, and whoever is connected has a right to an answer within 100 ms.

        Raises:
            ListenError: a URI cannot be listened on; nothing is left open.
            SettingsError: the default voice or the reference clip of the settings cannot be used.
        """
        self._handle_signals()
        report_exhaustion_briefly(asyncio.get_running_loop())
        try:
            if self._settings.http_uri is not None:
                self.http = _create_http_edge(self._settings, self.service, self.library)
            for edge in self.edges:
                await edge.bind()
            await self.service.cache.open()
            await self._open_voices()
            await self._load_languages()
            self._load_models()
            fallback = self.models.fallback
            if fallback is not None:
                with contextlib.suppress(asyncio.TimeoutError):
                    await wait_for(_EMBEDDED_SECONDS, self._unless_stopped(fallback.wait_until_decided()))
            for edge in self.edges:
                await edge.serve()
        except BaseException:
            self._close_edges()
            await self.service.cache.close()
            raise
        self._advertise()
        uris = [uri for edge in self.edges for uri in edge.uris]
        _LOGGER.info("wyoming-chatterbox %s listens on %s", __version__, ", ".join(uris))

    async def stopped(self) -> None:
        """Wait until the server is told to stop: by a signal, by `stop()`, or by the end of stdio's client."""
        await self._stop.wait()

    def stop(self) -> None:
        """Tell the server to stop."""
        self._stop.set()

    async def shutdown(self) -> None:
        """Take no further clients, let those that are served finish within the deadline, say goodbye."""
        self._close_edges()
        goodbye = asyncio.create_task(self._stop_advertising())
        timeout = self._settings.shutdown_timeout
        await asyncio.gather(*(edge.drain(timeout, _FORCED_CLOSE_TIMEOUT) for edge in self.edges))
        for task in self._background_tasks:
            task.cancel()
        await asyncio.wait((goodbye, *self._background_tasks), timeout=_GOODBYE_SECONDS)
        await self.service.cache.close()
        models = self.models.models
        for model in models:
            await model.close()
        joins = (run_blocking(model.join, _JOIN_SECONDS, timeout=None, name="join") for model in models)
        idle = await asyncio.gather(*joins)
        _LOGGER.info("Stopped%s", "" if all(idle) else " while an engine was still busy")

    async def run(self) -> None:
        """Start, serve until told to stop, shut down. A start that hangs is given up when it is told to."""
        starting = asyncio.create_task(self.start())
        stopped = asyncio.create_task(self.stopped())
        try:
            await asyncio.wait((starting, stopped), return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                await starting
            else:
                _LOGGER.warning("Stopping in the middle of the start")
        finally:
            stopped.cancel()
            starting.cancel()
            await asyncio.wait((starting,), timeout=_GOODBYE_SECONDS)
        try:
            await self.stopped()
        finally:
            await self.shutdown()

    # Startup

    async def _unless_stopped(self, waiting: Coroutine[Any, Any, None]) -> None:
        """Wait for something, or until the server is told to stop."""
        tasks = [asyncio.ensure_future(waiting), asyncio.ensure_future(self._stop.wait())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            try:
                loop.add_signal_handler(number, self._on_signal, number)
            except (NotImplementedError, RuntimeError, ValueError):  # not the main thread (tests), or Windows
                return

    def _on_signal(self, number: int) -> None:
        if self._stop.is_set():
            _LOGGER.warning("Second signal: cancelling what is still spoken")
            for edge in self.edges:
                edge.end()
            return
        _LOGGER.info("%s: stopping", signal.Signals(number).name)
        self.stop()

    async def _open_voices(self) -> None:
        """Open the clips that there are (20 ms for each that is new to the machine), and look after them from now on.

        Raises:
            SettingsError: the default voice or the reference clip of the settings cannot be used.
        """
        library = self.library
        if library is not None:
            loop = asyncio.get_running_loop()
            library.on_change.append(lambda: _if_open(loop, self._offer_voices))
            try:
                await run_blocking(library.open, timeout=_VOICES_SECONDS, name="voices")
            except asyncio.TimeoutError:
                _LOGGER.warning("The voices take over %g s to open; going on without them", _VOICES_SECONDS)
            else:
                library.check_reference_clip()
            self._offer_voices()
            self._background_tasks.append(asyncio.create_task(watch_folders(library)))
            self._background_tasks += [
                asyncio.create_task(model.prepare_voices(self._settings.default_voice))
                for model in self.models.speakers
            ]
        if library is None or library.is_open:
            self.service.check_default_voice()

    async def _load_languages(self) -> None:
        with contextlib.suppress(asyncio.TimeoutError):
            await run_blocking(self.service.load_languages, timeout=_LANGUAGES_SECONDS, name="languages")

    def _offer_voices(self) -> None:
        if self.library is not None:
            for model in self.models.speakers:
                model.set_cloned_voices([voice for voice in self.library.voices if voice.model == model.name])

    def _load_models(self) -> None:
        for model in self.models.models:
            self._background_tasks.append(asyncio.create_task(self._run_model(model)))
        self._background_tasks.append(asyncio.create_task(self._stop_when_broken()))

    async def _stop_when_broken(self) -> None:
        """Stop the server when its engine can do nothing any more in this process, as after a GPU's failure, so that a
        service manager starts a new one. What is being spoken is finished by the embedded voice."""
        broken = {asyncio.create_task(model.broken.wait()): model for model in self.models.speakers}
        try:
            done, _ = await asyncio.wait(broken, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in broken:
                task.cancel()
        model = broken[done.pop()]
        if not self._settings.exit_on_gpu_failure:
            _LOGGER.error("Restart the server to get model %s back (--no-exit-on-gpu-failure)", model.name)
            return
        wait = LEAST_UPTIME_SECONDS - (time.perf_counter() - self._started)
        if wait > 0:
            _LOGGER.error("The server ends in %.0f s, lest it be restarted again and again", wait)
            await asyncio.sleep(wait)
        _LOGGER.error(
            "The server ends with status %d: a new process can speak with model %s again",
            EXIT_ENGINE_BROKEN,
            model.name,
        )
        self.exit_status = EXIT_ENGINE_BROKEN
        self.stop()

    async def _run_model(self, model: Model) -> None:
        """Load a model; where that is wanted, unload it when it is idle and load it again when it is asked for."""
        # The embedded voice first: it is there in a second and answers while the other one loads.
        fallback, is_primary = self.models.fallback_for(model), model == self.models.primary
        if fallback is not None:
            with contextlib.suppress(asyncio.TimeoutError):
                await wait_for(_EMBEDDED_SECONDS, fallback.wait_until_decided())
        if not is_primary:
            await model.run()
            return
        await model.load()
        if model.ready:
            _LOGGER.info("Model %s speaks, %.1f s after the start", model.name, time.perf_counter() - self._started)
        elif fallback is not None:
            _LOGGER.warning("The embedded voice speaks in the place of model %s", model.name)
        await model.unload_when_idle()

    def _advertise(self) -> None:
        listener = self.wyoming.advertised
        if not self._settings.zeroconf or listener is None or listener.port is None:
            return
        self._advertisement = Advertisement(
            listener.port, listener.hosts, self._settings.zeroconf_name, self._settings.zeroconf_interface
        )
        self._advertisement.start()

    # Shutdown

    def _close_edges(self) -> None:
        for edge in self.edges:
            edge.close()

    async def _stop_advertising(self) -> None:
        if self._advertisement is not None:
            await self._advertisement.stop()


def _create_http_edge(settings: Settings, service: SpeechService, library: VoiceLibrary | None) -> HttpEdge:
    """Raises SettingsError where a package of the HTTP edge is not installed, or its token file cannot be used."""
    try:
        from .http.edge import HttpEdge  # here, since the light server has none of its packages
    except ImportError as error:
        raise SettingsError(f"http_uri: its packages are not installed ({error}); {installing('http')}") from None
    return HttpEdge(settings, service, library)


def _if_open(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    """Call something in the event loop, from any thread; nothing where the loop is closed."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(call)
