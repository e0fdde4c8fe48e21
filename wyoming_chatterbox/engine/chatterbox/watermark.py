"""The Perth watermark on a stream: every piece is marked together with the audio on both sides of it.

Upstream marks every chunk by itself. The marking network looks 0.18 s to both sides and finds silence beyond a chunk's
ends, so the mark itself makes a step at every join.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..base import Samples

CONTEXT_SECONDS = 0.4
"""Audio in front of a piece that is marked again with it: the network's reach (five convolutions of 7 frames of 10 ms
and an STFT window of 64 ms) and room for its resampler."""

_LEAST_SECONDS = 0.1
"""Perth fails on less than half of its STFT window of 64 ms; silence makes up for what is missing."""


class StreamingWatermark:
    """Marks one utterance, piece by piece. Perth's watermarker itself holds no state."""

    def __init__(self, watermarker: Any, sample_rate: int) -> None:
        """`watermarker`: perth.PerthImplicitWatermarker."""
        self._watermarker = watermarker
        self._sample_rate = sample_rate
        self._before = np.zeros(0, dtype=np.float32)

    def apply(self, samples: Samples, following: Samples) -> Samples:
        """Returns the piece with its mark.

        Args:
            samples: the next piece, shape (n,).
            following: what will come after it as far as it is known, shape (m,); it is not returned.
        """
        if len(samples) == 0:
            return samples
        window = np.concatenate((self._before, samples, following))
        window = np.pad(window, (0, max(0, round(_LEAST_SECONDS * self._sample_rate) - len(window))))
        start = len(self._before)
        marked = np.asarray(self._watermarker.apply_watermark(window, sample_rate=self._sample_rate), dtype=np.float32)
        self._before = window[: start + len(samples)][-round(CONTEXT_SECONDS * self._sample_rate) :]
        piece = marked[start : start + len(samples)]
        if len(piece) < len(samples):  # its resampler may lose the last sample
            piece = np.concatenate((piece, samples[len(piece) :]))
        return piece
