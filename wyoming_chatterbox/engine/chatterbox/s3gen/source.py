"""The vocoder's excitation: harmonics of the pitch, and noise, running through a whole utterance.

As upstream's SineGen and SourceModuleHnNSF (chatterbox/models/s3gen/hifigan.py), but the phase continues where the
last frame left it, and every frame has its own noise, however the frames arrive.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..compute.transfer import to_device

SAMPLES_PER_FRAME = 480
"""24,000 samples and 50 mel frames per second."""


@dataclass
class SourceState:
    """One utterance's place in its source."""

    generator: torch.Generator
    """Draws this utterance's phases and noise, on the CPU so that every device gets the same."""

    phases: Tensor
    """Initial phase of every harmonic in radians, shape (1, harmonics, 1); the fundamental's is 0. On the device, as
    all that follows: the host never waits for it."""

    noise: Tensor
    """Noise of the frames from `position` on, shape (1, harmonics, frames * 480)."""

    cycles: Tensor
    """The fundamental's phase where frame `position` begins, in cycles (0 to 1), shape () in double precision."""

    position: int = 0
    """Frames whose source is final."""


class HarmonicSource:
    """Upstream's HiFTGenerator.m_source. What is an utterance's is in SourceState."""

    def __init__(self, hift: Any) -> None:
        """`hift`: chatterbox.models.s3gen.hifigan.HiFTGenerator."""
        self._module = hift.m_source
        self._sine = hift.m_source.l_sin_gen
        self._harmonics = self._sine.harmonic_num + 1
        device = hift.m_source.l_linear.weight.device
        # The phase adds up in double precision, which Apple's GPUs do not have.
        self._device = torch.device("cpu") if device.type == "mps" else device

    def start(self, seed: int) -> SourceState:
        """Begin an utterance; returns its state."""
        generator = torch.Generator().manual_seed(seed)
        phases = (torch.rand(1, self._harmonics, 1, generator=generator) * 2 - 1) * math.pi
        phases[:, 0] = 0
        device = self._device
        return SourceState(
            generator,
            to_device(phases, device),
            torch.zeros(1, self._harmonics, 0, device=device),
            torch.zeros((), dtype=torch.float64, device=device),
        )

    def draw_noise(self, state: SourceState, frames: int) -> None:
        """Draw the noise of so many further frames, in their order: how they arrive makes no difference."""
        drawn = torch.randn(frames, self._harmonics, SAMPLES_PER_FRAME, generator=state.generator)
        noise = drawn.permute(1, 0, 2).reshape(1, self._harmonics, frames * SAMPLES_PER_FRAME)
        state.noise = torch.cat((state.noise, to_device(noise, self._device)), dim=2)

    def samples(self, state: SourceState, f0: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the source from frame `state.position` on; the state is not changed.

        Args:
            f0: pitch of these frames in Hz, shape (1, frames); 0 where there is no voice. Their noise has been drawn.

        Returns:
            (samples of shape (1, 1, frames * 480) in f0's device and type, the cycles after each of the frames, shape
            (frames,)).
        """
        count = f0.shape[1]
        device, dtype = f0.device, f0.dtype
        f0 = f0.to(self._device).double()
        per_frame = f0[0] * (SAMPLES_PER_FRAME / self._sine.sampling_rate)
        ends = state.cycles + torch.cumsum(per_frame, dim=0)
        starts = ends - per_frame
        within = torch.arange(1, SAMPLES_PER_FRAME + 1, dtype=torch.float64, device=f0.device) / SAMPLES_PER_FRAME
        fundamental = (starts[:, None] + per_frame[:, None] * within).reshape(1, 1, -1)
        order = torch.arange(1, self._harmonics + 1, dtype=torch.float64, device=f0.device).reshape(1, -1, 1)
        angle = (2 * math.pi * ((fundamental * order) % 1)).float()
        voiced = (f0 > self._sine.voiced_threshold).float().repeat_interleave(SAMPLES_PER_FRAME, dim=1)[:, None]
        loudness = voiced * self._sine.noise_std + (1 - voiced) * self._sine.sine_amp / 3
        noise = state.noise[:, :, : count * SAMPLES_PER_FRAME]
        sines = self._sine.sine_amp * torch.sin(angle + state.phases) * voiced + loudness * noise
        sines = sines.to(device, dtype)
        merged = self._module.l_tanh(self._module.l_linear(sines.transpose(1, 2))).transpose(1, 2)
        return merged, ends % 1.0

    def advance(self, state: SourceState, frames: int, cycles: Tensor) -> None:
        """So many frames are final; `cycles` is what `samples` returned for the last of them, shape ()."""
        state.position += frames
        state.cycles = cycles
        state.noise = state.noise[:, :, frames * SAMPLES_PER_FRAME :]
