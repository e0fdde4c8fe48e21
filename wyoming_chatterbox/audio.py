"""Processes output samples: trimming, gain, resampling, PCM16."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

SAMPLE_WIDTH = 2
"""Bytes per sample of all audio that is sent."""

CHANNELS = 1

_FRAME_SECONDS = 0.005


def trim_silence(
    samples: NDArray[np.float32], sample_rate: int, *, threshold_db: float = -45.0, margin: float = 0.02
) -> NDArray[np.float32]:
    """Trims silence from both ends.

    Args:
        samples: shape (n,), in [-1, 1].
        threshold_db: a 5 ms frame quieter than this, relative to the loudest frame, is silence.
        margin: seconds to keep on each side, so that soft onsets survive.

    Returns:
        A view of `samples`; empty if all of it is silent.
    """
    loud = _non_silent_range(samples, sample_rate, threshold_db)
    if loud is None:
        return samples[:0]
    keep = int(margin * sample_rate)
    return samples[max(0, loud[0] - keep) : loud[1] + keep]


def trim_end(
    samples: NDArray[np.float32], sample_rate: int, *, keep: float, loudest: float = 0.0, threshold_db: float = -50.0
) -> NDArray[np.float32]:
    """Trims silence from the end, except for `keep` seconds.

    Args:
        samples: shape (n,), in [-1, 1].
        loudest: power of the loudest 5 ms frame before these samples, see `peak_frame_power`.
        threshold_db: a 5 ms frame quieter than this, relative to the loudest frame, is silence.
    """
    loud = _non_silent_range(samples, sample_rate, threshold_db, loudest)
    return samples[: (loud[1] if loud is not None else 0) + round(keep * sample_rate)]


def peak_frame_power(samples: NDArray[np.float32], sample_rate: int) -> float:
    """Returns the mean square of the loudest 5 ms frame; 0 if there is no whole frame."""
    return float(_frame_powers(samples, sample_rate).max(initial=0.0))


def _non_silent_range(
    samples: NDArray[np.float32], sample_rate: int, threshold_db: float, loudest: float = 0.0
) -> tuple[int, int] | None:
    """Returns (start, end) of the samples between the first and the last non-silent frame; None if all are silent."""
    power = _frame_powers(samples, sample_rate)
    if len(power) == 0:
        return (0, len(samples)) if len(samples) else None
    loudest = max(loudest, float(power.max()))
    if loudest <= 1e-12:
        return None
    loud = np.flatnonzero(power > loudest * 10 ** (threshold_db / 10))
    if len(loud) == 0:
        return None
    frame = _frame_samples(sample_rate)
    return int(loud[0]) * frame, (int(loud[-1]) + 1) * frame


def _frame_powers(samples: NDArray[np.float32], sample_rate: int) -> NDArray[np.float64]:
    """Returns the mean square of every whole 5 ms frame."""
    frame = _frame_samples(sample_rate)
    count = len(samples) // frame
    powers: NDArray[np.float64] = (
        np.square(samples[: count * frame], dtype=np.float64).reshape(count, frame).mean(axis=1)
    )
    return powers


def _frame_samples(sample_rate: int) -> int:
    return max(1, int(_FRAME_SECONDS * sample_rate))


def amplify(samples: NDArray[np.float32], gain: float, *, ceiling: float = 0.97) -> NDArray[np.float32]:
    """Multiplies samples by `gain`, or by less if the peak would exceed `ceiling`."""
    peak = float(np.abs(samples).max(initial=0.0))
    if peak == 0.0:
        return samples
    amplified: NDArray[np.float32] = samples * np.float32(min(gain, ceiling / peak))
    return amplified


_KNEE = 0.7
"""Amplified samples above this are soft-clipped."""


def apply_gain_db(samples: NDArray[np.float32], decibels: float) -> NDArray[np.float32]:
    """Applies a gain in decibels. Peaks that would exceed full scale are soft-clipped.

    Each sample is processed independently, so how a stream is divided into chunks makes no difference.
    """
    if decibels == 0.0:
        return samples
    scaled: NDArray[np.float32] = samples * np.float32(10 ** (decibels / 20))
    size = np.abs(scaled)
    if decibels < 0.0 or float(size.max(initial=0.0)) <= _KNEE:
        return scaled
    room = 1.0 - _KNEE
    rounded = _KNEE + room * np.tanh((size - _KNEE) / room)  # continues with the same slope, approaches 1
    return np.where(size > _KNEE, np.sign(scaled) * rounded, scaled).astype(np.float32)


def silence(seconds: float, sample_rate: int) -> NDArray[np.float32]:
    """Returns silent samples of shape (n,)."""
    return np.zeros(round(seconds * sample_rate), dtype=np.float32)


def pcm16(samples: NDArray[np.float32]) -> bytes:
    """Converts to little-endian signed 16-bit PCM. Values outside [-1, 1] are clipped, NaN becomes 0."""
    finite = np.nan_to_num(samples, nan=0.0, posinf=1.0, neginf=-1.0)
    return bytes(np.rint(np.clip(finite, -1.0, 1.0) * 32767.0).astype("<i2").tobytes())


class PCMEncoder:
    """Converts an utterance's samples to PCM16 at a fixed rate, whatever the rates of the engines that produced them.

    Resampling is stateful across calls (soxr's stream), so chunk boundaries are inaudible.
    """

    def __init__(self, sample_rate: int) -> None:
        self.sample_rate = sample_rate
        self._source_rate = sample_rate
        self._resampler: Any = None

    def encode(self, samples: NDArray[np.float32], source_rate: int) -> bytes:
        """Returns PCM16 for samples of shape (n,) at `source_rate`; may be empty while the resampler fills."""
        before = b""
        if source_rate != self._source_rate:
            before = self.flush()
            self._source_rate = source_rate
            if source_rate != self.sample_rate:
                import soxr  # imported when needed: most installations never resample

                self._resampler = soxr.ResampleStream(source_rate, self.sample_rate, CHANNELS, dtype="float32")
        if self._resampler is not None:
            samples = self._resampler.resample_chunk(samples)
        return before + pcm16(samples)

    def flush(self) -> bytes:
        """Returns the samples that the resampler still buffers. The encoder can be reused afterwards."""
        if self._resampler is None:
            return b""
        rest = self._resampler.resample_chunk(np.zeros(0, dtype=np.float32), last=True)
        self._resampler = None
        self._source_rate = self.sample_rate
        return pcm16(rest)
