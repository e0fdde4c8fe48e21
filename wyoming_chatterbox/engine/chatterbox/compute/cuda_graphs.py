"""CUDA graphs: work of fixed shapes that a GPU repeats without being told every kernel of it.

What is captured reads and writes the same tensors each time; whoever replays it puts the input there before.

A kernel of cuBLAS writes partial sums into a workspace that belongs to the thread and the stream it was captured on.
Two graphs with one workspace must never run beside each other, and a workspace that was allocated during a capture is
freed with that graph. So every family of graphs has a stream of its own for as long as it lives, on which it warms up
(which allocates the workspace outside of any capture) and captures; graphs of one family are replayed one after the
other.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch

from ...cuda_errors import raise_if_sticky
from .graph_check import GraphMismatch

_LOGGER = logging.getLogger(__name__)

_CAPTURING = threading.Lock()
"""A process may capture one graph at a time: beginning to, torch waits for the whole device, which nobody may while
some of its work is captured."""

_WARM_UPS = 2
"""Torch asks for a run before capture, on the stream of the capture; the second one finds every lazy choice made."""

_ALIVE: weakref.WeakSet[GraphFamily] = weakref.WeakSet()


class GraphFamily:
    """Graphs that are replayed one after the other, never beside each other; two families may be."""

    def __init__(self, device: torch.device) -> None:
        """
        Args:
            device: a CUDA device.
        """
        self._device = device
        self._stream = torch.cuda.Stream(device)
        _ALIVE.add(self)

    def capture(
        self, work: Callable[[], None], state: Sequence[torch.Tensor], pool: Any = None
    ) -> torch.cuda.CUDAGraph:
        """Return a torch.cuda.CUDAGraph of some work. The calling thread is on its stream again afterwards, whatever
        is raised.

        Args:
            work: is done three times.
            state: tensors that the work changes; they are left as they were.
            pool: the memory of graphs that are never replayed at the same time (torch.cuda.graph_pool_handle());
                None: memory of its own.
        """
        cuda, stream = torch.cuda, self._stream
        with _CAPTURING:
            outside = cuda.current_stream(self._device)
            before = [tensor.clone() for tensor in state]
            try:
                stream.wait_stream(outside)
                with cuda.stream(stream):
                    for _ in range(_WARM_UPS):
                        work()
                        _put(before, state)
                outside.wait_stream(stream)
                graph = cuda.CUDAGraph()
                # Other utterances' threads may go on with theirs meanwhile.
                with cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
                    work()
            finally:
                # A capture that fails leaves the thread on the stream of the capture.
                cuda.set_stream(outside)
                outside.wait_stream(stream)
                _put(before, state)
        return graph


def any_alive() -> bool:
    """Returns True if there are graphs in this process that may be replayed: then cuBLAS must keep its workspaces."""
    return bool(_ALIVE)


def warn_without(what: str, error: Exception) -> None:
    """Log that something goes on without graphs, which a driver, a version of torch or too little memory may cause.

    Args:
        what: is computed without them.
        error: raised by a capture or by the check behind it.

    Raises:
        EngineBroken: the error ended all work on the GPU, with graphs or without.
    """
    raise_if_sticky(error)
    if isinstance(error, GraphMismatch):
        _LOGGER.warning(
            "CUDA graphs of the %s do not compute here what its steps compute without them (%s); its steps run without",
            what,
            error,
        )
        return
    _LOGGER.warning("CUDA graphs of the %s cannot be captured here, its steps run without (%s)", what, error)


def _put(values: Sequence[torch.Tensor], tensors: Sequence[torch.Tensor]) -> None:
    for tensor, value in zip(tensors, values, strict=True):
        tensor.copy_(value)
