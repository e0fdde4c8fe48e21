"""The keys and values that one sequence attends to."""

from __future__ import annotations

import torch
from torch import Tensor

from ..compute.pages import zeros_on_pages
from .llama import Llama


class KVCache:
    """Keys and values of two rows, with words and without: 0.5 MB per position in float32. What it held of an earlier
    sequence is never read."""

    def __init__(self, llama: Llama, positions: int, device: torch.device) -> None:
        shape = (2, 2, llama.heads, positions, llama.head_size)
        self.positions = positions
        self.layers: list[Tensor]
        """Of every layer, shape (2: keys and values, 2: rows, heads, positions, head size)."""

        # A captured step multiplies all of it with its mask, so nothing in it may be infinite.
        if device.type == "cpu":
            self.layers = [zeros_on_pages(shape, llama.dtype) for _ in llama.layers]
        else:
            self.layers = [torch.zeros(shape, dtype=llama.dtype, device=device) for _ in llama.layers]
        self.rotary: Tensor = llama.rotary(positions, device)
        """Of all positions, see `Llama.rotary`."""

        self.position_ids: Tensor = torch.arange(positions, device=device)
        """All positions."""
