"""One client's connection: a task that reads events and a task that answers requests.

Reading and answering are apart so that `describe` is answered while audio is sent, and so that a client that
leaves is noticed at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import functools
import logging
from collections.abc import Callable

from wyoming.event import Event
from wyoming.ping import Pong

from ..faults import log_fault
from ..limits import LARGE_EVENTS, MAX_EVENT_FAULTS, MAX_UNANSWERED, STALLED_SECONDS
from ..settings import Settings
from ..speech.errors import InvalidEvent, ProgramNotFound, ServerBusy, ShuttingDown, SpeechError
from ..speech.request import SpeechRequest
from ..speech.service import SpeechService
from ..speech.turns import TurnQueue
from ..timeouts import ends_within, wait_for
from .events import (
    DESCRIBE,
    SYNTHESIZE_STOP,
    Error,
    Ping,
    SelectProgram,
    Synthesize,
    SynthesizeChunk,
    SynthesizeStart,
    truncate,
)
from .info import PROGRAM_NAME, describe, program_of
from .pool import Activity, Standing, elapsed
from .reader import EventReader
from .requests import PendingRequest
from .responses import Responder
from .streaming import StreamingText
from .writer import EventWriter

_LOGGER = logging.getLogger(__name__)

_FAREWELL_SECONDS = 1.0
"""How long a client that is disconnected may take to read the reason."""


class ConnectionState(enum.Enum):
    """What becomes of a connection's requests."""

    OPEN = "open"
    """Requests are read and answered."""

    INPUT_ENDED = "input ended"
    """The client sent all it has to send (stdio); what it asked for is answered."""

    STOPPING = "stopping"
    """The server stops: further requests are refused, those before are answered."""

    PROTOCOL_ERROR = "protocol error"
    """What the client sent made no sense: none of its requests is finished."""


