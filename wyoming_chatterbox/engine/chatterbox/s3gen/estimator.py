"""The flow decoder's network (upstream's ConditionalDecoder): which way a mel frame moves in one Euler step.

Its arithmetic is upstream's; frames come first and channels last, projections of one input are one product, and what
depends on the step alone is computed when the network is loaded. Convolutions look back only, so with what they and the
attention layers keep of earlier frames (`EstimatorState`), a chunk can be decoded without computing those again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..compute.attention import attend
from ..compute.linear import Layer, Linear, activations, fused

_KERNEL = 3
"""Frames that every convolution sees: its own and the two before it."""


@dataclass(frozen=True)
class _Convolution:
    """A causal convolution as a linear layer on three frames side by side, and what follows it."""

    linear: Linear
    norm: Layer | None = None

    @classmethod
    def of(cls, convolution: Any, precision: str, norm: Layer | None = None) -> _Convolution:
        weight = convolution.weight.detach()  # (out, in, 3)
        flat = weight.permute(0, 2, 1).reshape(weight.shape[0], -1)
        return cls(Linear(flat, convolution.bias.detach(), precision), norm)


@dataclass(frozen=True)
class _Resnet:
    first: _Convolution
    second: _Convolution
    shortcut: Linear
    shifts: Tensor
    """What each of the steps adds between the convolutions, shape (steps, channels)."""


@dataclass(frozen=True)
class _Attention:
    """A BasicTransformerBlock: self-attention, then a feed-forward layer."""

    norm: Layer
    projections: Layer
    out: Layer
    heads: int
    feed_norm: Layer
    feed_in: Layer
    feed_out: Layer


class EstimatorState:
    """What the estimator keeps of earlier frames, for every Euler step.

    Keys and values of the first `prompt` frames stay; those of later ones take turns in `window` slots, so that the
    memory of a long utterance is bounded: attention has no positional encoding, so a ring buffer works. 4.6 MB for each
    frame in float32, with ten steps.
    """

    def __init__(self, estimator: Estimator, prompt: int, window: int) -> None:
        self.prompt = prompt
        self.window = window
        self.frames = 0
        """Frames seen so far."""

        shape = (2, estimator.rows, estimator.heads, prompt + window, estimator.head_size)  # keys and values; rows; …
        # Written here, so that no utterance waits for the system to find memory.
        self._attention = [
            [torch.zeros(shape, dtype=estimator.dtype, device=estimator.device) for _ in range(estimator.attentions)]
            for _ in range(estimator.steps)
        ]
        self._convolutions = [
            [
                torch.zeros(estimator.rows, _KERNEL - 1, channels, dtype=estimator.dtype, device=estimator.device)
                for channels in estimator.convolution_channels
            ]
            for _ in range(estimator.steps)
        ]

    def of_step(self, step: int) -> tuple[Iterator[Tensor], Iterator[Tensor]]:
        """(past of every convolution, keys and values of every attention layer), in the network's order."""
        return iter(self._convolutions[step]), iter(self._attention[step])

    def slots(self, frames: int) -> list[slice]:
        """Returns where the next frames are written."""
        if self.frames < self.prompt:
            return [slice(self.frames, self.frames + frames)]
        begin = (self.frames - self.prompt) % self.window
        parts = [slice(begin, min(begin + frames, self.window)), slice(0, max(0, begin + frames - self.window))]
        return [slice(part.start + self.prompt, part.stop + self.prompt) for part in parts if part.stop > part.start]

    def end(self, frames: int) -> int:
        """Returns the number of slots that hold something once so many frames were added."""
        return min(self.frames + frames, self.prompt + self.window)

    def snapshot(self) -> list[list[Tensor]]:
        """Returns what later frames overwrite; keys and values of the prompt are not among it."""
        return [[past.clone() for past in group] for group in self._convolutions]

    def copy_prompt(self, other: EstimatorState) -> None:
        """Take the prompt's keys and values from the memory of another utterance in the same voice."""
        for step, theirs in zip(self._attention, other._attention, strict=True):
            for layer_state, known in zip(step, theirs, strict=True):
                layer_state[:, :, :, : self.prompt] = known[:, :, :, : self.prompt]

    def rewind(self, snapshot: list[list[Tensor]]) -> None:
        """Back to the end of the prompt, where `snapshot` was taken."""
        self.frames = self.prompt
        for pasts, were in zip(self._convolutions, snapshot, strict=True):
            for past, was in zip(pasts, were, strict=True):
                past.copy_(was)


