"""What an utterance cost: collected while it is spoken, logged as one line at its end."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ..engine.base import StreamMetrics

_LOGGER = logging.getLogger(__name__)


@dataclass
class UtteranceMetrics:
    """The figures of one utterance; seconds unless said otherwise."""

    id: int
    streamed: bool
    received: float
    """time.perf_counter() when the request was read."""

    edge: str = "wyoming"
    """Where the request came in."""

    model: str = "-"
    voice: str = "-"
    fallback: bool = False
    """The embedded voice spoke in the place of the model that was asked for."""

    chars: int = 0
    """Characters given to the engine, after cleaning."""

    sentences: int = 0
    cached: int = 0
    """Sentences that came from the cache: no model made them."""

    replayed: float = 0.0
    """Audio that came from the cache."""

    chunks: int = 0
    """Chunks the engine yielded."""

    audio: float = 0.0
    generation: float = 0.0
    """Time the engine worked; waiting for its turn or for text is not in it."""

    first_chunk: float | None = None
    """From the engine's start on the first sentence to its first chunk."""

    first_audio: float | None = None
    """First-audio latency: request read → first audio byte written."""

    outcome: str = "finished"
    """finished, cancelled, or the code of the error."""

    _sentence: StreamMetrics = field(default_factory=StreamMetrics)

    @property
    def rtf(self) -> float | None:
        """Generation / audio; None without audio that a model made."""
        synthesized = self.audio - self.replayed
        return self.generation / synthesized if synthesized > 0 else None

    def begin_sentence(self, chars: int) -> None:
        """The engine starts on a sentence."""
        self.sentences += 1
        self.chars += chars
        self._sentence = StreamMetrics()

    def replay(self, seconds: float) -> None:
        """The sentence came from the cache."""
        self.cached += 1
        self.audio += seconds
        self.replayed += seconds

    def update(self, current: StreamMetrics) -> None:
        """Take the engine's running totals of the current sentence."""
        before = self._sentence
        self.chunks += current.chunk_count - before.chunk_count
        self.audio += (current.total_audio_duration or 0.0) - (before.total_audio_duration or 0.0)
        self.generation += (current.total_generation_time or 0.0) - (before.total_generation_time or 0.0)
        if self.first_chunk is None:
            self.first_chunk = current.latency_to_first_chunk
        self._sentence = current

    def audio_written(self) -> None:
        """The first audio was written to the client (later calls change nothing)."""
        if self.first_audio is None:
            self.first_audio = time.perf_counter() - self.received

    def log(self) -> None:
        """The one log line of the utterance."""
        _LOGGER.info(
            "Utterance %d: %s edge=%s model=%s voice=%s fallback=%s streamed=%s chars=%d sentences=%d cached=%d "
            "chunks=%d "
            "first_chunk=%s first_audio=%s audio=%.2fs generation=%.2fs rtf=%s",
            self.id,
            self.outcome,
            self.edge,
            self.model,
            self.voice,
            "yes" if self.fallback else "no",
            "yes" if self.streamed else "no",
            self.chars,
            self.sentences,
            self.cached,
            self.chunks,
            _seconds(self.first_chunk),
            _seconds(self.first_audio),
            self.audio,
            self.generation,
            "-" if self.rtf is None else f"{self.rtf:.3f}",
        )


Observer = Callable[[UtteranceMetrics], None]
"""Is told of every utterance when it has ended."""


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}s"
