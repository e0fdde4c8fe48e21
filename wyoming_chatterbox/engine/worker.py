"""The one thread on which an engine lives."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from typing import Any, TypeVar

from ..waiting import within
from .base import Cancel, EngineError

_LOGGER = logging.getLogger(__name__)
_T = TypeVar("_T")


class EngineHung(EngineError):
    """The engine's thread does not come back from something."""


class EngineWorker:
    """Runs an engine's blocking work in order of arrival, one job at a time, away from the event loop.

    Every sentence is a job of its own, so utterances that are spoken at the same time take turns sentence
    by sentence. The thread is a daemon: a process that must exit does not wait for a model that is busy.
    """

    def __init__(self, name: str) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._waiting: set[asyncio.Queue[tuple[str, Any]]] = set()  # streams whose turn has not come
        self._limit: float | None = None
        """Seconds that the stream at work may take for an item; None: there is none, or its time is not limited."""

        self._steps = 0
        """Items and beginnings so far. One that does not change while somebody waits is an engine that does not come
        back, whatever the clock says: the process may have been stopped meanwhile."""

        self._thread = threading.Thread(target=self._work, name=f"engine-{name}", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
            del job  # a finished job must not keep its audio alive until the next one comes

    async def run(self, function: Callable[[], _T], timeout: float | None = None) -> _T:
        """Run one blocking call on the thread and return what it returns or raise what it raises.

        `timeout`: see `stream`.
        """
        async with aclosing(self.stream(lambda: iter((function(),)), Cancel(), timeout)) as results:
            async for result in results:
                return result
        raise AssertionError("unreachable: the iterator has one item")

    async def stream(
        self, make: Callable[[], Iterator[_T]], cancel: Cancel, timeout: float | None = None
    ) -> AsyncGenerator[_T, None]:
        """Iterate on the thread, yield here.

        Closing this generator before its end sets `cancel`; the thread closes its iterator at the next item. What the
        thread is ahead is held here, so callers iterate over one bounded thing (a sentence) at a time.

        Args:
            timeout: seconds that one item may take once the thread has begun; None: as long as it takes. Who waits for
                a turn looks every so often whether the stream at work is late.

        Raises:
            Cancelled: `cancel` was set before the end.
            EngineHung: an item took longer than `timeout`; the thread is still at it.
        """
        loop = asyncio.get_running_loop()
        items: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()

        def post(kind: str, value: Any) -> None:
            try:
                loop.call_soon_threadsafe(items.put_nowait, (kind, value))
            except RuntimeError:  # the loop is closed: the process is on its way out
                _LOGGER.debug("Nobody is left to take the engine's output")

        def job() -> None:
            try:
                cancel.raise_if_set()
                self._limit = timeout
                self._steps += 1
                post("begun", None)
                iterator = make()
                try:
                    for item in iterator:
                        self._steps += 1
                        cancel.raise_if_set()
                        post("item", item)
                finally:
                    close = getattr(iterator, "close", None)
                    if close is not None:
                        close()
            except Exception as error:
                post("error", error)
            except BaseException as error:  # SystemExit would end the event loop where it is raised again
                post("error", EngineError(f"{type(error).__name__}: {error}"))
            else:
                post("end", None)
            finally:
                self._limit = None

        self._jobs.put(job)
        self._waiting.add(items)
        begun = False  # waiting for one's turn has no limit, as long as who is at work is not stuck
        steps, waited = self._steps, 0.0
        try:
            while True:
                try:
                    kind, value = await within(timeout, items.get())
                except asyncio.TimeoutError:
                    assert timeout is not None
                    if not begun:
                        # Its own listener may have left, and not notice.
                        waited = waited + timeout if self._steps == steps else 0.0
                        steps = self._steps
                        if self._limit is None or waited < self._limit:
                            continue
                    cancel.set()
                    hung = EngineHung(f"the engine made nothing for {timeout:g} s")
                    for others in self._waiting:  # they would wait for it too
                        others.put_nowait(("error", hung))
                    raise hung from None
                begun = True
                self._waiting.discard(items)
                if kind == "item":
                    yield value
                elif kind == "error":
                    cancel.set()  # where its turn never came, the job must do nothing when it does
                    raise value
                elif kind == "end":
                    return
        except (GeneratorExit, asyncio.CancelledError):  # nobody listens any more
            cancel.set()
            raise
        finally:
            self._waiting.discard(items)

    def submit(self, job: Callable[[], None]) -> None:
        """Run a job for nobody: its errors are logged."""

        def logged() -> None:
            try:
                job()
            except Exception:
                _LOGGER.exception("The engine broke in %r", job)

        self._jobs.put(logged)

    def close(self) -> None:
        """End the thread once the jobs before this call are done."""
        self._jobs.put(None)

    def join(self, timeout: float) -> bool:
        """Wait for the thread to end; False when it is still at work after `timeout` seconds."""
        self._thread.join(timeout)
        return not self._thread.is_alive()
