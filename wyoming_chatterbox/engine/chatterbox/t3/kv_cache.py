"""The keys and values that one sequence attends to."""

from __future__ import annotations

import torch
from torch import Tensor

from ..compute.pages import zeros_on_pages
from .network import Network


class KVCache:
    """Keys and values of the rows of a sequence: of the original model's two, with words and without, 0.5 MB per
    position in float32. What it held of an earlier sequence is never read."""

    def __init__(self, network: Network, positions: int, device: torch.device, rows: int = 2) -> None:
        shape = (2, rows, network.heads, positions, network.head_size)
        self.positions = positions
        self.layers: list[Tensor]
        """Of every layer, shape (2: keys and values, rows, heads, positions, head size)."""

        # A captured step multiplies all of it with its mask, so nothing in it may be infinite.
        if device.type == "cpu":
            self.layers = [zeros_on_pages(shape, network.dtype) for _ in network.layers]
        else:
            self.layers = [torch.zeros(shape, dtype=network.dtype, device=device) for _ in network.layers]
        self.position_table: Tensor = network.position_table(positions, device)
        """Of all positions, see `Network.position_table`."""

        self.position_ids: Tensor = torch.arange(positions, device=device)
        """All positions."""
