"""Playback: underruns, and utterances in turns."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from script.benchmarks.concurrency import run_sequentially
from script.benchmarks.playback import played, underruns
from wyoming_chatterbox.engine.base import CancelToken
from wyoming_chatterbox.hosting.worker_thread import WorkerThread

pytestmark = pytest.mark.timeout(300)
"""Four processes that import torch: a busy machine takes its time."""


def test_underruns_are_what_a_listener_waits_for() -> None:
    # Heard from 1 to 2 and from 2 to 3, then nothing until 4.
    found = underruns([(1.0, 1.0), (1.5, 1.0), (4.0, 1.0), (4.5, 1.0)])
    assert (found.count, found.seconds) == (1, pytest.approx(1.0))
    assert found.lowest_lead == pytest.approx(-1.0)


def test_what_was_waited_for_once_is_waited_for_no_more() -> None:
    """Playback goes on later after a gap: a chunk that would be late for a player without gaps is in time then."""
    found = underruns([(0.0, 1.0), (3.0, 1.0), (3.9, 1.0)])
    assert (found.count, found.seconds) == (1, pytest.approx(2.0))


@pytest.mark.parametrize("arrivals", [[(5.0, 1.0)], [(0.3, 1.0), (1.3, 1.0), (1.4, 0.5)], [(0.0, 1.0), (1.0005, 1.0)]])
def test_no_underruns(arrivals: list[tuple[float, float]]) -> None:
    found = underruns(arrivals)
    assert (found.count, found.seconds) == (0, 0)


@given(st.lists(st.tuples(st.floats(0.1, 3.0), st.floats(0.1, 3.0)), min_size=1, max_size=20))
def test_the_gaps_are_as_long_as_the_lead_falls_below_zero(chunks: list[tuple[float, float]]) -> None:
    at = 0.0
    arrivals = []
    for pause, length in chunks:
        at += pause
        arrivals.append((at, length))
    found = underruns(arrivals)
    assert found.seconds == pytest.approx(max(0.0, -found.lowest_lead), abs=0.001 * len(chunks))
    begins = [begin for begin, _ in played(arrivals)]
    assert all(begin >= at - 0.001 for begin, (at, _) in zip(begins, arrivals, strict=True))


def test_utterances_take_turns() -> None:
    times = iter(range(100))

    def speak(chunks: int) -> Iterator[Any]:
        for _ in range(chunks):
            yield np.zeros(2 * 100)

    row = run_sequentially([lambda: speak(2), lambda: speak(3)], 100, clock=lambda: float(next(times)))
    # Begun at 0; chunks of 2 s, of one at 1 and 2, of the other at 3, 4 and 5; over at 6.
    assert (row["at_once"], row["first_audio_s"], row["first_audio_max_s"]) == (2, 2.0, 3.0)
    assert row["rtf"] == pytest.approx((2 / 4 + 5 / 6) / 2)
    assert row["audio_per_s"] == pytest.approx(10 / 6)
    assert (row["underruns"], row["total_s"]) == (0, 6)


async def test_they_take_turns_as_in_the_server() -> None:
    """The engine's thread and the benchmark go on with one sentence until its end."""
    done: list[str] = []

    def speak(name: str) -> Iterator[Any]:
        for _ in range(3):
            done.append(name)
            yield np.zeros(100)

    run_sequentially([lambda: speak("a"), lambda: speak("b")], 100)
    worker, measured = WorkerThread("turns"), list(done)
    done.clear()

    async def listen(name: str) -> None:
        async for _ in worker.stream(lambda: speak(name), CancelToken()):
            pass

    try:
        await asyncio.gather(listen("a"), listen("b"))
    finally:
        worker.close()
    assert measured == done == ["a"] * 3 + ["b"] * 3