class Estimator:
    """Upstream's ConditionalDecoder at fixed Euler times."""

    def __init__(
        self, estimator: Any, times: Tensor, precision: str = "float32", *, ends: Tensor | None = None
    ) -> None:
        """
        Args:
            estimator: chatterbox.models.s3gen.decoder.ConditionalDecoder, causal, with one level.
            times: when the steps begin, in [0, 1).
            precision: of its linear layers, see linear.py.
            ends: when they end, for a network that is told (mean flow, arXiv 2510.07979).
        """
        self.rows = 2 if ends is None else 1
        """Rows of its inputs: with guidance and without, or with what guidance does learnt, the first one alone."""

        self._precision = precision
        self.dtype = activations(precision)
        self.device = times.device
        self.steps = len(times)
        with torch.no_grad():
            embedded = estimator.time_mlp(estimator.time_embeddings(times))  # (steps, width)
            if ends is not None:
                until = estimator.time_mlp(estimator.time_embeddings(ends))
                embedded = estimator.time_embed_mixer(torch.cat((embedded, until), dim=1))
            (first_resnet, first_blocks, after_first) = estimator.down_blocks[0]
            (last_resnet, last_blocks, after_last) = estimator.up_blocks[0]
            stages = [(first_resnet, first_blocks), *estimator.mid_blocks, (last_resnet, last_blocks)]
            self._stages = [
                (self._resnet(resnet, embedded), [self._block(block) for block in blocks]) for resnet, blocks in stages
            ]
            self._after_first = _Convolution.of(after_first, precision)
            self._after_last = _Convolution.of(after_last, precision)
            final, norm = estimator.final_block.block[0], estimator.final_block.block[2]
            self._final = _Convolution.of(final, precision, self._norm(norm))
            head = estimator.final_proj
            self._head = Linear(head.weight.detach()[:, :, 0], head.bias.detach(), precision)
        self.attentions = sum(len(blocks) for _, blocks in self._stages)
        self.heads = self._stages[0][1][0].heads
        self.inputs: int = first_resnet.block1.block[0].in_channels
        """Channels of what comes in."""

        self.bands: int = head.weight.shape[0]
        """Of these, and of what goes out, the frame's own."""

        attention = first_blocks[0].attn1
        self.head_size = attention.to_q.weight.shape[0] // attention.heads
        resnets = [resnet for resnet, _ in stages]
        inner = [conv.in_channels for group in resnets for conv in (group.block1.block[0], group.block2.block[0])]
        self.convolution_channels = [
            *inner[:2],
            after_first.in_channels,
            *inner[2:],
            after_last.in_channels,
            final.in_channels,
        ]

    def __call__(
        self, x: Tensor, step: Any, memory: EstimatorState | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """Returns the direction, shape (rows, n, 80), of n frames.

        Args:
            x: shape (rows, n, 320): frame, mu, speaker and condition side by side; see `rows`.
            step: index of the Euler time; without memory it may be a tensor of shape (1,).
            memory: of the frames before these, which they attend to; changed, but for its count of frames. None: there
                are none before them, or they are to be computed again.
            mask: added to the scores of attention, shape (1, 1, 1, n); without memory only.
        """
        pasts, attentions = (None, None) if memory is None else memory.of_step(step)
        x = x.to(self.dtype)
        skip = x
        for index, (resnet, blocks) in enumerate(self._stages):
            if index == len(self._stages) - 1:
                x = torch.cat((x, skip), dim=2)
            shifted = self._conv_norm_act(x, resnet.first, pasts) + resnet.shifts[step]
            x = self._conv_norm_act(shifted, resnet.second, pasts) + resnet.shortcut(x)
            for block in blocks:
                x = self._attention(x, block, memory, attentions, mask)
            if index == 0:
                skip = x
                x = self._convolve(x, self._after_first, pasts)
        x = self._convolve(x, self._after_last, pasts)
        return self._head(self._conv_norm_act(x, self._final, pasts)).float()

    def _conv_norm_act(self, x: Tensor, convolution: _Convolution, pasts: Iterator[Tensor] | None) -> Tensor:
        assert convolution.norm is not None
        return torch.nn.functional.mish(convolution.norm(self._convolve(x, convolution, pasts)))

    def _convolve(self, x: Tensor, convolution: _Convolution, pasts: Iterator[Tensor] | None) -> Tensor:
        if pasts is None:
            x = torch.nn.functional.pad(x, (0, 0, _KERNEL - 1, 0))
        else:
            past = next(pasts)
            x = torch.cat((past, x), dim=1)
            past.copy_(x[:, -past.shape[1] :])
        return convolution.linear(torch.cat((x[:, :-2], x[:, 1:-1], x[:, 2:]), dim=2))

    def _attention(
        self,
        x: Tensor,
        block: _Attention,
        memory: EstimatorState | None,
        attentions: Iterator[Tensor] | None,
        mask: Tensor | None,
    ) -> Tensor:
        rows, frames, _ = x.shape
        projected = block.projections(block.norm(x)).view(rows, frames, 3, block.heads, -1)
        query, key, value = projected.permute(2, 0, 3, 1, 4)  # each (rows, heads, frames, size)
        if memory is not None and attentions is not None:
            layer_state, begin = next(attentions), 0
            for slot in memory.slots(frames):
                count = slot.stop - slot.start
                layer_state[0, :, :, slot] = key[:, :, begin : begin + count]
                layer_state[1, :, :, slot] = value[:, :, begin : begin + count]
                begin += count
            key, value = layer_state[:, :, :, : memory.end(frames)]
        elif x.device.type != "cuda":  # a fifth faster than with strides, for what all frames attend to
            query, key, value = query.contiguous(), key.contiguous(), value.contiguous()
        mixed = attend(query, key, value, mask)
        x = x + block.out(mixed.transpose(1, 2).reshape(rows, frames, -1))
        return x + block.feed_out(torch.nn.functional.gelu(block.feed_in(block.feed_norm(x))))

    def _resnet(self, resnet: Any, embedded: Tensor) -> _Resnet:
        first, second = resnet.block1.block, resnet.block2.block
        shortcut = resnet.res_conv
        return _Resnet(
            _Convolution.of(first[0], self._precision, self._norm(first[2])),
            _Convolution.of(second[0], self._precision, self._norm(second[2])),
            Linear(shortcut.weight.detach()[:, :, 0], shortcut.bias.detach(), self._precision),
            resnet.mlp(embedded).to(self.dtype),
        )

    def _block(self, block: Any) -> _Attention:
        attention, feed = block.attn1, block.ff.net
        return _Attention(
            norm=self._norm(block.norm1),
            projections=fused((attention.to_q, attention.to_k, attention.to_v), self._precision),
            out=fused((attention.to_out[0],), self._precision),
            heads=attention.heads,
            feed_norm=self._norm(block.norm3),
            feed_in=fused((feed[0].proj,), self._precision),
            feed_out=fused((feed[2],), self._precision),
        )

    def _norm(self, norm: Any) -> Layer:
        """Returns a LayerNorm in the type of the activations."""
        shape, eps = norm.normalized_shape, norm.eps
        weight, bias = norm.weight.detach().to(self.dtype), norm.bias.detach().to(self.dtype)
        return lambda x: torch.nn.functional.layer_norm(x, shape, weight, bias, eps)


def guided(directions: Tensor, guidance: float) -> Tensor:
    """Returns the direction to go, shape (1, n, 80), of an estimator's rows: with guidance where it has two."""
    if len(directions) == 1:
        return directions
    return (1 + guidance) * directions[:1] - guidance * directions[1:]
