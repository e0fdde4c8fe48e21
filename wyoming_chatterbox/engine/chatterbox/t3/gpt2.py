"""Turbo's and Nano's network (transformers' GPT2Model) in the precision that was chosen; see `llama.py`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..compute.linear import Linear, activations, reduced
from ..compute.pages import release_pages


@dataclass(frozen=True)
class GPT2Layer:
    """A GPT2Block."""

    norm: Callable[[Tensor], Tensor]
    projections: Linear
    out: Linear
    feed_norm: Callable[[Tensor], Tensor]
    feed_in: Linear
    feed_out: Linear


class GPT2:
    """The layers of upstream's GPT2Model and its last norm; the caller attends between `project` and `feed`."""

    def __init__(self, tfmr: Any, precision: str = "float32", *, lean: bool = False) -> None:
        """
        Args:
            tfmr: transformers' GPT2Model.
            precision: of its linear layers, see linear.py.
            lean: norms read and write the type of the activations, which rounds otherwise.
        """
        self._tfmr = tfmr
        self.dtype = activations(precision)
        """Of what linear layers read and write, and of keys and values."""

        # As in a Llama.
        self.residual = torch.float32 if precision == "half" else self.dtype
        """Of what goes from layer to layer."""

        lean = lean and self.residual == self.dtype
        self.heads: int = tfmr.config.n_head
        self.head_size: int = tfmr.config.n_embd // tfmr.config.n_head
        self.layers: list[GPT2Layer] = []
        for block in tfmr.h:
            self.layers.append(
                GPT2Layer(
                    _norm(block.ln_1, self.dtype, lean=lean),
                    _linear(block.attn.c_attn, precision),
                    _linear(block.attn.c_proj, precision),
                    _norm(block.ln_2, self.dtype, lean=lean),
                    _linear(block.mlp.c_fc, precision),
                    _linear(block.mlp.c_proj, precision),
                )
            )
            if precision != "float32":  # the float32 weights of all layers would be in memory beside the others
                release_pages(block.parameters())
        self.last_norm = _norm(tfmr.ln_f, torch.float32 if reduced(precision) else self.dtype, lean=False)
        """Before the head."""

    def position_table(self, positions: int, device: torch.device) -> Tensor:
        """Returns what is added to the input at so many positions, shape (1, 1, 1: rows, 1, positions, width)."""
        table = self._tfmr.wpe.weight.detach()[:positions].to(device=device, dtype=self.residual)
        placed: Tensor = table[None, None, None, None]
        return placed

    def place(self, hidden: Tensor, positions: Tensor) -> Tensor:
        """Returns the first layer's input, shape (rows, n, width), of embeddings of that shape; `positions` are those
        of the n positions out of the table, for every row or for all."""
        placed: Tensor = hidden + positions[0, 0, :, 0]
        return placed

    def project(self, layer: GPT2Layer, hidden: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """(queries of shape (rows, heads, n, size), keys and values of shape (2, rows, heads, n, size)), of hidden
        states of shape (rows, n, width)."""
        rows, length, _ = hidden.shape
        projected = layer.projections(layer.norm(hidden)).view(rows, length, 3, self.heads, self.head_size)
        projected = projected.permute(2, 0, 3, 1, 4)
        return projected[0], projected[1:]

    def feed(self, layer: GPT2Layer, hidden: Tensor, mixed: Tensor) -> Tensor:
        """Returns what a layer makes of its input and what its attention gathered, shape (rows, n, width)."""
        rows, length, _ = hidden.shape
        hidden = hidden + layer.out(mixed.transpose(1, 2).reshape(rows, length, -1))
        inner = torch.nn.functional.gelu(layer.feed_in(layer.feed_norm(hidden)), approximate="tanh")
        return hidden + layer.feed_out(inner)


def _linear(layer: Any, precision: str) -> Linear:
    """Returns transformers' Conv1D, whose weight has the inputs first."""
    return Linear(layer.weight.detach().t(), layer.bias.detach(), precision)


def _norm(norm: Any, dtype: torch.dtype, *, lean: bool) -> Callable[[Tensor], Tensor]:
    """Returns a LayerNorm, computed in single precision, that gives `dtype`."""
    layer_norm = torch.nn.functional.layer_norm
    # Copies, lest they keep the whole file of weights mapped.
    weight, bias, eps = norm.weight.detach().clone().float(), norm.bias.detach().clone().float(), norm.eps
    if lean:  # it computes in single precision by itself where all its types are one
        weight, bias = weight.to(dtype), bias.to(dtype)
        return lambda x: layer_norm(x, weight.shape, weight, bias, eps)
    return lambda x: layer_norm(x.float(), weight.shape, weight, bias, eps).to(dtype)
