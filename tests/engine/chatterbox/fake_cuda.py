"""A device that only says it is a GPU: work on it is done at once, also while it is captured; what was captured is done
again by `replay()`. What a real GPU says to the captured kernels cannot be seen with it.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

_REAL_CUDA = torch.cuda


class FakeDevice(str):
    """The CPU, called another name."""

    type = "cuda"


class FakeEvent:
    def __init__(self, enable_timing: bool = False) -> None:
        self._at = 0.0

    def record(self) -> None:
        self._at = time.perf_counter()

    def synchronize(self) -> None:
        pass

    def elapsed_time(self, ended: FakeEvent) -> float:
        return 1000 * (ended._at - self._at)


class FakeStream:
    def __init__(self, device: Any = None) -> None:
        pass

    def wait_stream(self, other: Any) -> None:
        pass

    def synchronize(self) -> None:
        pass


class FakeGraph:
    def __init__(self) -> None:
        self.replay: Callable[[], None] = lambda: pytest.fail("nothing was captured")
        self.stream: FakeStream | None = None
        """On which it was captured."""

        self.warmed_up_on: set[FakeStream] = set()


class FakeCuda:
    """In the place of `torch.cuda`: as there, the current stream is the thread's, and a capture that fails leaves the
    thread on the stream of the capture."""

    CUDAGraph = FakeGraph
    Event = FakeEvent

    def __init__(self) -> None:
        self.captured = 0
        self.breaks_at: int | None = None
        self.spoil: Callable[[], None] | None = None
        """Done behind every replay: what a broken driver makes of it."""

        self.error: Exception = torch.cuda.OutOfMemoryError("no memory for it")
        self.default = FakeStream()
        self.last_sequence: Any = None
        """Of the last step of the language model."""

        self.streams: list[FakeStream] = []
        self.graphs: list[FakeGraph] = []
        self.worked_on: set[FakeStream] = set()
        """The streams on which something was done since the last capture."""

        self._thread = threading.local()
        self._capturing: FakeGraph | None = None

    def Stream(self, device: Any = None) -> FakeStream:
        self.streams.append(FakeStream())
        return self.streams[-1]

    def current_stream(self, device: Any = None) -> FakeStream:
        return getattr(self._thread, "stream", self.default)

    def set_stream(self, stream: FakeStream) -> None:
        self._thread.stream = stream

    @contextlib.contextmanager
    def stream(self, stream: FakeStream) -> Iterator[None]:
        before = self.current_stream()
        self.set_stream(stream)
        try:
            yield
        finally:
            self.set_stream(before)

    @contextlib.contextmanager
    def graph(
        self, graph: FakeGraph, pool: Any = None, stream: FakeStream | None = None, capture_error_mode: str = ""
    ) -> Iterator[None]:
        if self._capturing is not None:
            raise RuntimeError("something else is captured")
        before = self.current_stream()
        graph.stream, graph.warmed_up_on = stream or DEFAULT_CAPTURE_STREAM, self.worked_on
        self.set_stream(graph.stream)
        self._capturing = graph
        try:
            time.sleep(0.01)
            if self.captured == self.breaks_at:
                raise self.error
            yield
            self.captured += 1
            self.graphs.append(graph)
        finally:
            self._capturing, self.worked_on = None, set()
        self.set_stream(before)

    def synchronize(self, device: Any = None) -> None:
        pass

    def memory_allocated(self, device: Any = None) -> int:
        return 0

    def memory_reserved(self, device: Any = None) -> int:
        return 0

    def graph_pool_handle(self) -> str:
        return "pool"

    def __getattr__(self, name: str) -> Any:
        return getattr(_REAL_CUDA, name)  # what torch itself asks

    def saw(self, work: Callable[[], None]) -> None:
        self.worked_on.add(self.current_stream())
        if self._capturing is not None:
            self._capturing.replay = lambda: self._replay(work)

    def _replay(self, work: Callable[[], None]) -> None:
        work()
        if self.spoil is not None:
            self.spoil()


DEFAULT_CAPTURE_STREAM = FakeStream()
"""Of torch, for all captures that name none."""
