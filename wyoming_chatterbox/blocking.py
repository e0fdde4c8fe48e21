"""Blocking calls that nobody has to wait for: on daemon threads, with a time limit.

A call into a disk, a network share or the name service can hang for ever, and nothing in Python interrupts it. The
event loop's own executor is no place for such a call: `asyncio.run` joins its threads before it returns, and the
interpreter joins them before it exits, so one dead share keeps the process alive. The threads here are daemons that
neither of the two waits for.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import queue
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from .waiting import within

_LOGGER = logging.getLogger(__name__)

OUTPUT_THREAD = "stdout"
"""Name of the one thread that the end of the process waits for: the last audio of stdio:// is on its way in it."""
_T = TypeVar("_T")


class DaemonThreads:
    """Runs blocking calls in order of arrival, on at most `limit` daemon threads at a time.

    A call that hangs occupies its thread until it returns, also when nobody waits for it any more; use one instance
    per purpose, so that a dead share does not hold up what has nothing to do with it. Threads exist only while there
    is something to run, so there is nothing to close. May be used from any thread.

    disk = DaemonThreads("cache")
    content = await disk.run(path.read_bytes, timeout=2.0)
    """

    def __init__(self, name: str, limit: int = 1) -> None:
        """
        Args:
            name: of the threads, for whoever looks at a stack trace.
            limit: calls that run at once, at least 1; further ones wait for their turn.
        """
        self._name = name
        self._limit = limit
        self._lock = threading.Lock()
        self._queue: deque[Callable[[], None]] = deque()
        self._running = 0

    @property
    def unfinished(self) -> int:
        """Calls that run, hang, or wait for their turn."""
        with self._lock:
            return self._running + len(self._queue)

    async def run(self, function: Callable[..., _T], *arguments: object, timeout: float | None) -> _T:
        """Call a function on a thread and return what it returns or raise what it raises.

        Cancelling this leaves the call behind; one whose turn has not come is never made.

        Args:
            timeout: seconds to wait for a thread and for the call together; None: as long as it takes, for a caller
                that is itself cancelled in the end.

        Raises:
            asyncio.TimeoutError: it took longer. The call goes on, its result is dropped.
            RuntimeError: the system has no further thread.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_T] = loop.create_future()

        def finish(result: _T | None, error: BaseException | None) -> None:
            if future.cancelled():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)  # type: ignore[arg-type]

        def work() -> None:
            if future.cancelled():
                return
            result, error = _outcome(function, arguments)
            with contextlib.suppress(RuntimeError):  # the loop is closed: the process is on its way out
                loop.call_soon_threadsafe(finish, result, error)

        self._start(work)
        try:
            return await within(timeout, future)
        finally:
            with self._lock, contextlib.suppress(ValueError):
                self._queue.remove(work)

    def call(self, function: Callable[..., _T], *arguments: object, timeout: float) -> _T:
        """Call a function on a thread where there is no event loop to go on meanwhile.

        Raises:
            TimeoutError: it took longer than `timeout` seconds. The call goes on, its result is dropped.
            RuntimeError: the system has no further thread.
        """
        results: queue.SimpleQueue[tuple[_T | None, BaseException | None]] = queue.SimpleQueue()
        given_up = False

        def work() -> None:
            if not given_up:
                results.put(_outcome(function, arguments))

        self._start(work)
        try:
            result, error = results.get(timeout=timeout)
        except queue.Empty:
            given_up = True
            with self._lock, contextlib.suppress(ValueError):
                self._queue.remove(work)
            raise TimeoutError(f"no answer within {timeout:g} s") from None
        if error is not None:
            raise error
        return result  # type: ignore[return-value]

    def submit(self, function: Callable[..., object], *arguments: object) -> None:
        """Call a function on a thread, for nobody: an exception is logged.

        Raises:
            RuntimeError: the system has no further thread.
        """

        def work() -> None:
            _, error = _outcome(function, arguments)
            if error is not None:
                _LOGGER.error("%s failed in the background", self._name, exc_info=error)

        self._start(work)

    def _start(self, work: Callable[[], None]) -> None:
        with self._lock:
            if self._running >= self._limit:
                self._queue.append(work)
                return
            self._running += 1
        try:
            threading.Thread(target=self._work, args=(work,), name=self._name, daemon=True).start()
        except BaseException:
            with self._lock:
                self._running -= 1
            raise

    def _work(self, work: Callable[[], None]) -> None:
        while True:
            work()
            del work  # what a finished call holds must not stay until the next one comes
            with self._lock:
                if not self._queue:
                    self._running -= 1
                    return
                work = self._queue.popleft()


async def run_blocking(
    function: Callable[..., _T], *arguments: object, timeout: float | None, name: str = "blocking"
) -> _T:
    """Call a blocking function on a daemon thread of its own; see `DaemonThreads.run`."""
    return await DaemonThreads(name).run(function, *arguments, timeout=timeout)


class UnjoinedExecutor(ThreadPoolExecutor):
    """An event loop's default executor whose threads nobody waits for: what libraries run there may hang too."""

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no further calls; `wait` is ignored."""
        super().shutdown(wait=False, cancel_futures=True)


def call_within(seconds: float, function: Callable[..., _T], *arguments: object) -> _T:
    """Call a blocking function on a daemon thread of its own; see `DaemonThreads.call`."""
    return DaemonThreads("blocking").call(function, *arguments, timeout=seconds)


def _outcome(function: Callable[..., _T], arguments: tuple[object, ...]) -> tuple[_T | None, BaseException | None]:
    """(what a function returns, what it raises), in a form that a future can hold."""
    try:
        return functools.partial(function, *arguments)(), None
    except StopIteration as error:  # which no future takes
        return None, RuntimeError(f"the call raised {error!r}")
    except Exception as error:
        return None, error
    except BaseException as error:  # SystemExit would end the event loop where it is raised again
        return None, RuntimeError(f"the call raised {error!r}")
