"""The interface of every engine: the `Engine` protocol, its values and its errors."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ..speech_settings import GenerationSettings
from ..voices.voice import Voice
from .errors import Cancelled as Cancelled
from .errors import EngineBroken as EngineBroken
from .errors import EngineError as EngineError
from .errors import EngineUnavailable as EngineUnavailable
from .errors import FloatOverflow as FloatOverflow
from .errors import NothingToSay as NothingToSay

Samples: TypeAlias = NDArray[np.float32]
"""Mono audio, shape (n,), in [-1, 1]."""


class CancelToken:
    """Cancels work: set from the event loop, polled by the engine's thread."""

    def __init__(self, parent: CancelToken | None = None) -> None:
        """`parent`: setting it sets this token too; not the other way round."""
        self._event = threading.Event()
        self._parent = parent

    def set(self) -> None:
        self._event.set()

    @property
    def is_set(self) -> bool:
        return self._event.is_set() or (self._parent is not None and self._parent.is_set)

    def raise_if_set(self) -> None:
        """Raises Cancelled if the token is set."""
        if self.is_set:
            raise Cancelled("cancelled")


@dataclass(frozen=True)
class StreamMetrics:
    """What a stream has cost so far. Immutable, unlike upstream's StreamingMetrics, which changes while it is read."""

    chunk_count: int = 0
    latency_to_first_chunk: float | None = None
    """Seconds from the call to the first chunk."""

    total_generation_time: float | None = None
    """Seconds of computation; known at the end."""

    total_audio_duration: float | None = None
    """Seconds of audio produced; known at the end."""

    rtf: float | None = None
    """Generation seconds / audio seconds; known at the end."""

    cacheable: bool = True
    """False when a clip was modified after the voice was listed, so the audio must not be cached under the voice's old
    fingerprint."""


class Engine(Protocol):
    """A model that speaks. Its methods block and are called from one thread only, never from the event loop."""

    @property
    def model(self) -> str:
        """The model's name in logs, metrics and Info."""

    @property
    def fingerprint(self) -> str:
        """Identifies everything that shapes the sound besides text, voice and settings: weights, how they are computed,
        versions. Engines with the same fingerprint produce interchangeable audio; empty: no other engine does."""

    @property
    def sample_rate(self) -> int:
        """Samples per second of all audio from this engine."""

    @property
    def voices(self) -> tuple[Voice, ...]:
        """The built-in voices and those it was loaded with; the first is its default. Never empty."""

    def warm_up(self) -> None:
        """Do the work that would slow the first request down."""

    def generate_stream(
        self, text: str, voice: Voice, settings: GenerationSettings, cancel: CancelToken
    ) -> Iterator[tuple[Samples, StreamMetrics]]:
        """Speak one piece of text, yielding samples as they are produced.

        Args:
            text: one sentence, cleaned, not blank.
            voice: one of `voices`; any voice of its model if the engine `SupportsCloning`.
            settings: how to speak; settings that the model does not have are ignored.
            cancel: polled before every unit of work (for Chatterbox: every speech token).

        Yields:
            (samples of shape (n,), n > 0, the metrics so far). The last metrics of a stream are complete.

        Raises:
            Cancelled: `cancel` was set.
            NothingToSay: the text has nothing to pronounce.
            EngineError: the text could not be spoken.
        """

    def close(self) -> None:
        """Free the engine's memory; the engine is not used afterwards."""


@runtime_checkable
class SupportsCloning(Protocol):
    """Implemented by an engine that clones voices from reference clips. Called under the same rules as `Engine`."""

    def prepare_voice(self, voice: Voice) -> bool:
        """Compute in advance what the first request for a voice needs.

        Returns:
            True if anything was computed; False if it was in memory or on disk already.

        Raises:
            EngineError: the voice's clips cannot be used.
        """

    def forget_voice(self, voice: Voice) -> None:
        """Drop what is held in memory for a voice that was deleted or changed."""
