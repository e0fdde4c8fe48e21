"""Upstream's HiFT generator (HiFTNet, arXiv 2309.09493), fed with mel frames and without decoding any of them twice.

`HiFTGenerator.decode()` needs context on both sides of a window, and throws what it makes of it away. Here every
convolution keeps the last of its inputs instead, so that a frame passes through the network once. Where the end of the
speech is not there yet, the layers lag behind their inputs by their reach; all of them together by `LAG_FRAMES`.

The layers below are functions of their input and of one entry of `HiFTState`; tensors in it are replaced, never
written to, so that a copy of the state can be finished (to hear what the frames so far give) while the state itself
goes on. All tensors have shape (1, channels, time).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor

LAG_FRAMES = 20
"""Mel frames by which the samples lag behind: the pitch's five convolutions reach 5, those that add the source 4.5, the
first, second and third stage 7.5, 1.5 and 0.5, STFT, upsampling and the last convolution the rest."""

PITCH_LAG_FRAMES = 5
"""Those of them by which the pitch does."""

_PITCH_CONTEXT_FRAMES = 24
"""Frames in front of a pitch that is asked for: its convolutions reach 5, and of so many they are one long piece."""


@dataclass
class HiFTState:
    """What the layers keep of one utterance: the tails of their inputs, by the layer's number."""

    tails: dict[int, Any] = field(default_factory=dict)

    def copy(self) -> HiFTState:
        return HiFTState(dict(self.tails))


class IncrementalHiFT:
    """The layers of a HiFTGenerator, whose weights are shared or, in another precision, converted."""

    def __init__(self, hift: Any, precision: str = "float32") -> None:
        """
        Args:
            hift: chatterbox.models.s3gen.hifigan.HiFTGenerator, its weight norms folded.
            precision: of the convolutions' products: float32 or bfloat16; sums and activations stay float32.
        """
        self._hift = hift
        numbers = itertools.count()
        dtype = getattr(torch, precision)

        def convolution(module: Any, layer_dtype: torch.dtype = dtype) -> _Convolution:
            return _Convolution(module, next(numbers), layer_dtype)

        def residual_block(module: Any) -> _ResidualBlock:
            layers = [
                (_Snake(first), convolution(one), _Snake(second), convolution(two), _Delay(next(numbers)))
                for first, one, second, two in zip(
                    module.activations1, module.convs1, module.activations2, module.convs2, strict=True
                )
            ]
            return _ResidualBlock(layers)

        self._pitch = _Pitch(hift, next(numbers))
        self._spectrum = _Spectrum(hift, next(numbers))
        self._first = convolution(hift.conv_pre)
        self._stages = []
        last = hift.num_upsamples - 1
        for index in range(hift.num_upsamples):
            blocks = hift.resblocks[index * hift.num_kernels : (index + 1) * hift.num_kernels]
            self._stages.append(
                _Stage(
                    upsample=_Upsampling(hift.ups[index], next(numbers)),
                    reflect=_Reflection(next(numbers)) if index == last else None,
                    source_convolution=convolution(hift.source_downs[index]),
                    source_block=residual_block(hift.source_resblocks[index]),
                    fusion=_Sum(next(numbers)),
                    blocks=[residual_block(block) for block in blocks],
                    sum=_Sum(next(numbers)),
                )
            )
        self._last = convolution(hift.conv_post, torch.float32)
        self._waveform = _Waveform(hift, next(numbers))

    def pitch(self, state: HiFTState, mel: Tensor, *, final: bool) -> Tensor:
        """Returns the pitch of the frames whose neighbours are known, shape (1, frames), in Hz.

        Args:
            mel: the next frames, shape (1, 80, n).
            final: there will be no more.
        """
        return self._pitch(mel, state, final)

    def decode(self, state: HiFTState, mel: Tensor, source: Tensor, *, final: bool) -> Tensor:
        """Returns the samples that are final, shape (1, m).

        Args:
            mel: the next frames, shape (1, 80, n).
            source: the next samples of the source, shape (1, 1, any number): those of the frames whose pitch is known.
            final: there will be no more.
        """
        relu = torch.nn.functional.leaky_relu
        spectrum = self._spectrum(source, state, final)
        x = self._first(mel, state, final)
        for stage in self._stages:
            x = stage.upsample(relu(x, self._hift.lrelu_slope), state, final)
            if stage.reflect is not None:
                x = stage.reflect(x, state, final)
            excitation = stage.source_block(stage.source_convolution(spectrum, state, final), state, final)
            x = stage.fusion((x, excitation), state)
            x = stage.sum([block(x, state, final) for block in stage.blocks], state) / len(stage.blocks)
        return self._waveform(self._last(relu(x), state, final), state, final)


