"""Compares what captured CUDA graphs compute with the same steps without them, before anybody hears it.

A driver, a version of torch or a library that replays a step wrongly raises nothing: it is heard as noise, or as words
that nobody wrote. So the warm-up does every captured step once in each way from one state, and then has both families
of graphs work at the same time, where each must give to the last bit what it gave alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from ....errors import WyomingChatterboxError

_TOLERANCE = 1e-3
"""Of the relative difference where all is computed in float32: a library may choose another kernel inside a graph,
which rounds otherwise (about 1e-6 per layer)."""

_TOLERANCE_16_BIT = 0.05
"""In bfloat16, whose numbers have 8 bits (0.4 % each); what is wrong differs by about 1."""

_REPLAYS_TOGETHER = 20
"""Of each family beside the other, some 100 ms in all."""


class GraphMismatch(WyomingChatterboxError):
    """A graph computes something else than the step that was captured."""


@dataclass(frozen=True)
class Trial:
    """A captured step that can be done from one state, with its graph and without."""

    name: str
    """For the log, e.g. "256 positions"."""

    begin: Callable[[], None]
    """Puts the state in place."""

    step: Callable[[], None]
    """Does the step without its graph."""

    replay: Callable[[], None]
    results: Callable[[], Sequence[torch.Tensor]]
    """Returns copies of the tensors that the step wrote."""

    def after(self, work: Callable[[], None]) -> Sequence[torch.Tensor]:
        """Returns the results of `step` or `replay`, done from the state."""
        self.begin()
        work()
        return self.results()


def tolerance(dtype: torch.dtype) -> float:
    """Returns the largest relative difference that rounding explains, for activations of a type."""
    return _TOLERANCE if dtype == torch.float32 else _TOLERANCE_16_BIT


def check_replay(trial: Trial, largest: float) -> None:
    """Compare a replay with the step itself.

    Args:
        largest: relative difference, of each result, that is no mismatch; whole numbers must be equal.

    Raises:
        GraphMismatch: they differ by more, or one of them is not finite.
    """
    expected = trial.after(trial.step)
    for index, (value, right) in enumerate(zip(trial.after(trial.replay), expected, strict=True)):
        difference = _difference(value, right)
        if not difference <= largest:  # NaN is no match either
            raise GraphMismatch(f"{trial.name}: result {index} of a replay differs by {difference:.2g}")


def check_together(
    device: torch.device, stream: torch.cuda.Stream, beside: Trial, here: Trial, replays: int = _REPLAYS_TOGETHER
) -> None:
    """Replay two graphs of different families at the same time.

    Args:
        stream: the CUDA stream in which `beside` is replayed; `here` is in the calling thread's.
        replays: of each.

    Raises:
        GraphMismatch: a result is not the same to the last bit as that of a replay alone.
    """
    cuda = torch.cuda
    outside = cuda.current_stream(device)
    alone = [(trial, trial.after(trial.replay)) for trial in (beside, here)]
    # Waits for the host too: what follows must begin on an idle GPU, to overlap.
    for trial, expected in alone:
        _raise_unless_equal(trial, trial.after(trial.replay), expected, "a second replay alone")
    stream.wait_stream(outside)
    done: list[list[Sequence[torch.Tensor]]] = [[], []]
    try:
        for _ in range(replays):
            with cuda.stream(stream):
                done[0].append(beside.after(beside.replay))
            done[1].append(here.after(here.replay))
    finally:
        outside.wait_stream(stream)
    for (trial, expected), results in zip(alone, done, strict=True):
        for values in results:
            _raise_unless_equal(trial, values, expected, "a replay beside the other graphs")


def _raise_unless_equal(
    trial: Trial, values: Sequence[torch.Tensor], expected: Sequence[torch.Tensor], description: str
) -> None:
    if not all(torch.equal(value, right) for value, right in zip(values, expected, strict=True)):
        raise GraphMismatch(f"{trial.name}: {description} gives another result")


def _difference(value: torch.Tensor, expected: torch.Tensor) -> float:
    """Returns the relative difference of two tensors; of whole numbers, how many are not equal."""
    if not expected.is_floating_point():
        return float((value != expected).sum())
    value, expected = value.double(), expected.double()
    size = float(expected.norm())
    return float((value - expected).norm()) / size if size else float(value.norm())
