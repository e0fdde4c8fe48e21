"""The one door to every engine: the `Engine` protocol and the values that go through it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ..settings import GenerationSettings
from ..voices.voice import Voice

Samples: TypeAlias = NDArray[np.float32]
"""Mono audio, shape (n,), in [-1, 1]."""


class EngineError(Exception):
    """An engine could not do what it was asked; the message says what happened and what to do."""


class EngineUnavailable(EngineError):
    """The engine's packages, weights or device are not here."""


class EngineBroken(EngineError):
    """The engine can do nothing any more in this process, as after an error that a GPU does not recover from; a new
    process can."""


class FloatOverflow(EngineError):
    """A number was larger than the precision of the computation can hold."""


class NothingToSay(EngineError):
    """The engine finds no sound in the text, as an English voice in Chinese; others may be spoken."""


class Cancelled(EngineError):
    """The request was cancelled; raised out of the work, never shown to a client."""


class Cancel:
    """A request's cancellation, set from the event loop and looked at by the engine's thread."""

    def __init__(self, parent: Cancel | None = None) -> None:
        """`parent`: cancels this too; not the other way round."""
        self._event = threading.Event()
        self._parent = parent

    def set(self) -> None:
        self._event.set()

    @property
    def is_set(self) -> bool:
        return self._event.is_set() or (self._parent is not None and self._parent.is_set)

    def raise_if_set(self) -> None:
        """Raise Cancelled when the request was cancelled."""
        if self.is_set:
            raise Cancelled("cancelled")


@dataclass(frozen=True)
class StreamMetrics:
    """What a stream cost so far, as plain numbers (upstream's StreamingMetrics is an object it keeps changing)."""

    chunk_count: int = 0
    latency_to_first_chunk: float | None = None
    """Seconds from the call to the first chunk."""

    total_generation_time: float | None = None
    """Seconds the engine worked; known at the end."""

    total_audio_duration: float | None = None
    """Seconds of audio made; known at the end."""

    rtf: float | None = None
    """Generation seconds / audio seconds; known at the end."""

    keepable: bool = True
    """False: a clip changed after its voice was listed, and this is its new content's sound."""


class Engine(Protocol):
    """A model that speaks. Its methods block and are called from one thread only, never from the event loop."""

    @property
    def model(self) -> str:
        """The model's name in logs, metrics and Info."""

    @property
    def fingerprint(self) -> str:
        """Of all that makes its sound beside text, voice and settings: weights, how they are computed, versions. What
        engines of one fingerprint make of the same request can stand in for one another; empty: nothing can."""

    @property
    def sample_rate(self) -> int:
        """Samples per second of everything this engine makes."""

    @property
    def voices(self) -> tuple[Voice, ...]:
        """The voices it has by itself, or was loaded with; the first is its default. Never empty."""

    def warm_up(self) -> None:
        """Do what would make the first request slower than the others."""

    def generate_stream(
        self, text: str, voice: Voice, settings: GenerationSettings, cancel: Cancel
    ) -> Iterator[tuple[Samples, StreamMetrics]]:
        """Speak one piece of text, yielding samples as they are made.

        Args:
            text: one sentence, cleaned, not blank.
            voice: one of `voices`; of an engine that `Clones`, any voice of its model.
            settings: how to speak; what the model has no use for is not looked at.
            cancel: looked at before every unit of work (for Chatterbox: every speech token).

        Yields:
            (samples of shape (n,), n > 0, the metrics so far). The last metrics of a stream are complete.

        Raises:
            Cancelled: `cancel` was set.
            NothingToSay: there is no sound in the text.
            EngineError: the text could not be spoken.
        """

    def close(self) -> None:
        """Free what the engine holds; it is not used afterwards."""


@runtime_checkable
class Clones(Protocol):
    """What an engine can do besides, that takes voices from reference clips. Its methods are as those of `Engine`."""

    def prepare_voice(self, voice: Voice) -> bool:
        """Compute what the first request for a voice would have to.

        Returns:
            Whether anything had to be computed; what is on the disk or in memory has not.

        Raises:
            EngineError: its clips cannot be used.
        """

    def forget_voice(self, voice: Voice) -> None:
        """Drop what is kept in memory of a voice that is gone, or has changed."""