@dataclass
class _Stage:
    upsample: _Upsampling
    reflect: _Reflection | None
    source_convolution: _Convolution
    source_block: _ResidualBlock
    fusion: _Sum
    blocks: list[_ResidualBlock]
    sum: _Sum


class _Pitch:
    """Upstream's ConvRNNF0Predictor on windows: it costs a hundredth of the other layers.

    Its convolutions must not be cut into short pieces, which PyTorch adds up in another order: the phase sums up what
    the pitch is off, and after a few seconds the last bit would be heard.
    """

    def __init__(self, hift: Any, number: int) -> None:
        self._number = number
        self._predictor = hift.f0_predictor

    def __call__(self, mel: Tensor, state: HiFTState, final: bool) -> Tensor:
        tail, known = state.tails.get(self._number, (None, 0))
        mel = mel if tail is None else torch.cat((tail, mel), dim=2)
        count = mel.shape[2] if final else max(known, mel.shape[2] - PITCH_LAG_FRAMES)
        begin = max(0, count - _PITCH_CONTEXT_FRAMES)
        state.tails[self._number] = (mel[:, :, begin:].clone(), count - begin)
        if count == known:
            return mel.new_zeros(1, 0)
        pitch: Tensor = self._predictor(mel)[:, known:count]
        return pitch


