"""UpstreamStream of the language model as CUDA graphs, captured and compared before anybody hears them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import torch
from torch import Tensor

from ..compute.cuda_graphs import GraphFamily, warn_without
from ..compute.graph_check import Trial, check_replay, tolerance
from . import decode
from .decode import Decoder
from .sampling import CURRENT
from .sequence import Sequence

TYPICAL_POSITIONS = 1536
"""Of the longest usual utterance: a voice, a sentence of 240 characters (a token each at most), and the 1000 tokens it
may take."""


class CapturedSteps:
    """Advances sequences one by one by `Decoder.captured_step`; on an NVIDIA GPU by CUDA graphs of it, for as long as
    these can be captured."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._family: GraphFamily | None = None
        self._lock = threading.Lock()
        """Of the family: utterances may be in threads of their own."""

    @property
    def usable(self) -> bool:
        """Whether there is a GPU, and no capture failed."""
        return self._decoder.captured and self._decoder.device.type == "cuda"

    @property
    def count(self) -> int:
        """How many graphs the next utterance finds."""
        sequence = self._decoder.free
        return len(sequence.graphs) if self.usable and sequence is not None else 0

    def advance(self, sequence: Sequence) -> None:
        """Feed the sequence's token and draw the one behind it."""
        decoder = self._decoder
        end = -(-(sequence.next_position + 1) // decode.CACHE_STEP) * decode.CACHE_STEP
        decoder.fill_noise(sequence)
        graph = self._graph_or_none(sequence, end)
        if graph is None:
            decoder.captured_step(sequence, end)
        else:
            graph.replay()
        sequence.next_position += 1

    def capture(self, *, guided: bool) -> None:
        """Capture the graphs of utterances of usual length, with or without guidance, and compare each with the step
        itself; without a GPU, do nothing."""
        if not self.usable:
            return
        decoder = self._decoder
        try:
            with decoder.sequence(TYPICAL_POSITIONS) as sequence:
                sequence.rows = 2 if guided else 1
                for end in _typical_ends():
                    self._graph(sequence, end)
            for trial in self.trials(guided=guided):
                check_replay(trial, tolerance(decoder.dtype))
        except Exception as error:  # a driver, a version of torch, too little memory
            self.drop(error)

    def drop(self, error: Exception) -> None:
        """Go on without graphs, and say why in the log. No utterance may be under way."""
        self._disable_graphs(error)
        self._decoder.drop_free()

    @contextlib.contextmanager
    def trial(self, *, guided: bool) -> Iterator[Trial | None]:
        """The longest step that `capture` captured, for comparisons; None where there are no graphs."""
        if not self.usable:
            yield None
            return
        with self._decoder.sequence(TYPICAL_POSITIONS) as sequence:
            sequence.rows = 2 if guided else 1
            yield self._trial(sequence, TYPICAL_POSITIONS)

    def trials(self, *, guided: bool) -> Iterator[Trial]:
        """Yields every step that `capture` captured, for comparisons; each must be done with before the next one is
        asked for, since all have one sequence."""
        if not self.usable:
            return
        with self._decoder.sequence(TYPICAL_POSITIONS) as sequence:
            sequence.rows = 2 if guided else 1
            for end in _typical_ends():
                yield self._trial(sequence, end)

    def _trial(self, sequence: Sequence, end: int) -> Trial:
        """Returns the step at the last position of a graph, behind positions of random keys and values. What it draws
        does not hang on rounding: the first token that is drawn is twice as likely from then on."""
        position, rows = end - 1, sequence.rows
        sequence.begin(0.5 if rows == 2 else 0.0, 0.8, CURRENT)
        random = torch.Generator().manual_seed(end)
        for layer in sequence.cache.layers:
            shape = (*layer.shape[:3], end, layer.shape[4])
            layer[:, :, :, :end] = torch.randn(shape, generator=random).to(layer)
        noise = torch.empty(sequence.noise.shape).exponential_(generator=random)
        sequence.noise.copy_(noise.clamp_min_(torch.finfo(torch.float32).tiny))

        def begin() -> None:
            sequence.position.fill_(position)
            sequence.index.fill_(1)
            sequence.token.zero_()
            sequence.seen.zero_()

        def results() -> tuple[Tensor, ...]:
            written = torch.stack([layer[:, :rows, :, position] for layer in sequence.cache.layers])
            return written, sequence.token.clone(), sequence.position.clone(), sequence.index.clone()

        def step() -> None:
            self._decoder.captured_step(sequence, end)

        begin()
        step()
        # Its score is its probability divided by its noise.
        sequence.noise.index_copy_(0, sequence.token, sequence.noise.index_select(0, sequence.token) / 2)
        return Trial(f"{end} positions", begin, step, self._graph(sequence, end).replay, results)

    def _graph_or_none(self, sequence: Sequence, end: int) -> torch.cuda.CUDAGraph | None:
        if not self.usable:
            return None
        try:
            return self._graph(sequence, end)
        except Exception as error:  # an unusually long utterance, and too little memory for its graphs
            self._disable_graphs(error)
            return None

    def _graph(self, sequence: Sequence, end: int) -> torch.cuda.CUDAGraph:
        """Returns the captured step that attends to the first `end` positions."""
        key = (end, sequence.rows)
        if key not in sequence.graphs:
            state = (sequence.position, sequence.index, sequence.token, sequence.seen)
            with self._lock:
                family = self._family = self._family or GraphFamily(self._decoder.device)
            sequence.graphs[key] = family.capture(lambda: self._decoder.captured_step(sequence, end), state)
        return sequence.graphs[key]

    def _disable_graphs(self, error: Exception) -> None:
        self._decoder.captured = False
        warn_without("language model", error)


def _typical_ends() -> range:
    """Returns the numbers of positions that the graphs of typical utterances attend to."""
    return range(decode.CACHE_STEP, TYPICAL_POSITIONS + 1, decode.CACHE_STEP)
