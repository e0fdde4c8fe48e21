"""The events of an answer: audio, who speaks it, and errors."""

from __future__ import annotations

from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.error import Error
from wyoming.event import Event

from ..audio import CHANNELS, SAMPLE_WIDTH
from ..speech.errors import SpeechError
from ..speech.service import Speech

_CHUNK_SECONDS = 0.1
"""Longest audio-chunk: small enough for players with small buffers, large enough to cost nothing."""


def error_event(error: SpeechError) -> Event:
    """An error's message and its code."""
    return Error(text=str(error), code=error.code).event()


def audio_start(rate: int, piece: Speech | None) -> Event:
    """The beginning of an answer; `piece` is the first of its audio, None where there is none."""
    start = AudioStart(rate=rate, width=SAMPLE_WIDTH, channels=CHANNELS, timestamp=0)
    return _with_speaker(start.event(), piece)


def audio_chunks(rate: int, pcm: bytes, seconds: float) -> list[Event]:
    """PCM as events; `seconds` of audio came before it."""
    frame = SAMPLE_WIDTH * CHANNELS
    size = round(_CHUNK_SECONDS * rate) * frame
    return [
        AudioChunk(
            rate=rate,
            width=SAMPLE_WIDTH,
            channels=CHANNELS,
            timestamp=round((seconds + offset / (frame * rate)) * 1000),
            audio=pcm[offset : offset + size],
        ).event()
        for offset in range(0, len(pcm), size)
    ]


def audio_stop(seconds: float, piece: Speech | None) -> Event:
    """The end of an answer of so many seconds; `piece` is the last of its audio."""
    return _with_speaker(AudioStop(timestamp=round(seconds * 1000)).event(), piece)


def _with_speaker(event: Event, piece: Speech | None) -> Event:
    """Say in an audio event who speaks. Clients skip fields they do not know; script/say shows these."""
    if piece is not None:
        event.data.update(model=piece.voice.model, voice=piece.voice.name, fallback=piece.fallback)
    return event
