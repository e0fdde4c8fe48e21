"""One utterance's state between two steps of the language model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .kv_cache import KVCache
from .sampling import Sampling, SamplingTensors

if TYPE_CHECKING:
    from torch import Generator, Tensor


class Sequence:
    """What a step reads and writes. All of it is used again for the next utterance, since a CUDA graph reads the same
    tensors each time."""

    def __init__(self, cache: KVCache, vocabulary: int, device: torch.device) -> None:
        self.cache = cache
        self.rows = 2
        """Rows in use: with guidance two, of which the second has no words; without, the first one alone."""

        self.random: Generator | None = None
        """What the noise of this utterance is drawn with."""

        self.next_position = 0
        """Of `token`, which is fed next; the host's copy of `position`, which it need not wait for."""

        self.position: Tensor = torch.zeros(1, dtype=torch.long, device=device)
        """As above; only a captured step reads it."""

        self.index: Tensor = torch.zeros(1, dtype=torch.long, device=device)
        """The place of `token` among the speech tokens."""

        self.token: Tensor = torch.zeros(1, dtype=torch.long, device=device)
        """The last one that was drawn."""

        self.seen: Tensor = torch.zeros(vocabulary, dtype=torch.bool, device=device)
        """Which tokens were drawn already."""

        self.noise: Tensor = torch.ones(vocabulary, device=device)
        self.overflowed: Tensor = torch.zeros((), dtype=torch.bool, device=device)
        """Whether logits were not finite; only looked at in float16, which does not reach as far."""

        self.sampling = SamplingTensors(device, vocabulary)
        self.graphs: dict[tuple[int, int], torch.cuda.CUDAGraph] = {}
        """CUDA graphs of a step, by the positions they attend to and the rows."""

    def begin(self, cfg_weight: float, temperature: float, sampling: Sampling, random: Generator | None = None) -> None:
        """Take an utterance's settings and forget the last one's."""
        self.rows = 1 if cfg_weight == 0 else 2
        self.random = random
        self.sampling.set(cfg_weight, temperature, sampling)
        self.overflowed.zero_()
        self.seen.zero_()
