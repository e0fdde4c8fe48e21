"""Mel frames → samples while the frames arrive, without a seam.

Upstream runs its HiFT vocoder (HiFTNet, arXiv 2309.09493) on one window after the other. Every window starts with a
new random phase and new noise, and misses the frames beside it. Here one source runs through the whole utterance, and
every window has enough frames on both sides that what is kept of it is what one decode of everything would give.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .source import SAMPLES_PER_FRAME, HarmonicSource, SourceState

LEFT_FRAMES, RIGHT_FRAMES = 24, 16
"""Frames decoded and thrown away on either side. At (24, 16) the result is float-exact, about 120 dB; (16, 8) gives
31 to 33 dB (measured against one decode)."""

GPU_MULTIPLE = 64
"""Frames. cuDNN looks for an algorithm for every length that it has not met, for each of 85 convolutions: about 100 ms,
by reading. With the context a chunk of 10 s is 540 frames, so that there are 9 lengths."""


@dataclass
class VocoderState:
    """One utterance's place in the vocoder."""

    source: SourceState
    mel: Tensor | None = None
    """Frames that are not done with, shape (1, 80, n), behind those that may be left context."""

    left_source: Tensor | None = None
    """Source samples of the left context, shape (1, 1, left * 480)."""

    left: int = 0
    """Frames in `mel` that were heard, and may be left context."""

    @property
    def waiting(self) -> int:
        """Frames that were added and are not heard yet."""
        return 0 if self.mel is None else int(self.mel.shape[2]) - self.left


class StreamingVocoder:
    """Upstream's HiFTGenerator, fed with frames. It holds no state; what is an utterance's is in VocoderState."""

    def __init__(
        self,
        hift: Any,
        *,
        left: int = LEFT_FRAMES,
        right: int = RIGHT_FRAMES,
        multiple: int = 1,
        source: HarmonicSource | None = None,
    ) -> None:
        """
        Args:
            hift: chatterbox.models.s3gen.hifigan.HiFTGenerator.
            left, right: frames of context, see LEFT_FRAMES.
            multiple: windows have a multiple of so many frames, by more left context, which changes nothing that is
                heard; only at the beginning of an utterance there is no more to take.
            source: of the harmonic signal; None: the vocoder's own.
        """
        self._hift = hift
        self._left = left
        self._multiple = multiple
        self.right = right
        self.source = source or HarmonicSource(hift)

    def start(self, seed: int) -> VocoderState:
        """Begin an utterance; returns its state."""
        return VocoderState(self.source.start(seed))

    def push(self, state: VocoderState, mel: Tensor, *, final: bool, redo_frames: int = 0) -> tuple[Tensor, Tensor]:
        """Add frames.

        Args:
            state: the utterance, changed.
            mel: shape (1, 80, n), n may be 0.
            final: there will be no more.
            redo_frames: how many of these frames replace frames that were added before; at most those that wait.

        Returns:
            (samples that are final, samples behind them that are only a preview), each of shape (m,). The preview is
            what the right context decodes to; it ends the utterance's audio so far and is made again later: exactly,
            unless frames are replaced.
        """
        if state.mel is not None:
            mel = torch.cat((state.mel[:, :, : state.mel.shape[2] - redo_frames], mel), dim=2)
        self.source.draw_noise(state.source, mel.shape[2] - state.left - state.waiting)
        state.mel = mel
        waiting = state.mel.shape[2] - state.left
        done = waiting if final else max(0, waiting - self.right)
        if done == 0:
            return torch.zeros(0), torch.zeros(0)
        left = self._left_context(state.left, waiting)
        unused = state.left - left
        window = state.mel[:, :, unused:]
        source, cycles = self.source.samples(state.source, self._hift.f0_predictor(window)[:, left:])
        if state.left_source is not None:
            source = torch.cat((state.left_source, source), dim=2)
        samples = self._hift.decode(x=window, s=source[:, :, unused * SAMPLES_PER_FRAME :])[0]
        start = left * SAMPLES_PER_FRAME
        end = start + done * SAMPLES_PER_FRAME
        self.source.advance(state.source, done, cycles[done - 1])
        heard = state.left + done
        left_frames = min(self._left + self._multiple - 1, heard)
        state.left_source = source[:, :, (heard - left_frames) * SAMPLES_PER_FRAME : heard * SAMPLES_PER_FRAME]
        state.mel = state.mel[:, :, heard - left_frames :]
        state.left = left_frames
        return samples[start:end], samples[end:]

    def _left_context(self, heard: int, waiting: int) -> int:
        """Returns how many of the frames that were heard a window begins with."""
        least = min(heard, self._left)
        length = least + waiting
        return min(heard, least - length % -self._multiple)
