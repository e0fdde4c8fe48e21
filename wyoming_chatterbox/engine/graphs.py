"""CUDA graphs: work of fixed shapes that a GPU does again without being told every kernel of it.

What is captured reads and writes the same tensors each time; whoever replays it puts the input there before.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any

_LOGGER = logging.getLogger(__name__)

_CAPTURING = threading.Lock()
"""A process may capture one graph at a time: beginning to, torch waits for the whole device, which nobody may while
some of its work is captured."""


def capture(torch: Any, device: Any, work: Callable[[], None], state: Sequence[Any], pool: Any = None) -> Any:
    """A torch.cuda.CUDAGraph of some work.

    Args:
        torch: the module.
        device: a CUDA device.
        work: is done three times.
        state: tensors that the work changes; they are left as they were.
        pool: the memory of graphs that are never replayed at the same time (torch.cuda.graph_pool_handle());
            None: memory of its own.
    """
    with _CAPTURING:
        before = [tensor.clone() for tensor in state]
        try:
            # Capturing wants everything to have run before, in another stream than the default one.
            stream = torch.cuda.Stream(device)
            stream.wait_stream(torch.cuda.current_stream(device))
            with torch.cuda.stream(stream):
                for _ in range(2):
                    work()
                    _put(before, state)
            torch.cuda.current_stream(device).wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            # Other utterances' threads may go on with theirs meanwhile.
            with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
                work()
        finally:
            _put(before, state)
    return graph


def say_without(what: str, error: Exception) -> None:
    """Log that something goes on without graphs, which a driver, a version of torch or too little memory may cause."""
    _LOGGER.warning("CUDA graphs of the %s cannot be captured here, its steps run without (%s)", what, error)


def _put(values: Sequence[Any], tensors: Sequence[Any]) -> None:
    for tensor, value in zip(tensors, values, strict=True):
        tensor.copy_(value)
