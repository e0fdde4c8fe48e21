"""Mel frames → samples while the frames arrive, without a seam.

Upstream runs its HiFT vocoder (HiFTNet, arXiv 2309.09493) on one window after the other. Every window starts with a
new random phase and new noise, and misses the frames beside it. Here one source runs through the whole utterance, and
every window has enough frames on both sides that what is kept of it is what one decode of everything would give.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from . import upstream

SAMPLES_PER_FRAME = 480
"""24,000 samples and 50 mel frames per second."""

LEFT_FRAMES, RIGHT_FRAMES = 24, 16
"""Frames decoded and thrown away on either side. At (24, 16) the result is float-exact, about 120 dB; (16, 8) gives
31 to 33 dB (measured against one decode)."""


@dataclass
class VocoderState:
    """One utterance's place in the vocoder."""

    generator: Any
    """Draws this utterance's phases and noise, on the CPU so that every device gets the same."""

    phases: Any
    """Initial phase of every harmonic in radians, shape (1, harmonics, 1); the fundamental's is 0."""

    mel: Any = None
    """Frames that are not done with, shape (1, 80, n): the left context and all after it."""

    source: Any = None
    """Source samples of the left context, shape (1, 1, left * 480)."""

    noise: Any = None
    """Noise of the frames that are not emitted yet, shape (1, harmonics, frames * 480)."""

    cycles: float = 0.0
    """The fundamental's phase where the next frame begins, in cycles."""

    left: int = 0
    """Frames of left context in `mel`."""

    @property
    def waiting(self) -> int:
        """Frames that were added and are not heard yet."""
        return 0 if self.mel is None else int(self.mel.shape[2]) - self.left


class StreamingVocoder:
    """Upstream's HiFTGenerator, fed with frames. It holds no state; what is an utterance's is in VocoderState."""

    def __init__(self, hift: Any, *, left: int = LEFT_FRAMES, right: int = RIGHT_FRAMES) -> None:
        """
        Args:
            hift: chatterbox.models.s3gen.hifigan.HiFTGenerator.
            left, right: frames of context, see LEFT_FRAMES.
        """
        self._torch = upstream.load_torch()
        self._hift = hift
        self._left = left
        self.right = right
        self._sine = hift.m_source.l_sin_gen
        self._harmonics = self._sine.harmonic_num + 1

    def start(self, seed: int) -> VocoderState:
        """A new utterance."""
        torch = self._torch
        generator = torch.Generator().manual_seed(seed)
        phases = (torch.rand(1, self._harmonics, 1, generator=generator) * 2 - 1) * math.pi
        phases[:, 0] = 0
        return VocoderState(generator, phases)

    def push(self, state: VocoderState, mel: Any, *, final: bool, again: int = 0) -> tuple[Any, Any]:
        """Add frames.

        Args:
            state: the utterance, changed.
            mel: shape (1, 80, n), n may be 0.
            final: there will be no more.
            again: how many of these frames take the place of as many that were added before; at most those that wait.

        Returns:
            (samples that are final, samples behind them that are only a preview), each of shape (m,). The preview is
            what the right context decodes to; it ends the utterance's audio so far and is made again later: exactly,
            unless frames are replaced.
        """
        torch = self._torch
        if state.mel is not None:
            mel = torch.cat((state.mel[:, :, : state.mel.shape[2] - again], mel), dim=2)
        self._draw_noise(state, mel.shape[2] - state.left - state.waiting)
        state.mel = mel
        waiting = state.mel.shape[2] - state.left
        done = waiting if final else max(0, waiting - self.right)
        if done == 0:
            return torch.zeros(0), torch.zeros(0)
        source, cycles = self._source(state)
        if state.source is not None:
            source = torch.cat((state.source, source), dim=2)
        samples = self._hift.decode(x=state.mel, s=source)[0]
        start = state.left * SAMPLES_PER_FRAME
        end = start + done * SAMPLES_PER_FRAME
        state.cycles = cycles[done - 1]
        kept = min(self._left, state.left + done)
        first = state.left + done - kept
        state.source = source[:, :, first * SAMPLES_PER_FRAME : (first + kept) * SAMPLES_PER_FRAME]
        state.mel = state.mel[:, :, first:]
        state.noise = state.noise[:, :, done * SAMPLES_PER_FRAME :]
        state.left = kept
        return samples[start:end], samples[end:]

    def _draw_noise(self, state: VocoderState, frames: int) -> None:
        """Noise for new frames, in the order of the frames: how they arrive makes no difference."""
        torch = self._torch
        drawn = torch.randn(frames, self._harmonics, SAMPLES_PER_FRAME, generator=state.generator)
        noise = drawn.permute(1, 0, 2).reshape(1, self._harmonics, frames * SAMPLES_PER_FRAME)
        state.noise = noise if state.noise is None else torch.cat((state.noise, noise), dim=2)

    def _source(self, state: VocoderState) -> tuple[Any, list[float]]:
        """The source behind the left context, shape (1, 1, frames * 480), and the cycles after each of its frames.

        As upstream's SineGen and SourceModuleHnNSF, but the phase goes on where the last frame left it, and adds up
        in double precision, on the CPU: not every device has it.
        """
        torch = self._torch
        f0 = self._hift.f0_predictor(state.mel)[:, state.left :].cpu().double()  # (1, frames)
        per_frame = f0[0] * (SAMPLES_PER_FRAME / self._sine.sampling_rate)
        ends = state.cycles + torch.cumsum(per_frame, dim=0)
        starts = ends - per_frame
        within = torch.arange(1, SAMPLES_PER_FRAME + 1, dtype=torch.float64) / SAMPLES_PER_FRAME
        fundamental = (starts[:, None] + per_frame[:, None] * within).reshape(1, 1, -1)
        order = torch.arange(1, self._harmonics + 1, dtype=torch.float64).reshape(1, -1, 1)
        angle = (2 * math.pi * ((fundamental * order) % 1)).float()
        voiced = (f0 > self._sine.voiced_threshold).float().repeat_interleave(SAMPLES_PER_FRAME, dim=1)[:, None]
        loudness = voiced * self._sine.noise_std + (1 - voiced) * self._sine.sine_amp / 3
        sines = self._sine.sine_amp * torch.sin(angle + state.phases) * voiced + loudness * state.noise
        sines = sines.to(state.mel.device, state.mel.dtype)
        module = self._hift.m_source
        merged = module.l_tanh(module.l_linear(sines.transpose(1, 2))).transpose(1, 2)
        return merged, [float(end) % 1.0 for end in ends]
