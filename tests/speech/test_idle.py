"""Since when something is not used."""

from __future__ import annotations

import asyncio
import time

from wyoming_chatterbox.speech.idle import IdleTracker


async def test_idle_time_counts_from_the_end_of_the_last_use() -> None:
    usage = IdleTracker()
    waiting = asyncio.create_task(usage.idle(0.2))
    await asyncio.sleep(0.1)
    with usage:
        with usage:
            await asyncio.sleep(0.2)
        await asyncio.sleep(0.2)
        assert not waiting.done()
    ended = time.monotonic()
    await waiting
    assert 0.19 < time.monotonic() - ended < 0.4


async def test_what_was_not_used_for_long_is_idle_at_once() -> None:
    usage = IdleTracker()
    await asyncio.sleep(0.1)
    started = time.monotonic()
    await usage.idle(0.1)
    assert time.monotonic() - started < 0.05


async def test_a_use_that_begins_at_the_last_moment_is_waited_for() -> None:
    usage = IdleTracker()
    usage.begin()
    waiting = asyncio.create_task(usage.idle(0.0))
    await asyncio.sleep(0.01)
    usage.end()  # wakes the one that waits, but before it runs
    usage.begin()
    await asyncio.sleep(0.05)
    assert not waiting.done()
    usage.end()
    await asyncio.wait_for(waiting, 1)
