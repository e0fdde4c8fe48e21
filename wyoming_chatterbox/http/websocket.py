"""WS /ws/stream/audio: utterances in, audio out while it is made, several on one connection.

A task reads and a task speaks, as in the Wyoming edge: a client that leaves or cancels is noticed at once. What waits
for a slow client is one frame and the socket's buffer; behind it the engine stops at the end of its sentence.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import secrets
import time
from collections import deque
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ValidationError
from starlette.websockets import WebSocket, WebSocketDisconnect

from ..audio import CHANNELS, SAMPLE_WIDTH
from ..errors import WyomingChatterboxError
from ..faults import log_fault
from ..hosting.base import AudioChunk
from ..json_limits import parse
from ..limits import MAX_MESSAGE_FAULTS, MAX_PENDING
from ..speech.errors import EmptyText, InvalidEvent, ServerBusy, ShuttingDown, SpeechError
from ..speech.request import SpeechRequest
from ..speech.utterance import Utterance
from ..waiting import ends_within, within
from .encoders import encoder_for
from .errors import Unauthorized
from .messages import (
    CLIENT,
    CancelUtterance,
    Chunk,
    Connected,
    End,
    Failed,
    Format,
    Metrics,
    Ping,
    Pong,
    Start,
    Started,
    Text,
)
from .models_route import voice_list
from .quoting import quoted
from .state import EdgeState, State
from .transport import ClientTransport
from .validation import to_speech_error

_LOGGER = logging.getLogger(__name__)

router = APIRouter()

SUBPROTOCOL = "chatterbox"

MAX_FRAME_SECONDS = 5.0
"""Longest audio in one frame: 480 kB at 48 kHz, half of what clients take by default (1 MiB)."""

GOING_AWAY, POLICY, INTERNAL, TRY_LATER, RESTART, UNAUTHORIZED = 1001, 1008, 1011, 1013, 1012, 3000
"""Codes that a connection is closed with; 3000 is registered for "Unauthorized"."""

TOKEN_SECONDS = 2.0
"""Between two looks whether the token of a connection still counts; it is looked up before every utterance too."""


@router.websocket("/ws/stream/audio")
async def stream_audio(websocket: WebSocket, state: State) -> None:
    """Serve one connection."""
    session = WebSocketSession(websocket, state)
    await session.run()


class _Turn:
    """One utterance of a connection, from its start to its metrics."""

    def __init__(self, request: SpeechRequest, name: str | None, response_format: str) -> None:
        self.request = request
        self.name = name
        self.response_format = response_format
        self.cancelled = asyncio.Event()
        self.error: SpeechError | None = None
        """It is refused; it is answered in its turn all the same."""

        self.utterance: Utterance | None = None
        """What speaks it; None before it is its turn, and where it is refused."""

        self.frames = 0
        self.samples = 0
        self.first_audio: float | None = None
        self.all_cached = True

    @property
    def elapsed(self) -> float:
        """Seconds since its start message was read."""
        return time.perf_counter() - self.request.received


class WebSocketSession:
    """One client's connection."""

    def __init__(self, websocket: WebSocket, state: EdgeState) -> None:
        self.id = secrets.token_hex(8)
        self._socket = websocket
        self._state = state
        self._service = state.service
        self._transport: ClientTransport = websocket.scope["state"]["transport"]
        self._token: str | None = websocket.scope["state"].get("token")
        self._writing = asyncio.Lock()
        self._turns: deque[_Turn] = deque()
        self._work = asyncio.Event()
        self._open: _Turn | None = None  # the one whose text is arriving
        self._sending: asyncio.Future[None] | None = None  # a chunk with its frame
        self._faults = 0
        self._stopping = False
        self._must_end = asyncio.Event()
        self._ended = asyncio.Event()

    # As an ActiveStream

    def stop(self) -> None:
        self._stopping = True
        self._work.set()

    def end(self) -> None:
        self._must_end.set()

    async def ended(self) -> None:
        await self._ended.wait()

    async def run(self) -> None:
        """Serve until the client leaves, is cut off or has been idle for too long."""
        offered = self._socket.scope["subprotocols"]
        await self._socket.accept(SUBPROTOCOL if SUBPROTOCOL in offered else None)
        refusal = self._refusal()
        if refusal is not None:
            await self._close_with(refusal, RESTART if isinstance(refusal, ShuttingDown) else TRY_LATER)
            return
        self._state.active_streams.add(self)
        self._state.open_websockets += 1
        tasks = [
            asyncio.create_task(self._read(), name="reading"),
            asyncio.create_task(self._speak_turns(), name="speaking"),
            asyncio.create_task(self._watch_token(), name="watching the token"),
            asyncio.create_task(self._must_end.wait()),
        ]
        watched = tasks[:3]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in watched:
                task.cancel()
            # A cancellation of this task itself is not among the results: gather() raises it.
            results = await asyncio.gather(*watched, return_exceptions=True)
            await self._say_goodbye([one for one in results if isinstance(one, Exception)])
        finally:
            for task in tasks:
                task.cancel()
            if self._sending is not None:
                self._sending.cancel()
            self._state.open_websockets -= 1
            self._state.active_streams.discard(self)
            self._ended.set()
            _LOGGER.debug("WebSocket %s ended", self.id)

    def _refusal(self) -> SpeechError | None:
        if self._state.stopping:
            return ShuttingDown("The server is stopping")
        if self._state.open_websockets >= self._state.settings.max_connections:
            _LOGGER.warning("Refusing a WebSocket: %d are open (--max-connections)", self._state.open_websockets)
            return ServerBusy(f"{self._state.open_websockets} WebSockets are open already; try again later")
        return None

    async def _say_goodbye(self, faults: list[Exception]) -> None:
        """Close the connection with the reason why it ends."""
        fault = next((one for one in faults if not isinstance(one, ClientDisconnected)), None)
        if isinstance(fault, PolicyViolation):
            await self._close_with(fault.error, fault.code)
        elif isinstance(fault, WriteTimeout):
            _LOGGER.warning("WebSocket %s: cut off, %s", self.id, fault)
            self._transport.abort()
        elif fault is not None:
            log_fault(_LOGGER, fault, "WebSocket %s ended with an error of the server", self.id)
            await self._close_with(SpeechError("The server failed; its log says more"), INTERNAL)
        elif self._stopping and not any(isinstance(one, ClientDisconnected) for one in faults):
            if self._turns:
                await self._close_with(ShuttingDown("The server stops before the utterance was finished"), RESTART)
            else:
                await self._close(RESTART, "the server is stopping")

    async def _close_with(self, error: SpeechError, code: int) -> None:
        with contextlib.suppress(ClientDisconnected, WriteTimeout):
            name = self._turns[0].name if self._turns else None
            await self._send(Failed(code=error.code, message=str(error), id=name))
        await self._close(code, str(error))

    async def _close(self, code: int, reason: str) -> None:
        with contextlib.suppress(Exception):
            # A reason has 123 bytes at most.
            await within(
                self._state.settings.write_timeout,
                self._socket.close(code, reason.encode()[:120].decode("utf-8", "ignore")),
            )

    # Reading

    async def _read(self) -> None:
        await self._send(
            Connected(
                connection_id=self.id,
                model=self._service.readiness().model,
                status=self._service.describe(),
                voices=voice_list(self._service).voices,
                sample_rate=self._service.sample_rate,
            )
        )
        while True:
            message = await self._next_message()
            try:
                await self._handle(message)
                self._faults = 0
            except SpeechError as error:
                _LOGGER.warning("WebSocket %s: %s", self.id, quoted(error))
                await self._send(Failed(code=error.code, message=str(error)))
                self._faults += 1
                if self._faults >= MAX_MESSAGE_FAULTS:
                    raise PolicyViolation(
                        InvalidEvent(f"{MAX_MESSAGE_FAULTS} messages one after the other made no sense"), POLICY
                    ) from None

    async def _next_message(self) -> dict[str, Any]:
        """Returns the client's next message.

        Raises:
            ClientDisconnected: there is none.
            PolicyViolation: the client was idle for too long.
        """
        receiving = asyncio.ensure_future(self._socket.receive())
        limit = self._state.settings.idle_timeout
        try:
            while True:
                if not await ends_within(limit, receiving):
                    if not self._turns:
                        raise PolicyViolation(InvalidEvent(f"the connection was idle for {limit:g} s"), GOING_AWAY)
                    continue
                message = dict(receiving.result())
                if message["type"] == "websocket.disconnect":
                    raise ClientDisconnected
                self._note_use()
                return message
        finally:
            receiving.cancel()

    def _note_use(self) -> None:
        """Tell the connection that it is in use: it would else give way to others after some silence."""
        self._transport.since = asyncio.get_running_loop().time()
        self._transport.speaking = bool(self._turns)

    async def _watch_token(self) -> None:
        """Raises PolicyViolation when the connection's token is revoked."""
        while True:
            await self._check_token()
            await asyncio.sleep(TOKEN_SECONDS)

    async def _check_token(self) -> None:
        tokens = self._state.tokens
        if tokens is not None and self._token is not None and not await tokens.accept(self._token):
            raise PolicyViolation(Unauthorized("The token was revoked (see --http-token-file)"), UNAUTHORIZED)

    async def _handle(self, message: dict[str, Any]) -> None:
        text = message.get("text")
        if text is None:
            raise InvalidEvent("Messages to the server are JSON in text frames; this one is binary")
        raw = _json_object(text)
        if raw.get("type") == "start":
            self._start(raw)
            return
        try:
            said = CLIENT.validate_python(raw)
        except ValidationError as error:
            raise InvalidEvent(str(to_speech_error(list(error.errors()))[0])) from None
        if isinstance(said, Text):
            if self._open is None:
                raise InvalidEvent("text came without a start whose text is open")
            self._open.request.text.feed(said.text)
        elif isinstance(said, End):
            if self._open is None:
                raise InvalidEvent("end came without a start whose text is open")
            self._open.request.text.close()
            self._open = None
        elif isinstance(said, CancelUtterance):
            self._cancel(said.id)
        elif isinstance(said, Ping):
            await self._send(Pong())

    def _start(self, raw: dict[str, Any]) -> None:
        if self._open is not None:
            # Two texts in one answer would be worse than none.
            self._open.request.text.fail(InvalidEvent("start came before the end of the text before it"))
            self._open = None
        turn = self._turn_for(raw)
        if len(self._turns) >= 2 * MAX_PENDING:  # the refused ones are answered too, and kept until then
            raise PolicyViolation(
                InvalidEvent(f"{len(self._turns)} utterances of this connection are not answered"), POLICY
            )
        if turn.error is None and len(self._turns) >= MAX_PENDING:
            turn.error = ServerBusy(f"{len(self._turns)} utterances of this connection are waiting already")
        if self._stopping:
            turn.error = ShuttingDown("The server is stopping")
        if turn.error is not None:
            turn.request.text.drop()
        self._turns.append(turn)
        self._note_use()
        self._work.set()

    def _turn_for(self, raw: dict[str, Any]) -> _Turn:
        """The turn that a start message asks for, with an error where it asks for what is not allowed."""
        name = raw.get("id") if isinstance(raw.get("id"), str) else None
        try:
            start = CLIENT.validate_python(raw)
            assert isinstance(start, Start)
        except ValidationError as error:
            turn = _Turn(SpeechRequest(self._service.new_text(), edge="ws"), name and name[:200], "pcm")
            turn.error = to_speech_error(list(error.errors()))[0]
            if raw.get("text") is None:
                self._open = turn
            return turn
        whole = start.text is not None
        text = self._service.new_text() if start.text is None else self._service.whole_text(start.text)
        request = SpeechRequest(
            text,
            voice=start.voice or None,
            language=start.language or None,
            speaker=start.speaker or None,
            settings=start.overrides(),
            streamed=not whole,
            edge="ws",
        )
        turn = _Turn(request, start.id, start.response_format or "pcm")
        if start.text == "":
            turn.error = EmptyText("The start message has an empty text; leave it out where the text follows")
        if not whole:
            self._open = turn
        return turn

    def _cancel(self, name: str | None) -> None:
        for turn in self._turns:
            if name is None or turn.name == name:
                turn.cancelled.set()
                if turn is self._open:
                    turn.request.text.drop()
                return

    # Speaking

    async def _speak_turns(self) -> None:
        while True:
            while not self._turns:
                if self._stopping:
                    return
                self._work.clear()
                await self._work.wait()
            await self._check_token()
            await self._answer(self._turns[0])
            self._turns.popleft()
            self._note_use()

    async def _answer(self, turn: _Turn) -> None:
        """Speak one utterance, unless it is cancelled; in any case send the metrics that end it."""
        outcome = "finished"
        speaking = asyncio.create_task(self._speak(turn))
        cancelling = asyncio.create_task(turn.cancelled.wait())
        try:
            if not turn.cancelled.is_set():
                await asyncio.wait((speaking, cancelling), return_when=asyncio.FIRST_COMPLETED)
            if not speaking.done():
                outcome = "cancelled"
                speaking.cancel()
                # Not `await speaking`: a cancellation of this task itself would look like the one of `speaking`.
                await asyncio.wait((speaking,))
            if not speaking.cancelled():
                speaking.result()
        except SpeechError as error:
            outcome = error.code
            await self._send(Failed(code=error.code, message=str(error), id=turn.name))
        except (ClientDisconnected, WriteTimeout):
            raise
        except Exception as error:
            outcome = SpeechError.code
            log_fault(_LOGGER, error, "Utterance %d ended with an error of the server", turn.request.id)
            await self._send(Failed(code=outcome, message=f"The server failed: {error}", id=turn.name))
        finally:
            speaking.cancel()
            cancelling.cancel()
            await asyncio.gather(speaking, return_exceptions=True)
        turn.request.text.drop()
        if self._sending is not None:
            await self._sending
        await self._send(self._metrics(turn, outcome))

    async def _speak(self, turn: _Turn) -> None:
        if turn.error is not None:
            raise turn.error
        rate = self._service.sample_rate
        encoder = encoder_for(turn.response_format, rate)
        frame = CHANNELS * SAMPLE_WIDTH
        size = round(MAX_FRAME_SECONDS * rate) * frame
        turn.utterance = self._service.speak(turn.request)
        held, last = 0, None  # samples that the encoder has not given out yet
        async with aclosing(turn.utterance.chunks()) as pieces:
            async for piece in pieces:
                if last is None:
                    await self._send(self._started(turn, piece))
                last = piece
                for start in range(0, len(piece.pcm), size):
                    pcm = piece.pcm[start : start + size]
                    data = await self._state.encode(encoder, pcm)
                    held += len(pcm) // frame
                    if data:
                        await self._send_chunk(turn, data, held, piece)
                        held = 0
        data = await self._state.encode(encoder, None)
        if data and last is not None:
            await self._send_chunk(turn, data, held, last)

    def _started(self, turn: _Turn, piece: AudioChunk) -> Started:
        encoding = "pcm_s16le" if turn.response_format == "pcm" else turn.response_format
        return Started(
            utterance=turn.request.id,
            id=turn.name,
            model=piece.voice.model,
            voice=piece.voice.name,
            fallback=piece.fallback,
            format=Format(encoding=encoding, sample_rate=self._service.sample_rate),  # type: ignore[arg-type]
        )

    async def _send_chunk(self, turn: _Turn, data: bytes, samples: int, piece: AudioChunk) -> None:
        # Shielded: who cancels gets the frame of a chunk that was announced.
        self._sending = asyncio.ensure_future(self._write_chunk(turn, data, samples, piece))
        await asyncio.shield(self._sending)

    async def _write_chunk(self, turn: _Turn, data: bytes, samples: int, piece: AudioChunk) -> None:
        sent = turn.elapsed
        chunk = Chunk(
            index=turn.frames,
            bytes=len(data),
            samples=samples,
            offset=turn.samples / self._service.sample_rate,
            made=max(0.0, piece.produced_at - turn.request.received),
            sent=sent,
            voice=piece.voice.name,
            fallback=piece.fallback,
            cached=piece.cached,
        )
        async with self._writing:  # nothing comes between a chunk and its frame
            await self._write(_json(chunk))
            await self._write(data)
        if turn.first_audio is None:
            turn.first_audio = sent
        turn.frames += 1
        turn.samples += samples
        turn.all_cached = turn.all_cached and piece.cached

    def _metrics(self, turn: _Turn, outcome: str) -> Metrics:
        cost = turn.utterance.metrics if turn.utterance else None
        return Metrics(
            utterance=turn.request.id,
            id=turn.name,
            outcome=outcome,
            first_audio=turn.first_audio,
            first_chunk=cost.first_chunk if cost else None,
            rtf=cost.rtf if cost else None,
            chunks=turn.frames,
            sentences=cost.sentences if cost else 0,
            chars=cost.chars if cost else 0,
            audio_duration=turn.samples / self._service.sample_rate,
            generation_time=cost.generation if cost else 0.0,
            total_time=turn.elapsed,
            model=cost.model if cost else "-",
            voice=cost.voice if cost else "-",
            fallback=cost.fallback if cost else False,
            cached=turn.frames > 0 and turn.all_cached,
        )

    # Writing

    async def _send(self, message: BaseModel) -> None:
        async with self._writing:
            await self._write(_json(message))

    async def _write(self, data: str | bytes) -> None:
        """Raises ClientDisconnected where the client left, WriteTimeout where it takes nothing."""
        limit = self._state.settings.write_timeout
        sending = self._socket.send_text(data) if isinstance(data, str) else self._socket.send_bytes(data)
        try:
            await within(limit, sending)
        except asyncio.TimeoutError:
            raise WriteTimeout(f"the client took no audio for {limit:g} s") from None
        except (WebSocketDisconnect, RuntimeError, OSError):
            raise ClientDisconnected from None


class ClientDisconnected(WyomingChatterboxError):
    """The client left."""


class WriteTimeout(WyomingChatterboxError):
    """The client does not take what it asked for."""


class PolicyViolation(WyomingChatterboxError):
    """The connection is closed for what the client did, or did not do."""

    def __init__(self, error: SpeechError, code: int) -> None:
        super().__init__(str(error))
        self.error = error
        self.code = code


def _json(message: BaseModel) -> str:
    """In ASCII: what a client sent (lone surrogates, say) can be said back to it whatever it is."""
    return json.dumps(message.model_dump(), separators=(",", ":"))


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = parse(text.encode("utf-8", "surrogatepass"))
    except ValueError as error:
        raise InvalidEvent(f"A message is not JSON: {str(error)[:100]}") from None
    if not isinstance(value, dict):
        raise InvalidEvent("A message is not a JSON object")
    return value
