"""Which way this CPU is faster: a few matrix products, timed in turns.

In one process a verdict stays, since another way would give other samples (if only in their last bit).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

_WORTHWHILE = 1.1
"""How many times faster a later way must be to be chosen."""

_ROUNDS = 8
"""How often every way has its turn."""

_BYTES = 128e6
"""Of weights in float32: more than caches hold."""


def products(inputs: int, outputs: int) -> int:
    """Of how many matrices a work must make a product, so that they are in no cache when their turn comes again."""
    return max(1, int(_BYTES / (4 * inputs * outputs)))


def least_times(works: Mapping[str, Callable[[], Any]]) -> dict[str, float]:
    """The shortest time of each in seconds; in turns, so that other programs meet all of them alike."""
    times = dict.fromkeys(works, math.inf)
    for name in [*works] * _ROUNDS:
        times[name] = min(times[name], duration(works[name]))
    return times


def chosen(times: Mapping[str, float], worthwhile: float = _WORTHWHILE) -> str:
    """The fastest; an earlier one where a later one is not so many times faster."""
    best = next(iter(times))
    for name, seconds in times.items():
        if seconds * worthwhile < times[best]:
            best = name
    return best


def duration(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
