"""The flow decoder's Euler steps as CUDA graphs, for attention to everything there is.

A step of the network is about 1150 kernels, most of them shorter than it takes to ask for them. Its shapes depend on
the number of frames, so frames are filled up to a multiple of `FRAMES_STEP`: convolutions look back only, and a mask
keeps the attention layers from what is filled in.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ...base import CancelToken
from ..compute import cuda_graphs
from ..compute.graph_check import Trial, check_replay, tolerance
from .estimator import Estimator, guided

FRAMES_STEP = 64
"""Frames that graphs are apart: what is filled up costs 3 % of 1024 on average."""

TYPICAL_FRAMES = 1536
"""Of the longest decode with a graph: a voice's prompt of 10 s and 20 s of speech. With more of them the network takes
longer than asking for its kernels."""


@dataclass
class _Buffers:
    """What a graph of some size reads and writes."""

    x: Tensor
    """Frames on their way, shape (1, size, 80)."""

    conditioning: Tensor
    """mu, speaker and condition, shape (rows, size, 240), see `Estimator.rows`."""

    mask: Tensor
    """Added to attention's scores: 0 for frames, -inf for what is filled in, shape (1, 1, 1, size)."""

    graph: torch.cuda.CUDAGraph = field(init=False)


class FlowGraphs:
    """Solves the flow decoder's equation with captured steps; for one utterance at a time."""

    def __init__(self, estimator: Estimator, times: Sequence[float], guidance: float) -> None:
        """
        Args:
            times: when the Euler steps begin, and the end of the last one.
            guidance: upstream's inference_cfg_rate.
        """
        self._estimator = estimator
        self._guidance = guidance
        self._steps = len(times) - 1
        lengths = [then - now for now, then in itertools.pairwise(times)]
        self._lengths = torch.tensor(lengths, device=estimator.device)
        self._index = torch.zeros(1, dtype=torch.long, device=estimator.device)
        """Of the step that comes next."""

        self._captured: dict[int, _Buffers] = {}
        self._family: cuda_graphs.GraphFamily | None = None

    def capture(self) -> None:
        """Capture a step for every usual number of frames, and compare each with the step itself; what cannot be
        captured is done without."""
        try:
            self._family = cuda_graphs.GraphFamily(self._estimator.device)
            pool = torch.cuda.graph_pool_handle()
            # The largest first: the others find room in its memory.
            for size in range(TYPICAL_FRAMES, 0, -FRAMES_STEP):
                buffers = self.buffers(size)
                state = (buffers.x, self._index)
                work = functools.partial(self.step, buffers)
                buffers.graph = self._family.capture(work, state, pool)
                self._captured[size] = buffers
            for trial in self.trials():
                check_replay(trial, tolerance(self._estimator.dtype))
        except Exception as error:
            self.drop(error)

    def drop(self, error: Exception) -> None:
        """Go on without graphs, and say why in the log."""
        self._captured.clear()
        self._family = None
        cuda_graphs.warn_without("flow decoder", error)

    def trial(self) -> Trial | None:
        """Returns the longest step that was captured, for comparisons; None where none was."""
        return self._trial(max(self._captured)) if self._captured else None

    def trials(self) -> Iterator[Trial]:
        """Returns every step that was captured, the longest first."""
        return (self._trial(size) for size in self._captured)

    def _trial(self, size: int) -> Trial:
        """Returns the first step of noise in all frames but the last one, which is filled up."""
        buffers = self._captured[size]
        random = torch.Generator().manual_seed(size)
        x = torch.randn(1, size - 1, buffers.x.shape[2], generator=random).to(buffers.x)
        rows, _, channels = buffers.conditioning.shape
        conditioning = torch.randn(rows, size - 1, channels, generator=random).to(buffers.conditioning)
        return Trial(
            f"{size} frames",
            lambda: self.fill(buffers, x, conditioning),
            lambda: self.step(buffers),
            buffers.graph.replay,
            lambda: (buffers.x[:, : size - 1].clone(), self._index.clone()),
        )

    def solve(self, x: Tensor, conditioning: Tensor, cancel: CancelToken) -> Tensor | None:
        """Returns the frames at the end of the last step, shape (1, n, 80); None where no graph is for so many.

        Args:
            x: noise, shape (1, n, 80).
            conditioning: shape (rows, n, 240).
            cancel: looked at before every step.
        """
        frames = x.shape[1]
        buffers = self._captured.get(-(-frames // FRAMES_STEP) * FRAMES_STEP)
        if buffers is None:
            return None
        self.fill(buffers, x, conditioning)
        for _ in range(self._steps):
            cancel.raise_if_set()
            buffers.graph.replay()
        return buffers.x[:, :frames].clone()

    def buffers(self, size: int) -> _Buffers:
        """Fresh ones for so many frames."""
        zeros, estimator = torch.zeros, self._estimator
        return _Buffers(
            zeros(1, size, estimator.bands, device=estimator.device),
            zeros(estimator.rows, size, estimator.inputs - estimator.bands, device=estimator.device),
            zeros(1, 1, 1, size, dtype=estimator.dtype, device=estimator.device),
        )

    def fill(self, buffers: _Buffers, x: Tensor, conditioning: Tensor) -> None:
        """Put an utterance's frames where the first step finds them."""
        frames = x.shape[1]
        # What is filled in is not heard, but it must stay finite: times nothing, the infinite would be.
        buffers.x[:, :frames], buffers.x[:, frames:] = x, 0
        buffers.conditioning[:, :frames] = conditioning
        buffers.mask[..., :frames], buffers.mask[..., frames:] = 0, float("-inf")
        self._index.zero_()

    def step(self, buffers: _Buffers) -> None:
        """One Euler step; its shapes depend on the buffers' alone."""
        x = buffers.x
        inputs = torch.cat((x.expand(self._estimator.rows, -1, -1), buffers.conditioning), dim=2)
        direction = guided(self._estimator(inputs, self._index, mask=buffers.mask), self._guidance)
        x.add_(self._lengths.index_select(0, self._index) * direction)
        self._index.add_(1)
