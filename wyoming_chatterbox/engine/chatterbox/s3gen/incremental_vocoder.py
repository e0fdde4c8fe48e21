"""Mel frames → samples without a seam, and without decoding a frame twice: the same samples as `vocoder.py`'s.

For flow decoders whose frames are final once they are decoded (attention "causal"); `vocoder.py` also lets frames that
nobody has heard yet be replaced.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .incremental_hift import HiFTState, IncrementalHiFT
from .source import SAMPLES_PER_FRAME, HarmonicSource, SourceState
from .vocoder import RIGHT_FRAMES

_WINDOW_FRAMES = 50
"""Frames that pass through the layers at once, in 30 MB: with their state kept, short windows are no more work."""


@dataclass
class IncrementalState:
    """One utterance's place in the vocoder."""

    source: SourceState
    layers: HiFTState = field(default_factory=HiFTState)
    pending: Tensor | None = None
    """Frames that the layers have not seen yet, shape (1, 80, n): too few to hear anything of them."""

    frames: int = 0
    """Frames that were added."""

    heard: int = 0
    """Frames whose samples were returned."""

    decoded: int = 0
    """Samples that the layers have given; a little fewer than were returned, see `push`."""

    @property
    def waiting(self) -> int:
        """Frames that were added and are not heard yet."""
        return self.frames - self.heard


class IncrementalVocoder:
    """Upstream's HiFTGenerator, fed with frames. It holds no state; what is an utterance's is in IncrementalState."""

    right = RIGHT_FRAMES
    """Frames that must follow before a frame is heard, see vocoder.py."""

    def __init__(self, hift: Any, precision: str = "float32", source: HarmonicSource | None = None) -> None:
        """
        Args:
            hift: chatterbox.models.s3gen.hifigan.HiFTGenerator, its weight norms folded.
            precision: of the convolutions, see IncrementalHiFT.
            source: of the harmonic signal; None: the vocoder's own.
        """
        self._layers = IncrementalHiFT(hift, precision)
        self.source = source or HarmonicSource(hift)

    def start(self, seed: int) -> IncrementalState:
        """Begin an utterance; returns its state."""
        return IncrementalState(self.source.start(seed))

    def push(self, state: IncrementalState, mel: Tensor, *, final: bool, redo_frames: int = 0) -> tuple[Tensor, Tensor]:
        """Add frames.

        The layers' samples lag 20 frames behind; those of the last of these 20 are made as if the speech ended here,
        by a copy of the state. What has 16 frames behind it (float-exact, as vocoder.py says) is returned as final,
        what has fewer as the preview.

        Args:
            state: the utterance, changed.
            mel: shape (1, 80, n), n may be 0.
            final: there will be no more.
            redo_frames: must be 0: frames are not replaced here.

        Returns:
            (samples that are final, samples behind them that are only a preview), each of shape (m,), as
            `StreamingVocoder.push`.
        """
        assert redo_frames == 0, "frames that the layers have seen cannot be replaced"
        self.source.draw_noise(state.source, mel.shape[2])
        state.frames += mel.shape[2]
        pending = mel if state.pending is None else torch.cat((state.pending, mel), dim=2)
        done = state.waiting if final else max(0, state.waiting - self.right)
        if done == 0:
            state.pending = pending
            return torch.zeros(0), torch.zeros(0)
        state.pending = None
        before = state.decoded
        *windows, last = pending.split(_WINDOW_FRAMES, dim=2)
        parts = [self._decode(state.layers, state.source, window, False) for window in windows]
        samples = torch.cat((*parts, self._decode(state.layers, state.source, last, final)))
        state.decoded += len(samples)
        if not final:
            ended, source = state.layers.copy(), SourceState(**vars(state.source))
            samples = torch.cat((samples, self._decode(ended, source, pending[:, :, :0], True)))
        begin = state.heard * SAMPLES_PER_FRAME - before
        state.heard += done
        end = state.heard * SAMPLES_PER_FRAME - before
        return samples[begin:end], samples[end:]

    def _decode(self, layers: HiFTState, source: SourceState, mel: Tensor, final: bool) -> Tensor:
        f0 = self._layers.pitch(layers, mel, final=final)
        excitation, cycles = self.source.samples(source, f0)
        if cycles.shape[0]:
            self.source.advance(source, cycles.shape[0], cycles[-1])
        return self._layers.decode(layers, mel, excitation, final=final)[0]
