"""Blocking calls with a time limit: nothing waits for one that hangs, the end of the process least of all."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from wyoming_chatterbox.blocking import DaemonThreads, call_within, run_blocking
from wyoming_chatterbox.testing.serving import environment

HANGS = """
import asyncio, os, sys
from wyoming_chatterbox.blocking import run_blocking

async def main():
    try:
        await run_blocking(open, sys.argv[1], timeout=0.1)
    except asyncio.TimeoutError:
        print("gave up", flush=True)

asyncio.run(main())
"""


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    """A file that hangs whoever opens it: nobody writes into it."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    return path


def release(pipe: Path) -> None:
    """Let those go on who hang at the pipe."""
    os.close(os.open(pipe, os.O_RDWR | os.O_NONBLOCK))


async def test_the_result_and_the_error_are_the_functions() -> None:
    assert await run_blocking(int, "12", timeout=5) == 12
    with pytest.raises(ValueError, match="twelve"):
        await run_blocking(int, "twelve", timeout=5)
    assert call_within(5, int, "12") == 12
    with pytest.raises(ValueError, match="twelve"):
        call_within(5, int, "twelve")


@pytest.mark.parametrize("error", [StopIteration, SystemExit, KeyboardInterrupt])
async def test_what_would_end_the_loop_or_get_stuck_in_a_future_arrives_as_an_error(error: type[BaseException]) -> None:
    def raises() -> None:
        raise error

    with pytest.raises(RuntimeError, match=error.__name__):
        await run_blocking(raises, timeout=5)


async def test_a_call_that_hangs_is_given_up_and_the_loop_goes_on(pipe: Path) -> None:
    with pytest.raises(asyncio.TimeoutError):
        await run_blocking(open, pipe, timeout=0.05)
    with pytest.raises(TimeoutError):
        call_within(0.05, open, pipe)
    release(pipe)


async def test_further_calls_wait_for_their_turn_and_one_that_was_given_up_is_never_made(pipe: Path) -> None:
    threads = DaemonThreads("test")
    calls: list[int] = []
    with pytest.raises(asyncio.TimeoutError):
        await threads.run(os.open, pipe, os.O_RDONLY, timeout=0.05)
    with pytest.raises(asyncio.TimeoutError):
        await threads.run(calls.append, 1, timeout=0.05)
    waiting = [asyncio.create_task(threads.run(calls.append, number, timeout=5)) for number in (2, 3)]
    await asyncio.sleep(0)
    assert threads.unfinished == 3 and not calls
    release(pipe)
    await asyncio.gather(*waiting)
    assert calls == [2, 3]


async def test_no_more_threads_than_allowed_and_none_that_stays() -> None:
    threads = DaemonThreads("counted", 2)
    peak = 0

    def count_threads() -> None:
        nonlocal peak
        peak = max(peak, sum(thread.name == "counted" for thread in threading.enumerate()))
        time.sleep(0.01)

    await asyncio.gather(*(threads.run(count_threads, timeout=5) for _ in range(10)))
    assert peak == 2
    for _ in range(100):
        if not threads.unfinished:
            break
        await asyncio.sleep(0.01)
    assert threads.unfinished == 0


def test_neither_the_event_loops_end_nor_the_interpreters_waits_for_a_call_that_hangs(pipe: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HANGS, str(pipe)], capture_output=True, text=True, timeout=20, env=environment()
    )
    assert (done.stdout, done.returncode) == ("gave up\n", 0), done.stderr
