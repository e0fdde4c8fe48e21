"""Waiting with a limit."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

_T = TypeVar("_T")

_PARTS = 8
"""In so many parts a time limit is waited for. A part in which the process was stopped is repeated, so what is read
after a stop has an eighth of the limit at least."""

LATE_SECONDS = 0.1
"""A wait that ends later than this after its time: the event loop did not run meanwhile, and read nothing."""

_SHORTEST = 0.001


async def wait_for(seconds: float | None, awaitable: Awaitable[_T]) -> _T:
    """Returns the result of an awaitable that may take `seconds` at most; None: no limit.

    Counted is time in which the event loop runs, as of `ends_within`. In the place of `asyncio.wait_for`, which before
    Python 3.12 returns a result that is there already instead of being cancelled: the task that was told to end goes on
    for ever.

    Raises:
        asyncio.TimeoutError: it took longer; it is cancelled.
    """
    task = asyncio.ensure_future(awaitable)
    try:
        if not await ends_within(seconds, task):
            raise asyncio.TimeoutError
        return task.result()
    finally:
        task.cancel()


async def ends_within(seconds: float | None, task: asyncio.Future[Any]) -> bool:
    """Returns whether a task ends within some seconds (None: however long it takes). It is not cancelled.

    Time in which the event loop does not run (the process is stopped, the machine sleeps) does not count: what a client
    sent meanwhile is in the socket, and is read before its sender is called late.
    """
    if seconds is None:
        await asyncio.wait((task,))
        return True
    part = max(seconds / _PARTS, _SHORTEST)
    while True:
        wait = min(part, seconds)
        started = time.monotonic()
        done, _ = await asyncio.wait((task,), timeout=max(wait, 0.0))
        if done:
            return True
        late = time.monotonic() - started - wait > LATE_SECONDS
        # Half of it, so that the limit is reached on a machine that is always late, too.
        seconds -= wait / 2 if late and wait > _SHORTEST else wait
        if seconds <= 0:
            return False


class Timer:
    """Calls a function after some seconds in which the event loop ran, as of `ends_within`."""

    def __init__(self, seconds: float, function: Callable[[], object]) -> None:
        self._loop = asyncio.get_running_loop()
        self._part = max(seconds / _PARTS, _SHORTEST)
        self._left = seconds
        self._function = function
        self._wait()

    def cancel(self) -> None:
        """Forget the call."""
        self._handle.cancel()

    def _wait(self) -> None:
        wait = max(min(self._part, self._left), 0.0)
        self._due = self._loop.time() + wait
        self._handle = self._loop.call_at(self._due, self._end_part, wait)

    def _end_part(self, wait: float) -> None:
        late = self._loop.time() - self._due > LATE_SECONDS
        self._left -= wait / 2 if late and wait > _SHORTEST else wait
        if self._left <= 0:
            self._function()
        else:
            self._wait()
