"""Which way this CPU is faster: real shapes of a part of the model, timed in turns.

A sure verdict stays, also on disk (verdicts.py), since another way would give other samples, if only in their last bit.
Other programs disturb a test, so it is done again where rounds disagree; where they go on disagreeing the first way,
which is the finest, is used until the model is loaded the next time.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

from .verdicts import VERDICTS

_LOGGER = logging.getLogger(__name__)

_WORTHWHILE = 1.1
"""How many times faster a later way must be to be chosen."""

_TURNS = 2
"""How often every way has its turn in a round."""

_AGREEING = 3
"""So many rounds in succession must have the same verdict."""

_MAX_ROUNDS = 8
"""Then the verdict is unsure. A round takes up to 1 s, beside another program 3."""

_BYTES = 200e6
"""Of weights in float32: more than caches hold, and in 8 bits 50 MB."""


def copies(weights: float) -> int:
    """Returns how many copies of a part a work must compute, so that they are in no cache when their turn comes again.

    Args:
        weights: numbers that one of them reads.
    """
    return max(1, math.ceil(_BYTES / (4 * weights)))


def fastest(
    name: str,
    shapes: str,
    ways: tuple[str, ...],
    works: Callable[[], Mapping[str, Callable[[], Any]]],
    worthwhile: float = _WORTHWHILE,
) -> str:
    """Returns the fastest way, from an earlier start's verdict or timed now; logs it in one line.

    Args:
        name: what is timed, for the log.
        shapes: what it multiplies; a verdict is of them and of these ways.
        ways: from fine to coarse; a later one must be much faster.
        works: makes what is timed, at least one; a way that this machine lacks is missing.
        worthwhile: how many times faster a later way must be.
    """
    key = f"{name} ({shapes}) in {', '.join(ways)}"
    known = VERDICTS.get(key)
    if known in ways:
        _LOGGER.info("Timed test of %s: selected %s, as before", name, known)
        return str(known)
    verdicts: list[str] = []
    best: dict[str, float] = {}
    works_ready = works()
    for work in works_ready.values():
        work()  # the first time kernels are chosen
    while works_ready and len(verdicts) < _MAX_ROUNDS and not _agree(verdicts):
        times = best_times(works_ready)
        verdicts.append(pick_fastest(times, worthwhile))
        best = {way: min(seconds, best.get(way, math.inf)) for way, seconds in times.items()}
    sure = _agree(verdicts)
    verdict = verdicts[-1] if sure else next(iter(works_ready), ways[0])
    shown = ", ".join(f"{way} {seconds * 1e3:.1f} ms" for way, seconds in best.items())
    doubt = "" if sure else f" for now: {len(verdicts)} rounds disagreed, other programs may be at work"
    _LOGGER.info("Timed test of %s: %s; selected %s%s", name, shown or "nothing works here", verdict, doubt)
    if sure:
        VERDICTS.put(key, verdict)
    return verdict


def _agree(verdicts: list[str]) -> bool:
    return len(verdicts) >= _AGREEING and len(set(verdicts[-_AGREEING:])) == 1


def best_times(works: Mapping[str, Callable[[], Any]]) -> dict[str, float]:
    """Returns the shortest time of each in seconds; in turns, so that other programs meet all of them alike."""
    times = dict.fromkeys(works, math.inf)
    for name in [*works] * _TURNS:
        times[name] = min(times[name], duration(works[name]))
    return times


def pick_fastest(times: Mapping[str, float], worthwhile: float = _WORTHWHILE) -> str:
    """Returns the fastest; an earlier one where a later one is not so many times faster."""
    best = next(iter(times))
    for name, seconds in times.items():
        if seconds * worthwhile < times[best]:
            best = name
    return best


def duration(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