class _Convolution:
    """A torch.nn.Conv1d that keeps what later outputs need of its inputs."""

    def __init__(self, module: Any, number: int, dtype: torch.dtype) -> None:
        self._number = number
        self._weight = module.weight.detach().to(dtype)
        self._bias = None if module.bias is None else module.bias.detach().to(dtype)
        (self._stride,), (self._dilation,), (self._padding,) = module.stride, module.dilation, module.padding
        self._reach = self._dilation * (module.kernel_size[0] - 1) + 1
        self._outputs = module.out_channels

    def __call__(self, x: Tensor, state: HiFTState, final: bool) -> Tensor:
        tail = state.tails.get(self._number)
        if tail is None:
            tail = x.new_zeros(1, x.shape[1], self._padding)
        parts = [tail, x]
        if final:
            parts.append(x.new_zeros(1, x.shape[1], self._padding))
        x = torch.cat(parts, dim=2)
        count = max(0, (x.shape[2] - self._reach) // self._stride + 1)
        used = count * self._stride
        state.tails[self._number] = x[:, :, used:].clone()
        if count == 0:
            return x.new_zeros(1, self._outputs, 0)
        y = torch.nn.functional.conv1d(
            x.to(self._weight.dtype), self._weight, self._bias, self._stride, 0, self._dilation
        )
        return y.to(x.dtype)


class _Upsampling:
    """A torch.nn.ConvTranspose1d that keeps the inputs which later outputs need too."""

    def __init__(self, module: Any, number: int) -> None:
        self._module = module
        self._number = number
        (self._stride,), (self._padding,), (self._kernel,) = module.stride, module.padding, module.kernel_size
        self._context = -(-self._kernel // self._stride) - 1

    def __call__(self, x: Tensor, state: HiFTState, final: bool) -> Tensor:
        tail = state.tails.get(self._number)
        known = 0 if tail is None else tail.shape[2]
        x = x if tail is None else torch.cat((tail, x), dim=2)
        if x.shape[2] == 0:
            return x.new_zeros(1, self._module.out_channels, 0)
        y = torch.nn.functional.conv_transpose1d(x, self._module.weight, self._module.bias, self._stride)
        # An output is complete where the next input begins; the padding is cut off at the ends of the speech.
        begin = known * self._stride if tail is not None else self._padding
        end = y.shape[2] - self._padding if final else x.shape[2] * self._stride
        state.tails[self._number] = x[:, :, -self._context :].clone()
        return y[:, :, begin:end]


class _Reflection:
    """torch.nn.ReflectionPad1d((1, 0)): the second sample once more, in front of the first."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __call__(self, x: Tensor, state: HiFTState, final: bool) -> Tensor:
        if x.shape[2] == 0 or self._number in state.tails:
            return x
        state.tails[self._number] = None
        return torch.cat((x[:, :, 1:2], x), dim=2)


class _Delay:
    """Holds back what is to be added to something that comes later."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __call__(self, x: Tensor, state: HiFTState, count: int) -> Tensor:
        """Returns the next `count` of what was held back and `x`."""
        tail = state.tails.get(self._number)
        x = x if tail is None else torch.cat((tail, x), dim=2)
        state.tails[self._number] = x[:, :, count:].clone()
        return x[:, :, :count]


class _Sum:
    """Adds streams that lag behind each other."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __call__(self, streams: Sequence[Tensor], state: HiFTState) -> Tensor:
        tails = state.tails.get(self._number)
        if tails is not None:
            streams = [
                x if tail is None else torch.cat((tail, x), dim=2) for tail, x in zip(tails, streams, strict=True)
            ]
        count = min(x.shape[2] for x in streams)
        state.tails[self._number] = [x[:, :, count:].clone() if x.shape[2] > count else None for x in streams]
        total = streams[0][:, :, :count]
        for x in streams[1:]:
            total = total + x[:, :, :count]
        return total


class _Snake:
    """Upstream's activation (arXiv 2006.08195), the same operations on one new tensor instead of five."""

    def __init__(self, module: Any) -> None:
        self._alpha: Tensor = module.alpha.detach()[None, :, None]
        self._inverse = 1.0 / (self._alpha + module.no_div_by_zero)

    def __call__(self, x: Tensor) -> Tensor:
        return (x * self._alpha).sin_().square_().mul_(self._inverse).add_(x)


class _ResidualBlock:
    """Upstream's ResBlock."""

    def __init__(self, layers: Sequence[tuple[_Snake, _Convolution, _Snake, _Convolution, _Delay]]) -> None:
        self._layers = layers

    def __call__(self, x: Tensor, state: HiFTState, final: bool) -> Tensor:
        for first_activation, first, second_activation, second, delay in self._layers:
            y = second(second_activation(first(first_activation(x), state, final)), state, final)
            x = y + delay(x, state, y.shape[2])
        return x


class _Spectrum:
    """Upstream's `_stft` of the source: shape (1, 1, samples) → (1, 18, frames of 4 samples)."""

    def __init__(self, hift: Any, number: int) -> None:
        self._number = number
        self._window = hift.stft_window
        self._size, self._hop = hift.istft_params["n_fft"], hift.istft_params["hop_len"]

    def __call__(self, x: Tensor, state: HiFTState, final: bool) -> Tensor:
        half = self._size // 2
        tail = state.tails.get(self._number)
        if tail is not None:
            x = torch.cat((tail, x), dim=2)
        elif x.shape[2]:
            x = torch.cat((x[:, :, 1 : half + 1].flip(2), x), dim=2)
        if final and x.shape[2]:
            x = torch.cat((x, x[:, :, -half - 1 : -1].flip(2)), dim=2)
        count = max(0, (x.shape[2] - self._size) // self._hop + 1)
        if x.shape[2]:
            # At least 12 of 16 samples stay, which is what the reflection at the end needs.
            state.tails[self._number] = x[:, :, count * self._hop :].clone()
        if count == 0:
            return x.new_zeros(1, self._size + 2, 0)
        spectrum = torch.stft(
            x[:, 0], self._size, self._hop, self._size, self._window.to(x), center=False, return_complex=True
        )
        return torch.cat((spectrum.real, spectrum.imag), dim=1)


class _Waveform:
    """Upstream's magnitude, phase, `_istft` and limit: (1, 18, frames) → (1, samples)."""

    def __init__(self, hift: Any, number: int) -> None:
        self._number = number
        self._size, self._hop = hift.istft_params["n_fft"], hift.istft_params["hop_len"]
        self._window = hift.stft_window
        self._limit = hift.audio_limit

    def __call__(self, x: Tensor, state: HiFTState, final: bool) -> Tensor:
        hop, overlap = self._hop, self._size // self._hop
        if x.shape[2] == 0 and not final:
            return x.new_zeros(1, 0)
        bins = self._size // 2 + 1
        magnitude = torch.clip(torch.exp(x[:, :bins]), max=1e2)
        phase = torch.sin(x[:, bins:])
        window = self._window.to(x)
        frames = torch.fft.irfft(torch.polar(magnitude, phase), n=self._size, dim=1) * window[:, None]
        weights = torch.square(window)[:, None].expand(self._size, frames.shape[2])
        stacked = torch.cat((frames[0], weights), dim=0)  # (2 * size, frames)
        tail: Tensor | None = state.tails.get(self._number)
        beginning = tail is None
        # Blocks of one hop; each is the sum of as many frames as overlap.
        before = stacked.new_zeros(2 * self._size, overlap - 1) if tail is None else tail
        after = [stacked.new_zeros(2 * self._size, overlap - 1)] if final else []
        stacked = torch.cat((before, stacked, *after), dim=1)
        state.tails[self._number] = stacked[:, stacked.shape[1] - (overlap - 1) :].clone()
        parts = stacked.reshape(2, overlap, hop, -1)
        blocks = parts.shape[3] - (overlap - 1)
        shifted = (parts[:, index, :, overlap - 1 - index : overlap - 1 - index + blocks] for index in range(overlap))
        total = cast(Tensor, sum(shifted))
        sums, envelope = total.transpose(1, 2).reshape(2, 1, -1)
        half = self._size // 2
        begin, end = half if beginning else 0, sums.shape[1] - half if final else sums.shape[1]
        samples = sums[:, begin:end] / envelope[:, begin:end]
        return torch.clamp(samples, -self._limit, self._limit)
