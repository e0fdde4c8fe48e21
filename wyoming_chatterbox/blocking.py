"""Runs blocking calls on daemon threads, with a time limit.

A call to a disk, a network share or the name service can hang forever, and Python cannot interrupt it. The event loop's
default executor is unsuitable for such calls: `asyncio.run` joins its threads before it returns, and the interpreter
joins them before it exits, so a single dead share keeps the process alive. Neither waits for the daemon threads here.
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

from .timeouts import wait_for

_LOGGER = logging.getLogger(__name__)

OUTPUT_THREAD = "stdout"
"""Name of the only thread that the process waits for at exit: it writes the last audio of stdio://."""

_T = TypeVar("_T")


class DaemonThreads:
    """Runs blocking calls in order of arrival, on at most `limit` daemon threads at a time.

    A call that hangs occupies its thread until it returns, even after its caller has given up; use a separate instance
    for each purpose, so that a dead share does not delay unrelated work. Threads exist only while there is something to
    run, so nothing needs closing. May be used from any thread.

    disk = DaemonThreads("cache")
    content = await disk.run(path.read_bytes, timeout=2.0)
    """

    def __init__(self, name: str, limit: int = 1) -> None:
        """
        Args:
            name: name of the threads, for stack traces.
            limit: maximum number of concurrent calls, at least 1; further calls are queued.
        """
        self._name = name
        self._limit = limit
        self._lock = threading.Lock()
        self._queue: deque[Callable[[], None]] = deque()
        self._running = 0

    @property
    def unfinished(self) -> int:
        """Number of calls that are running, hanging or queued."""
        with self._lock:
            return self._running + len(self._queue)

    async def run(self, function: Callable[..., _T], *arguments: object, timeout: float | None) -> _T:
        """Calls a function on a thread. Returns its result, or raises its exception.

        Cancelling this abandons the call; a call that is still queued is never made.

        Args:
            timeout: seconds to wait for a thread and for the call together; None: no limit, for a caller that is
                eventually cancelled itself.

        Raises:
            asyncio.TimeoutError: it took longer. The call continues, and its result is discarded.
            RuntimeError: the system cannot start another thread.
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
            with contextlib.suppress(RuntimeError):  # the loop is closed: the process is exiting
                loop.call_soon_threadsafe(finish, result, error)

        self._start(work)
        try:
            return await wait_for(timeout, future)
        finally:
            with self._lock, contextlib.suppress(ValueError):
                self._queue.remove(work)

    def call(self, function: Callable[..., _T], *arguments: object, timeout: float) -> _T:
        """Calls a function on a thread and waits for it, for callers outside an event loop.

        Raises:
            TimeoutError: it took longer than `timeout` seconds. The call continues, and its result is discarded.
            RuntimeError: the system cannot start another thread.
        """
        results: queue.SimpleQueue[tuple[_T | None, BaseException | None]] = queue.SimpleQueue()
        abandoned = False

        def work() -> None:
            if not abandoned:
                results.put(_outcome(function, arguments))

        self._start(work)
        try:
            result, error = results.get(timeout=timeout)
        except queue.Empty:
            abandoned = True
            with self._lock, contextlib.suppress(ValueError):
                self._queue.remove(work)
            raise TimeoutError(f"no answer within {timeout:g} s") from None
        if error is not None:
            raise error
        return result  # type: ignore[return-value]

    def submit(self, function: Callable[..., object], *arguments: object) -> None:
        """Calls a function on a thread without waiting for it; logs an exception.

        Raises:
            RuntimeError: the system cannot start another thread.
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
            del work  # releases what the finished call references before the next one arrives
            with self._lock:
                if not self._queue:
                    self._running -= 1
                    return
                work = self._queue.popleft()


async def run_blocking(
    function: Callable[..., _T], *arguments: object, timeout: float | None, name: str = "blocking"
) -> _T:
    """Calls a blocking function on a separate daemon thread; see `DaemonThreads.run`."""
    return await DaemonThreads(name).run(function, *arguments, timeout=timeout)


class UnjoinedExecutor(ThreadPoolExecutor):
    """A default executor for an event loop that never joins its threads: calls by libraries may hang as well."""

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Accepts no further calls. Ignores `wait`."""
        super().shutdown(wait=False, cancel_futures=True)


def call_within(seconds: float, function: Callable[..., _T], *arguments: object) -> _T:
    """Calls a blocking function on a separate daemon thread; see `DaemonThreads.call`."""
    return DaemonThreads("blocking").call(function, *arguments, timeout=seconds)


def _outcome(function: Callable[..., _T], arguments: tuple[object, ...]) -> tuple[_T | None, BaseException | None]:
    """Returns (result, exception) of a call, in a form that a future can hold."""
    try:
        return functools.partial(function, *arguments)(), None
    except StopIteration as error:  # a future cannot hold it
        return None, RuntimeError(f"the call raised {error!r}")
    except Exception as error:
        return None, error
    except BaseException as error:  # re-raising SystemExit would end the event loop
        return None, RuntimeError(f"the call raised {error!r}")
