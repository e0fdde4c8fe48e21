"""The thread on which an engine lives: runs blocking work away from the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from typing import Any, TypeVar

from ..engine.base import CancelToken, EngineError
from ..timeouts import wait_for
from .base import EngineHung

_LOGGER = logging.getLogger(__name__)
_T = TypeVar("_T")


class WorkerThread:
    """Runs tasks one after the other on a thread of its own.

    The thread is a daemon: a process that must exit does not wait for a model that is busy.
    """

    def __init__(self, name: str) -> None:
        self._tasks: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._waiting: set[asyncio.Queue[tuple[str, Any]]] = set()  # streams whose task has not started
        self._time_limit: float | None = None
        """Seconds per item of the stream at work; None if there is no such stream, or it has no limit."""

        self._steps = 0
        """Starts and items so far. A stream that waits while this number stays the same waits for an engine that hangs,
        whatever the clock says: the process may have been stopped meanwhile."""

        self._thread = threading.Thread(target=self._work, name=f"engine-{name}", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            task()
            del task  # a finished task must not keep its audio alive until the next one comes

    async def run(self, function: Callable[[], _T], timeout: float | None = None) -> _T:
        """Run one blocking call on the thread; returns what it returns and raises what it raises.

        `timeout`: see `stream`.
        """
        async with aclosing(self.stream(lambda: iter((function(),)), CancelToken(), timeout)) as results:
            async for result in results:
                return result
        raise AssertionError("unreachable: the iterator has one item")

    async def stream(
        self, start: Callable[[], Iterator[_T]], cancel: CancelToken, timeout: float | None = None
    ) -> AsyncGenerator[_T, None]:
        """Iterate on the thread, yield here.

        Closing this generator before its end sets `cancel`; the thread closes its iterator at the next item. Output is
        buffered without limit; callers must bound each iterator (one sentence).

        Args:
            timeout: seconds that one item may take once the task has started; None: no limit. A stream that has not
                started checks every `timeout` seconds whether the one at work is over its own limit.

        Raises:
            Cancelled: `cancel` was set before the end.
            EngineHung: an item took longer than `timeout`; the thread is still at it.
        """
        loop = asyncio.get_running_loop()
        items: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()

        def emit(kind: str, value: Any) -> None:
            try:
                loop.call_soon_threadsafe(items.put_nowait, (kind, value))
            except RuntimeError:  # the loop is closed: the process is on its way out
                _LOGGER.debug("The event loop is closed: the engine's output is dropped")

        def task() -> None:
            try:
                cancel.raise_if_set()
                self._time_limit = timeout
                self._steps += 1
                emit("started", None)
                iterator = start()
                try:
                    for item in iterator:
                        self._steps += 1
                        cancel.raise_if_set()
                        emit("item", item)
                finally:
                    close = getattr(iterator, "close", None)
                    if close is not None:
                        close()
            except Exception as error:
                emit("error", error)
            except BaseException as error:  # SystemExit would end the event loop where it is raised again
                emit("error", EngineError(f"{type(error).__name__}: {error}"))
            else:
                emit("end", None)
            finally:
                self._time_limit = None

        self._tasks.put(task)
        self._waiting.add(items)
        started = False  # the wait for the start has no limit, as long as the thread is not stuck
        steps, waited = self._steps, 0.0
        try:
            while True:
                try:
                    kind, value = await wait_for(timeout, items.get())
                except asyncio.TimeoutError:
                    assert timeout is not None
                    if not started:
                        # The listener of the stream at work may have left, so that nobody else notices.
                        waited = waited + timeout if self._steps == steps else 0.0
                        steps = self._steps
                        if self._time_limit is None or waited < self._time_limit:
                            continue
                    cancel.set()
                    hung = EngineHung(f"the engine made nothing for {timeout:g} s")
                    for queued in self._waiting:  # they would wait for it too
                        queued.put_nowait(("error", hung))
                    raise hung from None
                started = True
                self._waiting.discard(items)
                if kind == "item":
                    yield value
                elif kind == "error":
                    cancel.set()  # a task that has not started must do nothing when it does
                    raise value
                elif kind == "end":
                    return
        except (GeneratorExit, asyncio.CancelledError):  # nobody listens any more
            cancel.set()
            raise
        finally:
            self._waiting.discard(items)

    def post(self, function: Callable[[], None]) -> None:
        """Run a call on the thread without waiting for it; its errors are logged."""

        def task() -> None:
            try:
                function()
            except Exception:
                _LOGGER.exception("The engine failed in %r", function)

        self._tasks.put(task)

    async def drained(self) -> None:
        """Wait until the tasks before this call are done, however long they take."""
        loop = asyncio.get_running_loop()
        done = asyncio.Event()

        def tell() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(done.set)

        self._tasks.put(tell)
        await done.wait()

    def close(self) -> None:
        """End the thread once the tasks before this call are done."""
        self._tasks.put(None)

    def join(self, timeout: float) -> bool:
        """Block until the thread has ended; False if it is still at work after `timeout` seconds."""
        self._thread.join(timeout)
        return not self._thread.is_alive()
