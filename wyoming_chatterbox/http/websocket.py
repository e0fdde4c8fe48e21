"""WS /ws/stream/audio: utterances in, audio out while it is made, several on one connection.

A task reads and a task answers, as in the Wyoming edge: a client that leaves or cancels is noticed at once. For a slow
client, one frame and the socket's buffer are held; the engine behind it stops at the end of its sentence.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from typing import Any

from fastapi import APIRouter
from pydantic import ValidationError
from starlette.websockets import WebSocket

from ..faults import log_fault
from ..json_limits import parse
from ..limits import MAX_MESSAGE_FAULTS
from ..speech.errors import InvalidEvent, ServerBusy, ShuttingDown, SpeechError
from ..speech.turns import TurnQueue
from ..timeouts import ends_within
from .disconnects import ClientDisconnected, CloseCode, PolicyViolation, WriteTimeout
from .errors import Unauthorized
from .messages import CLIENT, CancelUtterance, Connected, End, Failed, Ping, Pong, Text
from .models_route import voice_list
from .quoting import quoted
from .state import EdgeState, State
from .transport import ClientTransport
from .validation import to_speech_error
from .websocket_requests import PendingUtterance, UtteranceInput
from .websocket_responses import UtteranceResponder
from .websocket_writer import MessageWriter

_LOGGER = logging.getLogger(__name__)

router = APIRouter()

SUBPROTOCOL = "chatterbox"

TOKEN_CHECK_SECONDS = 2.0
"""Between two checks whether the token of a connection is still valid; it is checked before every utterance too."""


@router.websocket("/ws/stream/audio")
async def stream_audio(websocket: WebSocket, state: State) -> None:
    """Serve one connection."""
    await WebSocketSession(websocket, state).run()


class WebSocketSession:
    """One client's connection."""

    def __init__(self, websocket: WebSocket, state: EdgeState) -> None:
        self.id = secrets.token_hex(8)
        self._socket = websocket
        self._state = state
        self._transport: ClientTransport = websocket.scope["state"]["transport"]
        self._token: str | None = websocket.scope["state"].get("token")
        self._writer = MessageWriter(websocket, state.settings.write_timeout)
        self._utterances: TurnQueue[PendingUtterance] = TurnQueue(on_change=self._mark_active)
        self._input = UtteranceInput(state.service, self._utterances)
        self._responder = UtteranceResponder(state, self._writer)
        self._faults = 0
        self._must_end = asyncio.Event()
        self._ended = asyncio.Event()

    # As an ActiveStream

    def stop(self) -> None:
        self._utterances.close()

    def end(self) -> None:
        self._must_end.set()

    async def ended(self) -> None:
        await self._ended.wait()

    # Its life

    async def run(self) -> None:
        """Serve until the client leaves, is cut off or has been idle for too long."""
        offered = self._socket.scope["subprotocols"]
        await self._socket.accept(SUBPROTOCOL if SUBPROTOCOL in offered else None)
        refusal = self._refusal()
        if refusal is not None:
            stopping = isinstance(refusal, ShuttingDown)
            await self._close(refusal, CloseCode.SERVICE_RESTART if stopping else CloseCode.TRY_AGAIN_LATER)
            return
        self._state.active_streams.add(self)
        self._state.open_websockets += 1
        tasks = [
            asyncio.create_task(self._read_messages(), name="reading"),
            asyncio.create_task(self._utterances.answer_all(self._answer), name="answering"),
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
            await self._say_goodbye([result for result in results if isinstance(result, Exception)])
        finally:
            for task in tasks:
                task.cancel()
            self._writer.abandon_chunk()
            self._state.open_websockets -= 1
            self._state.active_streams.discard(self)
            self._ended.set()
            _LOGGER.debug("WebSocket %s ended", self.id)

    def _refusal(self) -> SpeechError | None:
        if self._state.stopping:
            return ShuttingDown("The server is stopping")
        count = self._state.open_websockets
        if count >= self._state.settings.max_connections:
            _LOGGER.warning("Refusing a WebSocket: %d are open (--max-connections)", count)
            return ServerBusy(f"{count} WebSockets are open already; try again later")
        return None

    async def _say_goodbye(self, faults: list[Exception]) -> None:
        """Close the connection with the reason why it ends."""
        fault = next((fault for fault in faults if not isinstance(fault, ClientDisconnected)), None)
        if isinstance(fault, PolicyViolation):
            await self._close(fault.error, fault.code)
        elif isinstance(fault, WriteTimeout):
            _LOGGER.warning("WebSocket %s: cut off, %s", self.id, fault)
            self._transport.abort()
        elif fault is not None:
            log_fault(_LOGGER, fault, "WebSocket %s ended with an error of the server", self.id)
            await self._close(SpeechError("The server failed; its log says more"), CloseCode.INTERNAL_ERROR)
        elif self._utterances.is_closed and not faults:
            if self._utterances:
                error = ShuttingDown("The server stops before the utterance was finished")
                await self._close(error, CloseCode.SERVICE_RESTART)
            else:
                await self._writer.close(CloseCode.SERVICE_RESTART, "the server is stopping")

    async def _close(self, error: SpeechError, code: CloseCode) -> None:
        """Send an error, about the current utterance if there is one, and close the connection."""
        current = self._utterances.current
        with contextlib.suppress(ClientDisconnected, WriteTimeout):
            await self._writer.send(Failed(code=error.code, message=str(error), id=current.name if current else None))
        await self._writer.close(code, str(error))

    def _mark_active(self) -> None:
        """Tell the transport that the connection is in use: after some silence it would be closed for another one."""
        self._transport.since = asyncio.get_running_loop().time()
        self._transport.speaking = bool(self._utterances)

    # Access

    async def _watch_token(self) -> None:
        """Raises PolicyViolation when the connection's token is revoked."""
        while True:
            await self._check_token()
            await asyncio.sleep(TOKEN_CHECK_SECONDS)

    async def _check_token(self) -> None:
        tokens = self._state.tokens
        if tokens is not None and self._token is not None and not await tokens.accept(self._token):
            raise PolicyViolation(Unauthorized("The token was revoked (see --http-token-file)"), CloseCode.UNAUTHORIZED)

    # Reading and answering

    async def _read_messages(self) -> None:
        service = self._state.service
        await self._writer.send(
            Connected(
                connection_id=self.id,
                model=service.readiness().model,
                status=service.describe(),
                voices=voice_list(service).voices,
                sample_rate=service.sample_rate,
            )
        )
        while True:
            message = await self._next_message()
            try:
                await self._handle(message)
                self._faults = 0
            except SpeechError as error:
                _LOGGER.warning("WebSocket %s: %s", self.id, quoted(error))
                await self._writer.send(Failed(code=error.code, message=str(error)))
                self._faults += 1
                if self._faults >= MAX_MESSAGE_FAULTS:
                    raise PolicyViolation(
                        InvalidEvent(f"{MAX_MESSAGE_FAULTS} messages one after the other made no sense"),
                        CloseCode.POLICY_VIOLATION,
                    ) from None

    async def _next_message(self) -> dict[str, Any]:
        """Returns the client's next message, as ASGI has it.

        Raises:
            ClientDisconnected: there is none.
            PolicyViolation: the client was idle for too long.
        """
        receiving = asyncio.ensure_future(self._socket.receive())
        limit = self._state.settings.idle_timeout
        try:
            while True:
                if not await ends_within(limit, receiving):
                    if not self._utterances:
                        raise PolicyViolation(
                            InvalidEvent(f"the connection was idle for {limit:g} s"), CloseCode.GOING_AWAY
                        )
                    continue
                message = dict(receiving.result())
                if message["type"] == "websocket.disconnect":
                    raise ClientDisconnected
                self._mark_active()
                return message
        finally:
            receiving.cancel()

    async def _handle(self, frame: dict[str, Any]) -> None:
        """Do what a message asks for. Raises SpeechError where it makes no sense."""
        if frame.get("text") is None:
            raise InvalidEvent("Messages to the server are JSON in text frames; this one is binary")
        json_object = _json_object(frame["text"])
        if json_object.get("type") == "start":
            self._input.on_start(json_object)
            return
        try:
            message = CLIENT.validate_python(json_object)
        except ValidationError as error:
            raise InvalidEvent(str(to_speech_error(list(error.errors()))[0])) from None
        if isinstance(message, Text):
            self._input.on_text(message.text)
        elif isinstance(message, End):
            self._input.on_end()
        elif isinstance(message, CancelUtterance):
            self._input.on_cancel(message.id)
        elif isinstance(message, Ping):
            await self._writer.send(Pong())

    async def _answer(self, utterance: PendingUtterance) -> None:
        await self._check_token()
        await self._responder.answer(utterance)


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = parse(text.encode("utf-8", "surrogatepass"))
    except ValueError as error:
        raise InvalidEvent(f"A message is not JSON: {str(error)[:100]}") from None
    if not isinstance(value, dict):
        raise InvalidEvent("A message is not a JSON object")
    return value
