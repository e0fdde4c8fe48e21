"""The answer to one request: audio, or an error; in any case the event that ends it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import aclosing

from wyoming.tts import SynthesizeStopped

from ..audio import CHANNELS, SAMPLE_WIDTH
from ..faults import log_fault
from ..speech.errors import ShuttingDown, SpeechError
from ..speech.service import SpeechService
from ..timeouts import wait_for
from .events import AudioChunk, AudioStart, AudioStop, Error, SpokenBy
from .requests import PendingRequest
from .writer import EventWriter

_LOGGER = logging.getLogger(__name__)

CHUNK_SECONDS = 0.1
"""Longest audio-chunk: small enough for players with small buffers, large enough to cost nothing."""


class Responder:
    """Answers the requests of one connection."""

    def __init__(
        self, service: SpeechService, writer: EventWriter, text_timeout: float, is_stopping: Callable[[], bool]
    ) -> None:
        """
        Args:
            text_timeout: seconds that a text may take to end once it is answered.
            is_stopping: tells whether a cancellation is the server's end rather than the client's.
        """
        self._service = service
        self._writer = writer
        self._text_timeout = text_timeout
        self._is_stopping = is_stopping

    async def answer(self, pending: PendingRequest) -> None:
        """Answer a request.

        Raises:
            OSError: the client is gone, or never ended its text.
        """
        rate = self._service.sample_rate
        seconds = 0.0
        spoken_by: SpokenBy | None = None
        try:
            if pending.error is not None:
                raise pending.error
            async with aclosing(self._service.speak(pending.request).chunks()) as pieces:
                async for piece in pieces:
                    started = spoken_by is not None
                    spoken_by = SpokenBy(piece.voice, piece.fallback)
                    if not started:
                        await self._writer.write(AudioStart(rate, spoken_by).event())
                    for chunk in audio_chunks(rate, piece.pcm, seconds):
                        await self._writer.write(chunk.event())
                    seconds += len(piece.pcm) / (SAMPLE_WIDTH * CHANNELS * rate)
            if spoken_by is None:
                await self._writer.write(AudioStart(rate).event())
        except SpeechError as error:
            pending.failed = True
            await self._writer.write(Error(error).event())
        except asyncio.CancelledError:
            if self._is_stopping():
                await self._tell_that_server_stops(pending)
            raise
        except OSError:
            raise  # there is nobody left to tell
        except Exception as error:
            pending.failed = True
            log_fault(_LOGGER, error, "Utterance %d ended with an error of the server", pending.request.id)
            await self._writer.write(Error(SpeechError(f"The server failed: {error}")).event())
        await self._writer.write(AudioStop(seconds, spoken_by).event())
        if pending.request.streamed:
            await self._wait_for_end_of_text(pending)
            await self._writer.write(SynthesizeStopped().event())

    async def _wait_for_end_of_text(self, pending: PendingRequest) -> None:
        """Wait for synthesize-stop. Raises ConnectionAbortedError where it does not come.

        Home Assistant's writing task fails when the end comes before it has sent everything. A text that was given up
        (an error) may never be ended, so this wait has a limit of its own.
        """
        pending.unended_since = time.monotonic()
        try:
            await wait_for(self._text_timeout, pending.text_ended.wait())
        except asyncio.TimeoutError:
            _LOGGER.warning("Utterance %d: its text was never ended; closing the connection", pending.request.id)
            raise ConnectionAbortedError("the text was never ended") from None

    async def _tell_that_server_stops(self, pending: PendingRequest) -> None:
        """The deadline of the shutdown is over: the client hears of it before the socket closes."""
        with contextlib.suppress(OSError):
            await self._writer.write(Error(ShuttingDown("The server stops before the utterance was finished")).event())
            await self._writer.write(AudioStop(0.0).event())
            if pending.request.streamed and pending.text_ended.is_set():
                await self._writer.write(SynthesizeStopped().event())


def audio_chunks(rate: int, pcm: bytes, seconds: float) -> Iterator[AudioChunk]:
    """Yields PCM in pieces of CHUNK_SECONDS at most; `seconds` of audio came before it."""
    frame = SAMPLE_WIDTH * CHANNELS
    size = round(CHUNK_SECONDS * rate) * frame
    for offset in range(0, len(pcm), size):
        yield AudioChunk(rate, pcm[offset : offset + size], seconds + offset / (frame * rate))
