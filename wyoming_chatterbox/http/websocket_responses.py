"""The answer to one utterance of a WebSocket: started, chunks with their frames, or an error; in any case metrics."""

from __future__ import annotations

import logging
from contextlib import aclosing

from ..audio import CHANNELS, SAMPLE_WIDTH
from ..faults import log_fault
from ..hosting.base import AudioChunk
from ..speech.errors import SpeechError
from .disconnects import ClientDisconnected, WriteTimeout
from .encoders import encoder_for
from .messages import Chunk, Failed, Format, Metrics, Started
from .state import EdgeState
from .websocket_requests import PendingUtterance
from .websocket_writer import MessageWriter

_LOGGER = logging.getLogger(__name__)

MAX_FRAME_SECONDS = 5.0
"""Longest audio in one frame: 480 kB at 48 kHz, half of what clients take by default (1 MiB)."""


class UtteranceResponder:
    """Answers the utterances of one connection."""

    def __init__(self, state: EdgeState, writer: MessageWriter) -> None:
        self._state = state
        self._service = state.service
        self._writer = writer

    async def answer(self, utterance: PendingUtterance) -> None:
        """Speak an utterance, unless it is cancelled; in any case send the metrics that end it.

        Raises:
            ClientDisconnected: the client is gone.
            WriteTimeout: the client reads nothing.
        """
        outcome = "finished"
        try:
            if not await utterance.run(self._speak(utterance)):
                outcome = "cancelled"
        except SpeechError as error:
            outcome = error.code
            await self._writer.send(Failed(code=error.code, message=str(error), id=utterance.name))
        except (ClientDisconnected, WriteTimeout):
            raise
        except Exception as error:
            outcome = SpeechError.code
            log_fault(_LOGGER, error, "Utterance %d ended with an error of the server", utterance.request.id)
            await self._writer.send(Failed(code=outcome, message=f"The server failed: {error}", id=utterance.name))
        utterance.request.text.drop()
        await self._writer.finish_chunk()
        await self._writer.send(self._metrics(utterance, outcome))

    async def _speak(self, utterance: PendingUtterance) -> None:
        if utterance.error is not None:
            raise utterance.error
        rate = self._service.sample_rate
        encoder = encoder_for(utterance.response_format, rate)
        frame = CHANNELS * SAMPLE_WIDTH
        size = round(MAX_FRAME_SECONDS * rate) * frame
        held, last = 0, None  # samples of which the encoder has returned nothing yet
        utterance.utterance = self._service.speak(utterance.request)
        async with aclosing(utterance.utterance.chunks()) as pieces:
            async for piece in pieces:
                if last is None:
                    await self._writer.send(self._started(utterance, piece))
                last = piece
                for start in range(0, len(piece.pcm), size):
                    pcm = piece.pcm[start : start + size]
                    data = await self._state.encode(encoder, pcm)
                    held += len(pcm) // frame
                    if data:
                        await self._send_chunk(utterance, data, held, piece)
                        held = 0
        data = await self._state.encode(encoder, None)
        if data and last is not None:
            await self._send_chunk(utterance, data, held, last)

    def _started(self, utterance: PendingUtterance, piece: AudioChunk) -> Started:
        encoding = "pcm_s16le" if utterance.response_format == "pcm" else utterance.response_format
        return Started(
            utterance=utterance.request.id,
            id=utterance.name,
            model=piece.voice.model,
            voice=piece.voice.name,
            fallback=piece.fallback,
            format=Format(encoding=encoding, sample_rate=self._service.sample_rate),  # type: ignore[arg-type]
        )

    async def _send_chunk(self, utterance: PendingUtterance, data: bytes, samples: int, piece: AudioChunk) -> None:
        sent = utterance.elapsed
        chunk = Chunk(
            index=utterance.frames,
            bytes=len(data),
            samples=samples,
            offset=utterance.samples / self._service.sample_rate,
            made=max(0.0, piece.produced_at - utterance.request.received),
            sent=sent,
            voice=piece.voice.name,
            fallback=piece.fallback,
            cached=piece.cached,
        )
        # Counted before it is sent: a cancellation does not keep the frame from its client.
        if utterance.first_audio is None:
            utterance.first_audio = sent
        utterance.frames += 1
        utterance.samples += samples
        utterance.all_cached = utterance.all_cached and piece.cached
        await self._writer.send_chunk(chunk, data)

    def _metrics(self, utterance: PendingUtterance, outcome: str) -> Metrics:
        cost = utterance.utterance.metrics if utterance.utterance else None
        return Metrics(
            utterance=utterance.request.id,
            id=utterance.name,
            outcome=outcome,
            first_audio=utterance.first_audio,
            first_chunk=cost.first_chunk if cost else None,
            rtf=cost.rtf if cost else None,
            chunks=utterance.frames,
            sentences=cost.sentences if cost else 0,
            chars=cost.chars if cost else 0,
            audio_duration=utterance.samples / self._service.sample_rate,
            generation_time=cost.generation if cost else 0.0,
            total_time=utterance.elapsed,
            model=cost.model if cost else "-",
            voice=cost.voice if cost else "-",
            fallback=cost.fallback if cost else False,
            cached=utterance.frames > 0 and utterance.all_cached,
        )
