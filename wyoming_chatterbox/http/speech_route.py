"""POST /v1/audio/speech: a request that is answered with audio while it is made."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
from contextlib import aclosing
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ..audio import CHANNELS, SAMPLE_WIDTH
from ..faults import log_fault
from ..hosting.base import AudioChunk
from ..speech.errors import ShuttingDown, SpeechError
from ..speech.request import SpeechRequest
from ..timeouts import wait_for
from .disconnects import WriteTimeout
from .encoders import MEDIA_TYPES, Encoder, encoder_for
from .errors import error_body, error_response
from .json_body import BoundedJsonRoute
from .models_route import requested_voice
from .schemas import ErrorBody, SpeechBody
from .state import EdgeState, State

_LOGGER = logging.getLogger(__name__)

router = APIRouter(route_class=BoundedJsonRoute)

_TOKENS_PER_SECOND = 25
"""Speech tokens of Chatterbox, which OpenAI's usage counts."""

_AUDIO: dict[str, Any] = {media: {"schema": {"type": "string", "format": "binary"}} for media in MEDIA_TYPES.values()}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Audio in the format asked for, sent while it is made. X-Model, X-Voice and X-Fallback say who "
        "speaks, X-Utterance is its number in the log. With stream_format sse: events speech.audio.delta, whose audio "
        "is base64, and speech.audio.done, or error",
        "content": {**_AUDIO, "text/event-stream": {}},
    },
    **{status: {"model": ErrorBody} for status in (400, 404, 408, 413, 500, 503)},
}


@router.post("/v1/audio/speech", response_class=Response, responses=_RESPONSES)
@router.post("/audio/speech", response_class=Response, responses=_RESPONSES)
async def speech(body: SpeechBody, state: State) -> Response:
    """OpenAI's "create speech". The first bytes leave with the first chunk that the model makes."""
    return _answer(state, body, "mp3")


@router.post("/audio/speech/stream", response_class=Response, responses=_RESPONSES)
async def speech_stream(body: SpeechBody, state: State) -> Response:
    """The same with WAV as the default format."""
    return _answer(state, body, "wav")


def _answer(state: EdgeState, body: SpeechBody, default_format: str) -> Response:
    if state.stopping:
        raise ShuttingDown("The server is stopping")
    voice = body.voice if isinstance(body.voice, str) or body.voice is None else body.voice.id
    request = SpeechRequest(
        state.service.whole_text(body.input),
        voice=requested_voice(state.service, voice or None),
        model=body.model,
        language=body.language or None,
        speaker=body.speaker or None,
        settings=body.overrides(),
        edge="http",
    )
    name = body.response_format or default_format
    encoder = encoder_for(name, state.service.sample_rate, body.speed or 1.0)
    if body.stream_format == "sse":
        return StreamingSpeechResponse(state, request, encoder, "text/event-stream", events=True)
    return StreamingSpeechResponse(state, request, encoder, MEDIA_TYPES[name])


