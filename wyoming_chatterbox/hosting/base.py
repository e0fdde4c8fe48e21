"""The interface of every host, and the messages that cross it.

A host is where an engine runs. Whatever crosses it is a plain value: names, numbers, paths and samples, which can be
sent to another process without pickle. An engine, a tensor or a function never crosses it; the one callback is called
on this side.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from numpy.typing import NDArray

from ..engine.base import EngineError, StreamMetrics
from ..speech_settings import GenerationSettings
from ..voices.voice import Voice


class EngineHung(EngineError):
    """The engine produced nothing within its time limit and is still at it."""


class LoadFailed(EngineError):
    """The engine could not be loaded; the message says why."""

    def __init__(self, message: str, *, retryable: bool) -> None:
        """`retryable`: loading may succeed later without anybody changing a setting."""
        super().__init__(message)
        self.retryable = retryable


class LoadPhase(enum.Enum):
    """What a host is doing while it starts an engine."""

    DOWNLOADING = "downloading"
    LOADING = "loading"
    WARMING = "warming"


StatusReport = Callable[[LoadPhase, "float | None"], None]
"""Receives what a host is doing: (phase, share of the download that is done, 0 to 1, or None)."""


@dataclass(frozen=True)
class EngineSpec:
    """What a host has to know to start an engine."""

    model: str
    voices: tuple[Voice, ...] = ()
    """The cloned voices that exist when loading starts; an engine may prepare its default one while it warms up."""


@dataclass(frozen=True)
class EngineInfo:
    """A loaded engine, described."""

    model: str
    fingerprint: str
    """See `Engine.fingerprint`."""

    sample_rate: int
    voices: tuple[Voice, ...]
    """See `Engine.voices`."""

    clones: bool
    """The engine takes voices from reference clips."""

    warm_up_seconds: float


@dataclass(frozen=True)
class SentenceJob:
    """One sentence for an engine to speak."""

    id: int
    """The utterance's number in the log."""

    text: str
    """Cleaned, not blank."""

    voice: Voice
    settings: GenerationSettings
    """How to speak, the seed included."""


@dataclass(frozen=True)
class AudioChunk:
    """A piece of audio on its whole way from an engine to a client."""

    samples: NDArray[Any]
    """Mono, shape (n,), n > 0. From an engine or the cache: float32 in [-1, 1]. Rendered for a client: int16."""

    sample_rate: int
    produced_at: float
    """time.perf_counter() when the last sample was computed or read from the cache."""

    voice: Voice
    """Who speaks."""

    stats: StreamMetrics = field(default_factory=StreamMetrics)
    """What the sentence has cost so far; nothing if the audio is from the cache."""

    fallback: bool = False
    """`voice` is not the requested one: its model could not speak."""

    cached: bool = False
    """The audio is from the cache."""

    @property
    def cacheable(self) -> bool:
        """False if the audio must not be cached, see `StreamMetrics.cacheable`."""
        return self.stats.cacheable

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.sample_rate

    @property
    def pcm(self) -> bytes:
        """A rendered chunk's 16-bit little-endian PCM."""
        assert self.samples.dtype.kind == "i", "only a rendered chunk has PCM"
        return self.samples.astype("<i2", copy=False).tobytes()


class EngineHost(Protocol):
    """Runs one engine. All methods are for the event loop.

    `speech` hands it one sentence at a time, and decides which one (`speech/admission.py`).
    """

    async def start(self, spec: EngineSpec, on_status: StatusReport) -> EngineInfo:
        """Load the engine and warm it up. A host that was stopped can be started again.

        Args:
            on_status: called in the event loop; the last calls may come after this method has returned.

        Raises:
            LoadFailed: nothing of the engine is left in memory.
            EngineBroken: no engine can work in this host any more.
            Cancelled: the host was closed.
        """

    def stream(self, job: SentenceJob) -> AsyncGenerator[AudioChunk, None]:
        """Speak one sentence, yielding chunks as they are produced. Closing the generator aborts the work.

        Silence at the beginning is held back until the first sound.

        Raises:
            EngineHung: a chunk took longer than the host allows.
            EngineBroken: no engine can work in this host any more.
            NothingToSay, EngineError: as of `Engine.generate_stream`; also if the audio is not finite or only silence.
        """

    async def prepare(self, voice: Voice) -> bool:
        """Compute in advance what the first request for a voice needs; returns True if anything was computed.

        Raises:
            EngineHung, EngineBroken: as of `stream`.
            EngineError: the voice's clips cannot be used.
        """

    def forget(self, voice: Voice) -> None:
        """Drop what is held in memory for a voice that was deleted or changed. Returns at once."""

    async def responsive(self) -> None:
        """Wait, after EngineHung, until the engine has come back from what it hung in."""

    async def stop(self) -> str:
        """Free the engine; returns how much memory that released, for the log. Raises what the engine raises."""

    def close(self) -> None:
        """End loading, free the engine and end the host after the current piece of work. Returns at once."""

    def join(self, timeout: float) -> bool:
        """Block until the host has ended; False if it is still at work after `timeout` seconds."""
