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
from ..waiting import within
from .answers import audio_chunks, audio_start, audio_stop, error_event
from .events import EventReader, EventWriter, shortened
from .info import PROGRAM_NAME, describe
from .requests import chosen_voice, is_ssml, no_string

_LOGGER = logging.getLogger(__name__)

MAX_PENDING = 16
"""Requests that one connection may have waiting. Home Assistant has one; a queue is for impatient scripts."""

MAX_UNANSWERED = 256
"""Requests, the refused ones included (they keep no text), after which a client is let go."""


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


class Connection:
    """Serves one client until it leaves."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, service: SpeechService, settings: Settings
    ) -> None:
        self._events = EventReader(reader, settings.event_timeout)
        self._writer = EventWriter(writer, settings.write_timeout)
        self._service = service
        self._settings = settings
        self._turns: deque[_Turn] = deque()
        self._work = asyncio.Event()
        self._open: _Turn | None = None  # the stream whose text is arriving
        self._stopping = False
        self._finished_reading = False
        self._broken = False  # what the client said made no sense: nothing of it is finished
        self._last_active = time.monotonic()

    @property
    def busy(self) -> bool:
        """Whether something is spoken or waits to be."""
        return bool(self._turns)

    @property
    def silence(self) -> float:
        """Seconds in which the client asked for nothing; 0 while it is busy or says something."""
        return 0.0 if self.busy or self._events.inside else time.monotonic() - self._last_active

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
                self._end_open_text()
                self._work.set()
                await asyncio.wait((speaking,))
        finally:
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
        with contextlib.suppress(OSError):
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
            self._last_active = time.monotonic()
            try:
                await self._handle(event)
            except SpeechError as error:
                _LOGGER.warning("%s refused: %s", shortened(event.type), error)
                await self._writer.write(error_event(error))
            if len(self._turns) > MAX_UNANSWERED:
                await self._break_off(ServerBusy(f"{len(self._turns)} requests of this connection are not answered"))
                return

    async def _break_off(self, error: SpeechError) -> None:
        """Say why the connection ends; whoever returns from reading ends it."""
        self._broken = True
        _LOGGER.warning("Closing a connection: %s", error)
        with contextlib.suppress(OSError):
            await self._writer.write(error_event(error))

    async def _next_event(self) -> Event | None:
        reading = asyncio.ensure_future(self._events.read())
        try:
            while True:
                done, _ = await asyncio.wait((reading,), timeout=self._settings.idle_timeout)
                if done:
                    return reading.result()
                if not self.busy:
                    _LOGGER.debug("Closing a connection that was idle for %g s", self._settings.idle_timeout)
                    return None
        finally:
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError, InvalidEvent, OSError):
                await reading

    async def _handle(self, event: Event) -> None:
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
            self._end_open_text()
        else:
            _LOGGER.debug("Ignoring an event of type %s", shortened(event.type))

    def _end_open_text(self) -> None:
        if self._open is not None:
            self._open.request.text.close()
            self._open.ended.set()
            self._open = None

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
                self._last_active = time.monotonic()

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