class StreamingSpeechResponse(Response):
    """Speaks while it is sent. When the client leaves, the work stops before the next speech token."""

    def __init__(
        self, state: EdgeState, request: SpeechRequest, encoder: Encoder, media_type: str, *, events: bool = False
    ) -> None:
        """`events`: send server-sent events rather than the audio itself."""
        super().__init__(media_type=media_type)
        self._state = state
        self._request = request
        self._utterance = state.service.speak(request)
        self._encoder = encoder
        self._events = events
        self._started = False
        self._samples = 0
        self._ended = asyncio.Event()
        self._must_end = asyncio.Event()

    # As an ActiveStream

    def stop(self) -> None:
        """It finishes by itself."""

    def end(self) -> None:
        self._must_end.set()

    async def ended(self) -> None:
        await self._ended.wait()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        transport: asyncio.Transport = scope["state"]["transport"]
        speaking = asyncio.create_task(self._speak(send), name="speaking")
        leaving = asyncio.create_task(_disconnect(receive))
        ending = asyncio.create_task(self._must_end.wait())
        self._state.active_streams.add(self)
        try:
            await asyncio.wait((speaking, leaving, ending), return_when=asyncio.FIRST_COMPLETED)
            complete = speaking.done()
            speaking.cancel()
            (error,) = await asyncio.gather(speaking, return_exceptions=True)
            if not complete and ending.done():
                error = ShuttingDown("The server stops before the utterance was finished")
            if isinstance(error, Exception) and not leaving.done():
                await self._fail(error, transport, scope, receive, send)
                await leaving  # uvicorn takes a response without an end for a fault of ours while the client is there
        finally:
            for task in (speaking, leaving, ending):
                task.cancel()
            self._state.active_streams.discard(self)
            self._ended.set()

    async def _speak(self, send: Send) -> None:
        frame = CHANNELS * SAMPLE_WIDTH
        async with aclosing(self._utterance.chunks()) as pieces:
            async for piece in pieces:
                self._samples += len(piece.pcm) // frame
                await self._begin(send, piece)
                await self._send_audio(send, await self._state.encode(self._encoder, piece.pcm))
        await self._begin(send, None)
        await self._send_audio(send, await self._state.encode(self._encoder, None))
        if self._events:
            await self._send_event(send, {"type": "speech.audio.done", "usage": self._usage()})
        await self._send(send, {"type": "http.response.body", "body": b"", "more_body": False})

    async def _begin(self, send: Send, piece: AudioChunk | None) -> None:
        if self._started:
            return
        self._started = True
        headers = {
            "content-type": str(self.media_type),
            "cache-control": "no-store",
            "x-accel-buffering": "no",  # a reverse proxy that buffers would undo the streaming
            "x-utterance": str(self._request.id),
        }
        if piece is not None:
            headers["x-model"] = quote(piece.voice.model)
            headers["x-voice"] = quote(piece.voice.name)
            headers["x-fallback"] = str(piece.fallback).lower()
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        await self._send(send, {"type": "http.response.start", "status": 200, "headers": raw})

    async def _send_audio(self, send: Send, data: bytes) -> None:
        if data and self._events:
            audio = base64.b64encode(data).decode("ascii")
            await self._send_event(send, {"type": "speech.audio.delta", "audio": audio})
        elif data:
            await self._send(send, {"type": "http.response.body", "body": data, "more_body": True})

    async def _send_event(self, send: Send, event: dict[str, Any]) -> None:
        data = f"data: {json.dumps(event)}\n\n".encode("ascii")
        await self._send(send, {"type": "http.response.body", "body": data, "more_body": True})

    async def _send(self, send: Send, message: dict[str, Any]) -> None:
        limit = self._state.settings.write_timeout
        try:
            await wait_for(limit, send(message))
        except asyncio.TimeoutError:
            raise WriteTimeout(f"the client took no audio for {limit:g} s") from None

    def _usage(self) -> dict[str, int]:
        """Characters that were spoken and speech tokens that they became, in the place of OpenAI's tokens."""
        spoken = self._utterance.metrics.chars
        token_count = round(self._samples / self._state.service.sample_rate * _TOKENS_PER_SECOND)
        return {"input_tokens": spoken, "output_tokens": token_count, "total_tokens": spoken + token_count}

    async def _fail(
        self, error: Exception, transport: asyncio.Transport, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Tell the client, as far as it can still be told: a body that breaks off is an error to every client."""
        if isinstance(error, WriteTimeout):
            _LOGGER.warning("Utterance %d: cut off, %s", self._request.id, error)
            transport.abort()
            return
        if not isinstance(error, SpeechError):
            log_fault(_LOGGER, error, "Utterance %d ended with an error of the server", self._request.id)
            error = SpeechError(f"The server failed: {error}")
        if not self._started:
            await error_response(error)(scope, receive, send)
            return
        if self._events:
            with contextlib.suppress(WriteTimeout):
                await self._send_event(send, {"type": "error", **error_body(error)})
                await self._send(send, {"type": "http.response.body", "body": b"", "more_body": False})
                return
        transport.close()


async def _disconnect(receive: Receive) -> None:
    """Wait until the client is gone, or has its whole answer."""
    while (await receive())["type"] != "http.disconnect":
        pass
