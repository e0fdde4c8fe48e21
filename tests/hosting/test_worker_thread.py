"""The thread of an engine."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import aclosing

import pytest

from wyoming_chatterbox.engine.base import Cancelled, CancelToken, EngineError
from wyoming_chatterbox.hosting.base import EngineHung
from wyoming_chatterbox.hosting.worker_thread import WorkerThread


def numbers(log: list[str], pause: float = 0.0) -> Iterator[int]:
    try:
        for number in range(1000):
            time.sleep(pause)
            yield number
    finally:
        log.append("closed")


async def test_items_come_as_they_are_made_and_the_loop_stays_free() -> None:
    worker = WorkerThread("test")
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0.001)

    ticking = asyncio.create_task(tick())
    found = []
    async with aclosing(worker.stream(lambda: numbers([], 0.01), CancelToken())) as items:
        async for item in items:
            found.append((item, ticks))
            if item == 5:
                break
    ticking.cancel()
    assert [item for item, _ in found] == list(range(6))
    assert found[5][1] > found[0][1] + 10


async def test_leaving_the_stream_cancels_it_and_closes_its_iterator() -> None:
    worker = WorkerThread("test")
    log: list[str] = []
    cancel = CancelToken()
    async with aclosing(worker.stream(lambda: numbers(log, 0.001), cancel)) as items:
        async for _ in items:
            break
    assert cancel.is_set
    await worker.run(lambda: None)
    assert log == ["closed"]


async def test_a_job_that_was_cancelled_while_it_waited_is_not_begun() -> None:
    worker = WorkerThread("test")
    begun: list[str] = []
    cancel = CancelToken()
    blocking = asyncio.create_task(worker.run(lambda: time.sleep(0.1)))
    await asyncio.sleep(0.02)

    async def take() -> None:
        async for _ in worker.stream(lambda: iter([begun.append("begun")]), cancel):
            pass

    waiting = asyncio.create_task(take())
    await asyncio.sleep(0)
    cancel.set()
    with pytest.raises(Cancelled):
        await waiting
    await blocking
    assert begun == []


async def test_errors_arrive_and_the_thread_lives_on() -> None:
    worker = WorkerThread("test")

    def broken() -> Iterator[int]:
        yield 1
        raise EngineError("broken")

    found = []
    with pytest.raises(EngineError, match="broken"):
        async for item in worker.stream(broken, CancelToken()):
            found.append(item)
    assert found == [1]
    with pytest.raises(EngineError, match="SystemExit: 3"):  # itself it would end the event loop
        await worker.run(lambda: (_ for _ in ()).throw(SystemExit(3)))
    assert await worker.run(threading.get_ident) != threading.get_ident()


async def test_close_ends_the_thread_and_join_tells_whether_it_did() -> None:
    worker = WorkerThread("test")
    worker.post(lambda: time.sleep(0.2))
    worker.close()
    assert not worker.join(0.01)
    assert worker.join(2)


async def test_an_engine_that_hangs_is_given_up_and_waiting_for_ones_turn_is_not_hanging() -> None:
    worker = WorkerThread("test")
    cancel = CancelToken()

    async def take(seconds: float, timeout: float) -> list[float]:
        def work() -> Iterator[float]:
            time.sleep(seconds)
            yield seconds

        return [item async for item in worker.stream(work, cancel if seconds > 1 else CancelToken(), timeout)]

    patient = asyncio.create_task(take(0.3, 5.0))
    await asyncio.sleep(0)
    assert await take(0.0, 0.1) == [0.0], "it waited for 0.3 s, but not in vain"
    assert await patient == [0.3]
    with pytest.raises(EngineHung, match=r"the engine made nothing for 0\.1 s"):
        await take(1.1, 0.1)
    assert cancel.is_set


async def test_nobody_waits_behind_an_engine_that_hangs_even_if_its_own_listener_left() -> None:
    worker = WorkerThread("test")
    release = threading.Event()

    def hanging() -> Iterator[int]:
        yield 1
        release.wait(10)
        yield 2

    first = worker.stream(hanging, CancelToken(), timeout=0.2)
    assert await first.__anext__() == 1
    await first.aclose()
    second = worker.stream(lambda: iter((3,)), CancelToken(), timeout=0.2)
    started = time.monotonic()
    with pytest.raises(EngineHung, match=r"the engine made nothing for 0\.2 s"):
        await second.__anext__()
    assert time.monotonic() - started < 2
    release.set()
    assert [item async for item in worker.stream(lambda: iter((4,)), CancelToken(), timeout=5)] == [4]
    worker.close()
    assert worker.join(5)
