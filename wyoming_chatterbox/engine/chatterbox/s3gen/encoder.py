"""The flow decoder's encoder (upstream's UpsampleConformerEncoder): speech tokens → mu, two frames for each token.

Its arithmetic is upstream's. Apart from attention, it looks back two tokens and ahead three; with what it keeps of
earlier tokens (`EncoderState`), a chunk can be encoded without computing those again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..compute.linear import Layer, activations, fused

_POSITIONS_STEP = 256
"""Tables of positions grow by so many."""

_SCORES = 1 << 20
"""Of attention, that are computed at once (4 MB in float32, and as much again several times); on a GPU, all."""


@dataclass
class EncoderState:
    """What the encoder keeps of earlier tokens, 57 kB for each in float32."""

    tokens: int = 0
    """Tokens that are encoded."""

    inputs: Tensor | None = None
    """Embedded tokens that still wait for those they look ahead to, shape (1, n, width)."""

    looked_ahead: Tensor | None = None
    """What the second convolution looks back to, shape (1, 2, width)."""

    upsampled: Tensor | None = None
    """What the upsampling convolution looks back to, shape (1, 4, width)."""

    attention: list[tuple[Tensor, Tensor] | tuple[None, None]] = field(default_factory=list)
    """Keys and values of every layer, shape (1, heads, n, size)."""

    def copy(self) -> EncoderState:
        """Another one that starts from here; tensors are shared, since none is ever changed."""
        return EncoderState(self.tokens, self.inputs, self.looked_ahead, self.upsampled, list(self.attention))


@dataclass(frozen=True)
class _Layer:
    """A ConformerEncoderLayer: self-attention with relative positions (arXiv 1901.02860), then a feed-forward layer."""

    norm: Layer
    projections: Layer
    out: Layer
    positions: Tensor
    """Weight of the linear layer from a sinusoidal embedding to keys."""

    content_bias: Tensor
    position_bias: Tensor
    heads: int
    feed_norm: Layer
    feed_in: Layer
    feed_out: Layer


class FlowEncoder:
    """Upstream's UpsampleConformerEncoder with the projection behind it. It holds no state; see Memory."""

    def __init__(self, flow: Any, precision: str = "float32") -> None:
        """
        Args:
            flow: chatterbox.models.s3gen.flow.CausalMaskedDiffWithXvec.
            precision: of the linear layers, see linear.py.
        """
        self._precision = precision
        self._flow = flow
        encoder = flow.encoder
        self._encoder = encoder
        self._dtype = activations(precision)
        self.lookahead: int = encoder.pre_lookahead_layer.pre_lookahead_len
        self._width: int = encoder.pre_lookahead_layer.channels
        with torch.no_grad():
            self._layers = [self._layer(layer) for layer in encoder.encoders]
            self._up_layers = [self._layer(layer) for layer in encoder.up_encoders]
        self._tables: dict[int, Tensor] = {}

    def __call__(self, tokens: Tensor, memory: EncoderState, *, final: bool) -> Tensor:
        """mu of the tokens that can be encoded now, shape (1, 2 n, 80).

        Args:
            tokens: new ones, shape (1, m).
            memory: of the tokens before these, changed. All of them are attended to.
            final: there will be no more tokens; otherwise the last three wait for those that follow.
        """
        functional, encoder = torch.nn.functional, self._encoder
        new = encoder.embed.out(self._flow.input_embedding(tokens)) * encoder.embed.pos_enc.xscale
        inputs = new if memory.inputs is None else torch.cat((memory.inputs, new), dim=1)
        count = inputs.shape[1] - (0 if final else self.lookahead)
        if count <= 0:
            memory.inputs = inputs
            return torch.zeros(1, 0, self._flow.output_size, device=inputs.device)
        memory.inputs = inputs[:, count:]
        ahead = functional.pad(inputs, (0, 0, 0, self.lookahead)) if final else inputs
        layer = encoder.pre_lookahead_layer
        looked = functional.leaky_relu(layer.conv1(ahead.transpose(1, 2))).transpose(1, 2)
        past = memory.looked_ahead
        past = torch.zeros(1, 2, self._width, device=looked.device) if past is None else past
        looked = torch.cat((past, looked), dim=1)
        memory.looked_ahead = looked[:, -2:]
        x = layer.conv2(looked.transpose(1, 2)).transpose(1, 2) + inputs[:, :count]

        first = not memory.attention
        if first:
            memory.attention = [(None, None)] * (len(self._layers) + len(self._up_layers))
        x = self._run_layers(x, self._layers, memory, 0)

        x = x.repeat_interleave(2, dim=1)
        past = memory.upsampled
        past = torch.zeros(1, 4, self._width, device=x.device) if past is None else past
        x = torch.cat((past, x), dim=1)
        memory.upsampled = x[:, -4:]
        x = encoder.up_layer.conv(x.transpose(1, 2)).transpose(1, 2)
        x = encoder.up_embed.out(x) * encoder.up_embed.pos_enc.xscale
        x = self._run_layers(x, self._up_layers, memory, len(self._layers))
        memory.tokens += count
        mu: Tensor = self._flow.encoder_proj(encoder.after_norm(x))
        return mu

    def _run_layers(self, x: Tensor, layers: Sequence[_Layer], memory: EncoderState, index: int) -> Tensor:
        functional = torch.nn.functional
        rows, length, width = x.shape
        for offset, layer in enumerate(layers):
            normed = layer.norm(x).to(self._dtype)
            projected = layer.projections(normed).view(rows, length, 3, layer.heads, -1).float()
            query, key, value = projected.permute(2, 0, 3, 1, 4)  # each (1, heads, length, size)
            keys, values = memory.attention[index + offset]
            if keys is not None and values is not None:
                key, value = torch.cat((keys, key), dim=2), torch.cat((values, value), dim=2)
            memory.attention[index + offset] = (key, value)
            end = key.shape[2]
            table = self._table(layer, index + offset, end)  # (1, heads, 2 positions - 1, size), from far past on
            middle = table.shape[2] // 2
            near = table[:, :, middle - end + 1 : middle + length]
            by_content, by_position = query + layer.content_bias, query + layer.position_bias
            heads_at_once = max(1, _SCORES // (length * end)) if x.device.type == "cpu" else layer.heads
            heads = zip(
                *(part.split(heads_at_once, dim=1) for part in (by_content, by_position, key, value, near)), strict=True
            )
            mixed = torch.cat([self._attention(*part) for part in heads], dim=1)
            mixed = mixed.transpose(1, 2).reshape(rows, length, width).to(self._dtype)
            x = x + layer.out(mixed).float()
            fed = layer.feed_in(layer.feed_norm(x).to(self._dtype))
            x = x + layer.feed_out(functional.silu(fed)).float()
        return x

    def _attention(self, by_content: Tensor, by_position: Tensor, key: Tensor, value: Tensor, near: Tensor) -> Tensor:
        """Attention with relative positions of some heads, all of shape (rows, heads, …, size); `near`: the keys of all
        distances from the first position to the last query on."""
        length = by_content.shape[2]
        scores = torch.matmul(by_content, key.transpose(-1, -2))
        by_distance = torch.matmul(by_position, near.transpose(-1, -2))
        # Row r is position end - length + r; its distance to position j lies in column length - 1 - r + j.
        columns = by_distance.shape[3]
        stride = (*by_distance.stride()[:2], columns - 1, 1)
        scores += by_distance.as_strided(scores.shape, stride, by_distance.storage_offset() + length - 1)
        scores /= math.sqrt(key.shape[3])
        return torch.matmul(torch.softmax(scores, dim=-1), value)

    def _table(self, layer: _Layer, index: int, positions: int) -> Tensor:
        """Keys of relative distances, those of the future behind those of the past, for at least so many positions."""
        table = self._tables.get(index)
        if table is None or table.shape[2] // 2 < positions:
            count = -(-positions // _POSITIONS_STEP) * _POSITIONS_STEP + 1
            weight = layer.positions
            distances = torch.arange(count - 1, -count, -1, device=weight.device, dtype=torch.float32)[:, None]
            width = weight.shape[1]
            rates = torch.exp(torch.arange(0, width, 2, device=weight.device).float() * -(math.log(10000.0) / width))
            # As upstream's EspnetRelPositionalEncoding: sines and cosines in turns.
            embedding = torch.stack(((distances * rates).sin(), (distances * rates).cos()), dim=2).flatten(1)
            keys = torch.nn.functional.linear(embedding, weight).view(1, 2 * count - 1, layer.heads, -1).transpose(1, 2)
            # Columns run with the position attended to: what lies furthest back comes first.
            table = self._tables[index] = keys.contiguous()
        return table

    def _layer(self, layer: Any) -> _Layer:
        attention, feed = layer.self_attn, layer.feed_forward
        return _Layer(
            norm=layer.norm_mha,
            projections=fused((attention.linear_q, attention.linear_k, attention.linear_v), self._precision),
            out=fused((attention.linear_out,), self._precision),
            positions=attention.linear_pos.weight.detach(),
            content_bias=attention.pos_bias_u.detach()[None, :, None],
            position_bias=attention.pos_bias_v.detach()[None, :, None],
            heads=attention.h,
            feed_norm=layer.norm_ff,
            feed_in=fused((feed.w_1,), self._precision),
            feed_out=fused((feed.w_2,), self._precision),
        )
