"""One client's connection: a task that reads events and a task that speaks.

Reading and speaking are apart so that `describe` is answered while audio is sent, and so that a client that
leaves is noticed at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field

from wyoming.event import Event
from wyoming.ping import Pong
from wyoming.tts import SynthesizeStopped

from ..audio import CHANNELS, SAMPLE_WIDTH
from ..faults import log_fault
from ..settings import Settings
from ..speech.errors import (
    EmptyText,
    InvalidEvent,
    ProgramNotFound,
    ServerBusy,
    ShuttingDown,
    SpeechError,
)
from ..speech.request import SpeechRequest, TextStream
from ..speech.service import Speech, SpeechService
from ..waiting import ends_within, within
from .answers import audio_chunks, audio_start, audio_stop, error_event
from .events import LARGE_EVENTS, EventReader, EventWriter, shortened
from .info import PROGRAM_NAME, describe
from .pool import STALLED_SECONDS, Standing, State, elapsed
from .requests import chosen_voice, is_ssml, no_string

_LOGGER = logging.getLogger(__name__)

MAX_PENDING = 16
"""Requests that one connection may have waiting. Home Assistant has one; a queue is for impatient scripts."""

MAX_UNANSWERED = 256
"""Requests, the refused ones included (they keep no text), after which a client is let go."""


MAX_FAULTS = 64
"""Events in a row that make no sense where they come, after which a client is let go. One that goes on with a stream
which the server does not know of sends as many deltas in a few seconds."""

GIVEN_UP_SECONDS = 2.0
"""A `synthesize` inside a stream that failed is the stream's whole text once more, and its synthesize-stop follows
within milliseconds, or it is a new request of a client that gave the stream up. After so long it is the latter."""

_FAREWELL_SECONDS = 1.0
"""How long a client that is let go may take to take the reason."""


@dataclass
class _Turn:
    """One request on this connection, until it is answered."""

    request: SpeechRequest
    streamed: bool
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """The client said all of it: at once for `synthesize`, with `synthesize-stop` for a stream."""

    error: SpeechError | None = None
    """The request is refused; it is still answered in its turn."""

    failed: bool = False
    """The client was told of an error."""

    unended_since: float | None = None
    """time.monotonic() since which it is answered, but its text goes on."""


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
            may_ask: whether there is room for a request of this connection.
            large_events: shared with the other connections, see EventReader; None: there are none.
        """
        self._events = EventReader(reader, settings.event_timeout, large_events or asyncio.Semaphore(LARGE_EVENTS))
        self._may_ask = may_ask
        self._writer = EventWriter(writer, settings.write_timeout)
        self._service = service
        self._settings = settings
        self._turns: deque[_Turn] = deque()
        self._work = asyncio.Event()
        self._open: _Turn | None = None  # the stream whose text is arriving
        self._stopping = False
        self._finished_reading = False
        self._broken = False  # what the client said made no sense: nothing of it is finished
        self._idle_since = time.monotonic()
        self._faults = 0
        self._postponed: _Turn | None = None  # a synthesize that came inside a stream that failed
        self._giving_up: asyncio.TimerHandle | None = None

    @property
    def busy(self) -> bool:
        """Whether something is spoken or waits to be."""
        return bool(self._turns)

    @property
    def standing(self) -> Standing:
        """What this connection is at, for the pool."""
        if not self.busy:
            if self._events.inside_since is not None:
                return Standing(State.INSIDE_EVENT, elapsed(self._events.inside_since))
            return Standing(State.IDLE, elapsed(self._idle_since))
        turn = self._turns[0]
        if elapsed(self._writer.blocked_since) >= STALLED_SECONDS:
            return Standing(State.STALLED, elapsed(self._writer.blocked_since))
        if turn.unended_since is not None:
            return Standing(State.WRITING, elapsed(turn.unended_since))
        if turn.streamed and turn.request.text.starved_since is not None:
            return Standing(State.WRITING, elapsed(turn.request.text.starved_since))
        return Standing(State.SERVED, 0.0)

    async def run(self, *, finish_after_eof: bool = False) -> None:
        """Serve until the client leaves, is cut off or has been idle for too long. Raises nothing.

        Args:
            finish_after_eof: the end of the input is the end of the requests, not of the client (stdio, where
                input comes from a pipe); else a client that closes is gone and its work is cancelled.
        """
        speaking = asyncio.create_task(self._speak_turns(), name="speaking")
        reading = asyncio.create_task(self._read_events(), name="reading")
        try:
            await asyncio.wait((reading, speaking), return_when=asyncio.FIRST_COMPLETED)
            if reading.done() and finish_after_eof and not self._broken:
                self._finished_reading = True
                self._give_up_for_postponed()
                self._end_open_text()
                self._work.set()
                await asyncio.wait((speaking,))
        finally:
            self._forget_postponed()
            for task in (reading, speaking):
                task.cancel()
            for result in await asyncio.gather(reading, speaking, return_exceptions=True):
                # Not only ConnectionError: a host that vanished is EHOSTUNREACH, a silent one ETIMEDOUT.
                if isinstance(result, OSError):
                    _LOGGER.debug("Connection lost: %s", result)
                elif isinstance(result, Exception):
                    log_fault(_LOGGER, result, "A connection ended with an error of the server")
            await self._writer.close()

    async def stop(self) -> None:
        """The server stops: no further requests; `run` returns when what is spoken has been spoken."""
        self._stopping = True
        self._work.set()

    async def refuse(self, error: SpeechError) -> None:
        """Say why this client is not served, and close. Raises nothing."""
        with contextlib.suppress(OSError, asyncio.TimeoutError):
            await within(_FAREWELL_SECONDS, self._say_and_close(error))
        self._writer.abort()

    async def _say_and_close(self, error: SpeechError) -> None:
        await self._writer.write(error_event(error))
        await self._writer.close()

    # Reading

    async def _read_events(self) -> None:
        while True:
            try:
                event = await self._next_event()
            except InvalidEvent as error:
                await self._break_off(error)
                return
            if event is None:
                return
            try:
                await self._handle(event)
                self._faults = 0
            except SpeechError as error:
                _LOGGER.warning("%s refused: %s", shortened(event.type), error.public)
                await self._writer.write(error_event(error))
                self._faults += 1
            del event  # it may be large, and the next one may never come
            if self._faults >= MAX_FAULTS:
                await self._break_off(InvalidEvent(f"{self._faults} events one after the other made no sense"))
                return
            if len(self._turns) > MAX_UNANSWERED:
                await self._break_off(ServerBusy(f"{len(self._turns)} requests of this connection are not answered"))
                return

    async def _break_off(self, error: SpeechError) -> None:
        """Say why the connection ends; whoever returns from reading ends it."""
        self._broken = True
        _LOGGER.warning("Closing a connection: %s", error.public)
        with contextlib.suppress(OSError):
            await self._writer.write(error_event(error))

    async def _next_event(self) -> Event | None:
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
        if event.type in ("synthesize", "synthesize-start"):
            self._give_up_for_postponed()
        if event.type == "describe":
            await self._writer.write(describe(self._service).event())
        elif event.type == "ping":
            text = event.data.get("text")
            await self._writer.write(Pong(text=text if isinstance(text, str) else None).event())
        elif event.type == "select-program":
            name = event.data.get("name")
            if name != PROGRAM_NAME:
                raise ProgramNotFound(f"There is no program {shortened(name)}; there is: {PROGRAM_NAME}")
        elif event.type == "synthesize":
            # Inside a stream it is the whole text again, for servers that know no streaming.
            if self._open is None:
                self._add_turn(self._new_turn(event, streamed=False))
            elif self._open.failed or self._open.error:
                self._postpone(self._new_turn(event, streamed=False))
        elif event.type == "synthesize-start":
            if self._open is not None and not (self._open.failed or self._open.error):
                # Two texts in one answer would be worse than none; its synthesize-stop is still to come.
                self._open.request.text.fail(
                    InvalidEvent("synthesize-start came before the synthesize-stop of the stream before it")
                )
                return
            self._end_open_text()  # the client gave up the stream that failed
            self._open = self._new_turn(event, streamed=True)
            self._add_turn(self._open)
        elif event.type == "synthesize-chunk":
            if self._open is None:
                raise InvalidEvent("synthesize-chunk came without a synthesize-start")
            piece = event.data.get("text")
            if not isinstance(piece, str):
                self._open.request.text.fail(no_string("text", piece))
            else:
                self._open.request.text.feed(piece)
        elif event.type == "synthesize-stop":
            if self._open is None:
                raise InvalidEvent("synthesize-stop came without a synthesize-start")
            self._forget_postponed()
            self._end_open_text()
        else:
            _LOGGER.debug("Ignoring an event of type %s", shortened(event.type))

    def _end_open_text(self) -> None:
        if self._open is not None:
            self._open.request.text.close()
            self._open.ended.set()
            self._open = None

    def _postpone(self, turn: _Turn) -> None:
        """Keep a request until it is clear that it is one, see GIVEN_UP_SECONDS."""
        self._postponed = turn
        loop = asyncio.get_running_loop()
        self._giving_up = loop.call_later(GIVEN_UP_SECONDS, self._give_up_for_postponed)

    def _give_up_for_postponed(self) -> None:
        """Answer the request that was postponed, if there is one: the stream before it was given up."""
        turn = self._postponed
        self._forget_postponed()
        if turn is not None:
            self._end_open_text()
            self._add_turn(turn)

    def _forget_postponed(self) -> None:
        self._postponed = None
        if self._giving_up is not None:
            self._giving_up.cancel()
            self._giving_up = None

    def _new_turn(self, event: Event, *, streamed: bool) -> _Turn:
        error: SpeechError | None = None
        text = self._service.new_text()
        request = SpeechRequest(text, streamed=streamed)
        try:
            request.voice, request.language, request.speaker = chosen_voice(event)
            request.ssml = is_ssml(event)
            if not streamed:
                request.text = self._whole_text(event)
        except SpeechError as problem:
            error = problem
        if len(self._turns) >= MAX_PENDING:
            error = ServerBusy(f"{len(self._turns)} requests of this connection are waiting already")
        elif sum(turn.request.text.waiting_chars for turn in self._turns) > self._settings.max_text_chars:
            error = ServerBusy("The requests of this connection that are waiting have too much text already")
        elif not self.busy and not self._may_ask(self):
            error = ServerBusy("Too many clients have requests already; try again later, or raise --max-connections")
        if self._stopping:
            error = ShuttingDown("The server is stopping")
        turn = _Turn(request, streamed, error=error)
        if error is not None:
            request.text.drop()
        if not streamed:
            turn.ended.set()
        return turn

    def _whole_text(self, event: Event) -> TextStream:
        text = event.data.get("text")
        if text is None:
            raise EmptyText("The synthesize event has no text")
        if not isinstance(text, str):
            raise no_string("text", text)
        return self._service.whole_text(text)

    def _add_turn(self, turn: _Turn) -> None:
        self._turns.append(turn)
        self._work.set()

    # Speaking

    async def _speak_turns(self) -> None:
        while True:
            while not self._turns:
                if self._stopping or self._finished_reading:
                    return
                self._work.clear()
                await self._work.wait()
            turn = self._turns[0]
            try:
                await self._speak(turn)
            finally:
                self._turns.popleft()
                self._idle_since = time.monotonic()

    async def _speak(self, turn: _Turn) -> None:
        """Answer one request: audio, or an error; in any case the event that ends it."""
        rate = self._service.sample_rate
        seconds = 0.0
        last: Speech | None = None
        try:
            if turn.error is not None:
                raise turn.error
            async with aclosing(self._service.speak(turn.request)) as pieces:
                async for piece in pieces:
                    if last is None:
                        await self._writer.write(audio_start(rate, piece))
                    for chunk in audio_chunks(rate, piece.pcm, seconds):
                        await self._writer.write(chunk)
                    last = piece
                    seconds += len(piece.pcm) / (SAMPLE_WIDTH * CHANNELS * rate)
            if last is None:
                await self._writer.write(audio_start(rate, None))
        except SpeechError as error:
            turn.failed = True
            await self._writer.write(error_event(error))
        except asyncio.CancelledError:
            if self._stopping:
                await self._say_stopping(turn)
            raise
        except OSError:
            raise  # there is nobody left to tell
        except Exception as error:
            turn.failed = True
            log_fault(_LOGGER, error, "Utterance %d ended with an error of the server", turn.request.id)
            await self._writer.write(error_event(SpeechError(f"The server failed: {error}")))
        await self._writer.write(audio_stop(seconds, last))
        if turn.streamed:
            # Home Assistant's writing task fails when the end comes before it has said everything. A text that
            # was given up (an error) may never be ended, so this wait has a limit of its own.
            turn.unended_since = time.monotonic()
            try:
                await within(self._settings.text_timeout, turn.ended.wait())
            except asyncio.TimeoutError:
                _LOGGER.warning("Utterance %d: its text was never ended; closing the connection", turn.request.id)
                raise ConnectionAbortedError("the text was never ended") from None
            await self._writer.write(SynthesizeStopped().event())

    async def _say_stopping(self, turn: _Turn) -> None:
        """The deadline of the shutdown is over: the client hears of it before the socket closes."""
        error = ShuttingDown("The server stops before the utterance was finished")
        with contextlib.suppress(OSError):
            await self._writer.write(error_event(error))
            await self._writer.write(audio_stop(0.0, None))
            if turn.streamed and turn.ended.is_set():
                await self._writer.write(SynthesizeStopped().event())
