"""What a listener hears in time.

Playback begins when the first chunk arrives, and stops where it has played all that came so far, until the next chunk
arrives: an *underrun*.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

Arrival = tuple[float, float]
"""A chunk: when it came (seconds since the request) and its length (seconds of audio)."""

_INAUDIBLE = 0.001
"""Seconds; a chunk that comes so much too late is in time."""


@dataclass(frozen=True)
class Underruns:
    count: int
    seconds: float
    """How long the gaps are together."""

    lowest_lead: float
    """The least that audio sent was ahead of the time since first audio, as seen just before each chunk came, in
    seconds; 0 where there is only one chunk. Below zero there is an underrun."""


def played(arrivals: Sequence[Arrival]) -> Iterator[Arrival]:
    """Yields when each chunk begins to be heard, and its length."""
    end = -math.inf
    for at, seconds in arrivals:
        begin = at if at > end + _INAUDIBLE else end
        yield begin, seconds
        end = begin + seconds


def underruns(arrivals: Sequence[Arrival]) -> Underruns:
    """Returns the gaps in an utterance's playback."""
    count, gaps, end = 0, 0.0, math.inf
    for begin, seconds in played(arrivals):
        if begin > end:
            count += 1
            gaps += begin - end
        end = begin + seconds
    leads, sent = [], 0.0
    for at, seconds in arrivals:
        if sent:
            leads.append(sent - (at - arrivals[0][0]))
        sent += seconds
    return Underruns(count, gaps, min(leads, default=0.0))
