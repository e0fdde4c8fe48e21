"""T3's network (transformers' LlamaModel) in the precision that was chosen, in as few kernels as torch has for it.

A kernel takes a GPU 2 µs however little it does, and a step of T3 has 30 layers: what is around the matrix products is
folded into as few operations as possible. On a CPU the same operations cost nothing beside the products.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..compute.linear import Layer, Linear, activations, fused, reduced
from ..compute.pages import release_pages


@dataclass(frozen=True)
class LlamaLayer:
    """A LlamaDecoderLayer."""

    norm: Callable[[Tensor], Tensor]
    projections: Layer
    out: Linear
    feed_norm: Callable[[Tensor], Tensor]
    feed_in: Layer
    feed_out: Linear


class Llama:
    """The layers of upstream's LlamaModel and its last norm; the caller attends between `project` and `feed`."""

    def __init__(
        self, tfmr: Any, precision: str = "float32", *, weight_first: bool = False, lean: bool = False
    ) -> None:
        """
        Args:
            tfmr: transformers' LlamaModel.
            precision: of its linear layers, see linear.py.
            weight_first: how these multiply in float32, see there.
            lean: fewer kernels where that rounds otherwise: norms read and write the type of the activations, and sums
                are part of the product before them.
        """
        self._tfmr = tfmr
        self.dtype = activations(precision)
        """Of what linear layers read and write, and of keys and values."""

        # The sums of all layers can be larger than float16 holds; bfloat16 reaches as far as float32.
        self.residual = torch.float32 if precision == "half" else self.dtype
        """Of what goes from layer to layer."""

        self._lean = lean and self.residual == self.dtype
        config = tfmr.config
        self.heads: int = config.num_key_value_heads
        self.head_size: int = config.head_dim
        self.layers: list[LlamaLayer] = []
        for layer in tfmr.layers:
            self.layers.append(self._layer(layer, precision, weight_first))
            if precision != "float32":  # the float32 weights of all layers would be in memory beside the others
                release_pages(layer.parameters())
        self.last_norm = self._norm(tfmr.norm, torch.float32 if reduced(precision) else self.dtype, lean=False)
        """Before the head."""

    def position_table(self, positions: int, device: torch.device) -> Tensor:
        """Returns the table for rotary position embedding (arXiv 2104.09864) of so many positions, shape (2, 3, 1:
        rows, 1: heads, positions, head size): cosines and sines, of queries, keys and values; the halves of a head are
        as in transformers' Llama.

        Values are turned by nothing, so that all three can be turned at once; the sines of the first half have the sign
        of its formula."""
        rotary = self._tfmr.rotary_emb
        position_ids = torch.arange(positions, device=device, dtype=torch.float32)
        angles = torch.outer(position_ids, rotary.inv_freq.float().to(device))
        cos, sin = angles.cos() * rotary.attention_scaling, angles.sin() * rotary.attention_scaling
        table = torch.zeros(2, 3, positions, self.head_size, device=device)
        table[0, :2], table[1, :2] = torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1)
        table[0, 2] = 1
        return table.to(self.dtype)[:, :, None, None]

    def place(self, hidden: Tensor, positions: Tensor) -> Tensor:
        """Returns the first layer's input of embeddings, shape (rows, n, width): here they say where they are."""
        return hidden

    def project(self, layer: LlamaLayer, hidden: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """(queries of shape (rows, heads, n, size), keys and values of shape (2, rows, heads, n, size)).

        Args:
            hidden: shape (rows, n, width).
            positions: those of the n positions out of the table, shape (2, 3, rows or 1, 1, n, size): every row
                may have positions of its own.
        """
        rows, length, _ = hidden.shape
        projected = layer.projections(layer.norm(hidden)).view(rows, length, 3, self.heads, self.head_size)
        projected = projected.permute(2, 0, 3, 1, 4)
        cos, sin = positions
        halves = projected.unflatten(-1, (2, -1)).flip(-2).flatten(-2)
        turned = torch.addcmul(projected * cos, halves, sin)
        return turned[0], turned[1:]

    def feed(self, layer: LlamaLayer, hidden: Tensor, mixed: Tensor) -> Tensor:
        """Returns what a layer makes of its input and what its attention gathered, shape (rows, n, width)."""
        rows, length, _ = hidden.shape
        hidden = self._plus(hidden, layer.out, mixed.transpose(1, 2).reshape(rows, length, -1))
        gate, up = layer.feed_in(layer.feed_norm(hidden)).chunk(2, dim=-1)
        return self._plus(hidden, layer.feed_out, torch.nn.functional.silu(gate) * up)

    def _plus(self, hidden: Tensor, linear: Linear, x: Tensor) -> Tensor:
        return linear.plus(x, hidden) if self._lean else hidden + linear(x)

    def _layer(self, layer: Any, precision: str, weight_first: bool) -> LlamaLayer:
        attention, mlp = layer.self_attn, layer.mlp
        return LlamaLayer(
            self._norm(layer.input_layernorm, self.dtype, lean=self._lean),
            fused((attention.q_proj, attention.k_proj, attention.v_proj), precision, weight_first=weight_first),
            Linear(attention.o_proj.weight.detach(), None, precision, weight_first=weight_first),
            self._norm(layer.post_attention_layernorm, self.dtype, lean=self._lean),
            fused((mlp.gate_proj, mlp.up_proj), precision, weight_first=weight_first),
            Linear(mlp.down_proj.weight.detach(), None, precision, weight_first=weight_first),
        )

    def _norm(self, norm: Any, dtype: torch.dtype, *, lean: bool) -> Callable[[Tensor], Tensor]:
        """Returns a LlamaRMSNorm (arXiv 1910.07467), computed in single precision, that gives `dtype`."""
        rms_norm = torch.nn.functional.rms_norm
        # A copy, lest it keep the whole file of weights mapped.
        weight, eps = norm.weight.detach().clone().float(), norm.variance_epsilon
        if lean:  # one kernel, which computes in single precision by itself where all its types are one
            weight = weight.to(dtype)
            return lambda x: rms_norm(x, weight.shape, weight, eps)
        return lambda x: rms_norm(x.float(), weight.shape, weight, eps).to(dtype)