class Connection:
    """Serves one client until it leaves."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        service: SpeechService,
        settings: Settings,
        *,
        may_ask: Callable[[Connection], bool] = lambda _: True,
        large_events: asyncio.Semaphore | None = None,
    ) -> None:
        """
        Args:
            may_ask: tells whether there is room for a request of this connection.
            large_events: shared with the other connections, see EventReader; None: there are none.
        """
        self._events = EventReader(reader, settings.event_timeout, large_events or asyncio.Semaphore(LARGE_EVENTS))
        self._may_ask = may_ask
        self._writer = EventWriter(writer, settings.write_timeout)
        self._service = service
        self._settings = settings
        self._state = ConnectionState.OPEN
        self._requests: TurnQueue[PendingRequest] = TurnQueue()
        self._streaming = StreamingText(self._requests.add)
        self._responder = Responder(
            service, self._writer, settings.text_timeout, lambda: self._state is ConnectionState.STOPPING
        )
        self._model: str | None = None  # of the program that was selected
        self._faults = 0

    @property
    def busy(self) -> bool:
        """True while a request is answered or waits for its turn."""
        return len(self._requests) > 0

    @property
    def standing(self) -> Standing:
        """What this connection is doing, for the pool."""
        current = self._requests.current
        if current is None:
            if self._events.inside_since is not None:
                return Standing(Activity.INSIDE_EVENT, elapsed(self._events.inside_since))
            return Standing(Activity.IDLE, elapsed(self._requests.idle_since))
        if elapsed(self._writer.blocked_since) >= STALLED_SECONDS:
            return Standing(Activity.STALLED, elapsed(self._writer.blocked_since))
        if current.unended_since is not None:
            return Standing(Activity.WRITING, elapsed(current.unended_since))
        starved_since = current.request.text.starved_since
        if current.request.streamed and starved_since is not None:
            return Standing(Activity.WRITING, elapsed(starved_since))
        return Standing(Activity.SERVED, 0.0)

    async def run(self, *, finish_after_eof: bool = False) -> None:
        """Serve until the client leaves, is cut off or has been idle for too long. Raises nothing.

        Args:
            finish_after_eof: the end of the input is the end of the requests, not of the client (stdio, where
                input comes from a pipe); else a client that closes is gone and its work is cancelled.
        """
        answering = asyncio.create_task(self._requests.answer_all(self._responder.answer), name="answering")
        reading = asyncio.create_task(self._read_events(), name="reading")
        try:
            await asyncio.wait((reading, answering), return_when=asyncio.FIRST_COMPLETED)
            if reading.done() and finish_after_eof and self._state is not ConnectionState.PROTOCOL_ERROR:
                if self._state is ConnectionState.OPEN:
                    self._state = ConnectionState.INPUT_ENDED
                self._streaming.on_end_of_input()
                self._requests.close()
                await asyncio.wait((answering,))
        finally:
            self._streaming.discard_postponed()
            for task in (reading, answering):
                task.cancel()
            for result in await asyncio.gather(reading, answering, return_exceptions=True):
                # Not only ConnectionError: a host that vanished is EHOSTUNREACH, a silent one ETIMEDOUT.
                if isinstance(result, OSError):
                    _LOGGER.debug("Connection lost: %s", result)
                elif isinstance(result, Exception):
                    log_fault(_LOGGER, result, "A connection ended with an error of the server")
            self._requests.clear()
            await self._writer.close()

    def stop(self) -> None:
        """The server stops: no further requests; `run` returns when those before have been answered."""
        if self._state is not ConnectionState.PROTOCOL_ERROR:
            self._state = ConnectionState.STOPPING
        self._requests.close()

    async def refuse(self, error: SpeechError) -> None:
        """Say why this client is not served, and close. Raises nothing."""
        with contextlib.suppress(OSError, asyncio.TimeoutError):
            await wait_for(_FAREWELL_SECONDS, self._write_and_close(error))
        self._writer.abort()

    async def _write_and_close(self, error: SpeechError) -> None:
        await self._writer.write(Error(error).event())
        await self._writer.close()

    # Reading

    async def _read_events(self) -> None:
        while True:
            try:
                event = await self._next_event()
            except InvalidEvent as error:
                await self._close_with_error(error)
                return
            if event is None:
                return
            try:
                await self._handle(event)
                self._faults = 0
            except SpeechError as error:
                _LOGGER.warning("%s refused: %s", truncate(event.type), error.public)
                await self._writer.write(Error(error).event())
                self._faults += 1
            del event  # it may be large, and the next one may never come
            if self._faults >= MAX_EVENT_FAULTS:
                await self._close_with_error(InvalidEvent(f"{self._faults} events one after the other made no sense"))
                return
            if len(self._requests) > MAX_UNANSWERED:
                await self._close_with_error(
                    ServerBusy(f"{len(self._requests)} requests of this connection are not answered")
                )
                return

    async def _close_with_error(self, error: SpeechError) -> None:
        """Say why the connection ends; whoever returns from reading ends it."""
        self._state = ConnectionState.PROTOCOL_ERROR
        _LOGGER.warning("Closing a connection: %s", error.public)
        with contextlib.suppress(OSError):
            await self._writer.write(Error(error).event())

    async def _next_event(self) -> Event | None:
        """Returns the client's next event, or None if it left or was idle for too long. Raises InvalidEvent."""
        reading = asyncio.ensure_future(self._events.read())
        try:
            while True:
                if await ends_within(self._settings.idle_timeout, reading):
                    return reading.result()
                if not self.busy:
                    _LOGGER.debug("Closing a connection that was idle for %g s", self._settings.idle_timeout)
                    return None
        finally:
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError, InvalidEvent, OSError):
                await reading

    async def _handle(self, event: Event) -> None:
        """Do what an event asks for. Raises SpeechError where it makes no sense."""
        if event.type == DESCRIBE:
            await self._writer.write(describe(self._service).event())
        elif event.type == Ping.type:
            await self._writer.write(Pong(text=Ping.from_event(event).text).event())
        elif event.type == SelectProgram.type:
            self._model = self._model_of(SelectProgram.from_event(event).name)
        elif event.type == Synthesize.type:
            self._streaming.on_synthesize(functools.partial(self._new_request, event))
        elif event.type == SynthesizeStart.type:
            self._streaming.on_start(functools.partial(self._new_request, event))
        elif event.type == SynthesizeChunk.type:
            self._streaming.on_chunk(event)
        elif event.type == SYNTHESIZE_STOP:
            self._streaming.on_stop()
        else:
            _LOGGER.debug("Ignoring an event of type %s", truncate(event.type))

    def _model_of(self, program: str) -> str | None:
        """Returns the model of a program; None: any, by the voice. Raises ProgramNotFound."""
        models: dict[str, str | None] = {PROGRAM_NAME: None}
        models.update((program_of(model.name), model.name) for model in self._service.further_models)
        if program not in models:
            raise ProgramNotFound(f"There is no program {truncate(program)}; available: {', '.join(models)}")
        return models[program]

    def _new_request(self, event: Event) -> PendingRequest:
        """Returns the request that a `synthesize` or `synthesize-start` is, refused if it cannot be answered."""
        request = SpeechRequest(
            self._service.new_text(), model=self._model, streamed=event.type == SynthesizeStart.type
        )
        error: SpeechError | None = None
        try:
            if request.streamed:
                _choose(request, SynthesizeStart.from_event(event))
            else:
                asked = Synthesize.from_event(event)
                _choose(request, asked)
                request.text = self._service.whole_text(asked.text)
        except SpeechError as problem:
            error = problem
        pending = PendingRequest(request)
        error = self._refusal() or error
        if error is not None:
            pending.refuse(error)
        return pending

    def _refusal(self) -> SpeechError | None:
        """Returns why no further request of this connection is answered now, or None if it is."""
        if self._state is ConnectionState.STOPPING:
            return ShuttingDown("The server is stopping")
        if self._requests.is_full:
            return ServerBusy(f"{len(self._requests)} requests of this connection are waiting already")
        if sum(pending.request.text.waiting_chars for pending in self._requests) > self._settings.max_text_chars:
            return ServerBusy("The requests of this connection that are waiting have too much text already")
        if not self.busy and not self._may_ask(self):
            return ServerBusy("Too many clients have requests already; try again later, or raise --max-connections")
        return None


def _choose(request: SpeechRequest, asked: Synthesize | SynthesizeStart) -> None:
    request.voice, request.language, request.speaker = asked.voice.name, asked.voice.language, asked.voice.speaker
    request.ssml = asked.ssml
