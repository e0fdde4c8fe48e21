"""The thread in which speech tokens are made while earlier ones are decoded.

It lasts as long as its decoder: libraries keep per thread what is costly to make (cuBLAS its handle and workspace,
cuDNN an execution plan for every shape, some 30 ms each), and a thread of its own for every utterance would begin
without any of it.
"""

from __future__ import annotations

import contextlib
import queue
import sys
import threading
import weakref
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future

import torch

from ..base import CancelToken, EngineError

NAME = "speech-tokens"

SWITCH_INTERVAL = 0.0005
"""Seconds that one thread may keep the interpreter while another one waits for it. Python's own 5 ms are more than a
token takes on a GPU; 0.5 ms are a small part of it, and still hundreds of kernels are launched between two switches."""

_WAITING_SECONDS = 0.1
"""How often an utterance whose turn has not come looks at its cancellation; people do not notice it."""


class TokenThread:
    """Advances generators of tokens, one after the other, in one daemon thread that starts with the first of them."""

    def __init__(self, stream: torch.cuda.Stream | None = None) -> None:
        """
        Args:
            stream: the CUDA stream for the tokens; None: not on a GPU.
        """
        self._stream = stream
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._end = weakref.finalize(self, self._jobs.put, None)

    def iterate(self, tokens: Generator[int, None, None], cancel: CancelToken) -> Generator[int, None, None]:
        """Yield the same tokens; they are made without waiting for whoever takes them.

        Args:
            tokens: advanced and closed in the thread only.
            cancel: is set when this generator is closed early; must stop `tokens`.

        Raises:
            Cancelled: `cancel` was set.
            EngineError: the thread was closed.
        """
        stream = self._stream
        results: queue.SimpleQueue[int | BaseException | None] = queue.SimpleQueue()
        outside = None if stream is None else torch.cuda.current_stream(stream.device)
        state: Future[None] = Future()

        def work() -> None:
            if not state.set_running_or_notify_cancel():
                return
            end: BaseException | None = None
            try:
                with torch.inference_mode(), _in_stream(stream, outside), contextlib.closing(tokens):
                    for token in tokens:
                        results.put(token)
            except BaseException as error:  # raised where the tokens are taken
                end = error
            state.set_result(None)
            results.put(end)

        self._put(work)
        try:
            while not isinstance(item := _next(results, state, cancel), BaseException):
                if item is None:
                    return
                yield item
            raise item
        finally:
            cancel.set()
            # It looks at `cancel` before every token, and nobody may use its cache before it is done; where its turn
            # has not come, there is nothing to wait for.
            if not state.cancel():
                state.result()

    def close(self) -> None:
        """End the thread once the work that it has is done."""
        self._end()

    def _put(self, work: Callable[[], None]) -> None:
        if not self._end.alive:
            raise EngineError("the engine is closed")
        if self._thread is None:
            sys.setswitchinterval(min(sys.getswitchinterval(), SWITCH_INTERVAL))
            self._thread = threading.Thread(target=_work, args=(self._jobs,), name=NAME, daemon=True)
            self._thread.start()
        self._jobs.put(work)


def _work(jobs: queue.SimpleQueue[Callable[[], None] | None]) -> None:
    # It refers to the queue alone, so that a decoder that nobody closed can be freed, and ends its thread.
    while (job := jobs.get()) is not None:
        job()
        del job


def _next(
    results: queue.SimpleQueue[int | BaseException | None], state: Future[None], cancel: CancelToken
) -> int | BaseException | None:
    while True:
        try:
            return results.get(timeout=_WAITING_SECONDS)
        except queue.Empty:
            if not state.running() and not state.done():
                cancel.raise_if_set()


@contextlib.contextmanager
def _in_stream(stream: torch.cuda.Stream | None, outside: torch.cuda.Stream | None) -> Iterator[None]:
    """In a CUDA stream, behind what `outside` has to do; everything is done at the end."""
    if stream is None or outside is None:
        yield
        return
    with torch.cuda.device(stream.device):
        stream.wait_stream(outside)
        try:
            with torch.cuda.stream(stream):
                yield
        finally:
            stream.synchronize()
