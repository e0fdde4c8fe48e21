"""What a decoder did when, for measurements."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Span:
    """One piece of work."""

    stage: str
    """prefill (of T3), token, flow, vocoder or watermark."""

    started: float
    """By time.perf_counter()."""

    ended: float
    amount: int
    """Tokens (prefill: positions), mel frames or samples that came out."""


@dataclass
class Timeline:
    """The spans of one utterance, in the order in which they ended; its stages may be in several threads."""

    spans: list[Span] = field(default_factory=list)

    @staticmethod
    def now() -> float:
        return time.perf_counter()

    def add(self, stage: str, started: float, amount: int) -> None:
        """Something that ends now."""
        self.spans.append(Span(stage, started, time.perf_counter(), amount))

    def total(self, stage: str) -> float:
        """Returns the seconds spent in a stage."""
        return sum(span.ended - span.started for span in self.spans if span.stage == stage)
