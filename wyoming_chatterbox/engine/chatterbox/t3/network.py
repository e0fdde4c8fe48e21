"""What the language models' networks have in common: the caller embeds, attends and draws."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor


class Network(Protocol):
    """A Llama or a GPT-2."""

    dtype: torch.dtype
    """Of what linear layers read and write, and of keys and values."""

    residual: torch.dtype
    """Of what goes from layer to layer."""

    heads: int
    head_size: int
    last_norm: Callable[[Tensor], Tensor]

    @property
    def layers(self) -> Sequence[Any]: ...

    def position_table(self, positions: int, device: torch.device) -> Tensor:
        """Returns what is needed of each of the first positions, which are the fifth of six dimensions; the third is
        for rows."""

    def place(self, hidden: Tensor, positions: Tensor) -> Tensor:
        """Returns the first layer's input, shape (rows, n, width), of embeddings of that shape, which are at the n
        positions of a table's part."""

    def project(self, layer: Any, hidden: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """(queries of shape (rows, heads, n, size), keys and values of shape (2, rows, heads, n, size)), of hidden
        states of shape (rows, n, width)."""

    def feed(self, layer: Any, hidden: Tensor, mixed: Tensor) -> Tensor:
        """Returns what a layer makes of its input and what its attention gathered, shape (rows, n, width)."""
