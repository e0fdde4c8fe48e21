"""Waiting with a limit."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

_T = TypeVar("_T")


async def within(seconds: float | None, awaitable: Awaitable[_T]) -> _T:
    """The result of something that takes at most so long; None: as long as it takes.

    In the place of `asyncio.wait_for`, which before Python 3.12 returns a result that is there already instead of
    being cancelled: the task that was told to end goes on for ever.

    Raises:
        asyncio.TimeoutError: it took longer; it is cancelled.
    """
    task = asyncio.ensure_future(awaitable)
    try:
        done, _ = await asyncio.wait((task,), timeout=seconds)
        if not done:
            raise asyncio.TimeoutError
        return task.result()
    finally:
        task.cancel()
