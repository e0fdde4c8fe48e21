"""Samples on their way out: trimming, gain, resampling, PCM16."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

SAMPLE_WIDTH = 2
"""Bytes per sample of everything that is sent."""

CHANNELS = 1

_FRAME_SECONDS = 0.005


def trim_silence(
    samples: NDArray[np.float32], sample_rate: int, *, threshold_db: float = -45.0, margin: float = 0.02
) -> NDArray[np.float32]:
    """Cut silence off both ends.

    Args:
        samples: shape (n,), in [-1, 1].
        threshold_db: a 5 ms frame quieter than this, relative to the loudest frame, is silence.
        margin: seconds kept on each side, so that soft onsets survive.

    Returns:
        A view of `samples`; empty when there is nothing in it.
    """
    loud = _non_silent_range(samples, sample_rate, threshold_db)
    if loud is None:
        return samples[:0]
    keep = int(margin * sample_rate)
    return samples[max(0, loud[0] - keep) : loud[1] + keep]


def trim_end(
    samples: NDArray[np.float32], sample_rate: int, *, keep: float, loudest: float = 0.0, threshold_db: float = -50.0
) -> NDArray[np.float32]:
    """Cut silence off the end, all but `keep` seconds.

    Args:
        samples: shape (n,), in [-1, 1].
        loudest: the power of the loudest 5 ms before these samples, see `peak_frame_power`.
        threshold_db: 5 ms quieter than this, relative to the loudest, are silence.
    """
    loud = _non_silent_range(samples, sample_rate, threshold_db, loudest)
    return samples[: (loud[1] if loud is not None else 0) + round(keep * sample_rate)]


def peak_frame_power(samples: NDArray[np.float32], sample_rate: int) -> float:
    """The mean square of the loudest 5 ms; 0 where there are none."""
    return float(_frame_powers(samples, sample_rate).max(initial=0.0))


def _non_silent_range(
    samples: NDArray[np.float32], sample_rate: int, threshold_db: float, loudest: float = 0.0
) -> tuple[int, int] | None:
    """Where the first 5 ms that are no silence begin and the last ones end; None where all is silence."""
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
    """The mean square of every whole 5 ms."""
    frame = _frame_samples(sample_rate)
    whole = len(samples) // frame
    powers: NDArray[np.float64] = (
        np.square(samples[: whole * frame], dtype=np.float64).reshape(whole, frame).mean(axis=1)
    )
    return powers


def _frame_samples(sample_rate: int) -> int:
    return max(1, int(_FRAME_SECONDS * sample_rate))


def amplify(samples: NDArray[np.float32], gain: float, *, ceiling: float = 0.97) -> NDArray[np.float32]:
    """Samples times `gain`, or times less where the loudest of them would exceed `ceiling`."""
    peak = float(np.abs(samples).max(initial=0.0))
    if peak == 0.0:
        return samples
    louder: NDArray[np.float32] = samples * np.float32(min(gain, ceiling / peak))
    return louder


_KNEE = 0.7
"""What is louder than this is pressed together when a voice is made louder."""


def apply_gain_db(samples: NDArray[np.float32], decibels: float) -> NDArray[np.float32]:
    """Samples made louder, or softer where `decibels` are below 0. Peaks are rounded where they would be cut.

    Every sample by itself, so that it makes no difference how a stream is cut into chunks.
    """
    if decibels == 0.0:
        return samples
    scaled: NDArray[np.float32] = samples * np.float32(10 ** (decibels / 20))
    size = np.abs(scaled)
    if decibels < 0.0 or float(size.max(initial=0.0)) <= _KNEE:
        return scaled
    room = 1.0 - _KNEE
    rounded = _KNEE + room * np.tanh((size - _KNEE) / room)  # goes on with the same slope, ends at 1
    return np.where(size > _KNEE, np.sign(scaled) * rounded, scaled).astype(np.float32)


def silence(seconds: float, sample_rate: int) -> NDArray[np.float32]:
    """Silence of shape (n,)."""
    return np.zeros(round(seconds * sample_rate), dtype=np.float32)


def pcm16(samples: NDArray[np.float32]) -> bytes:
    """Little-endian signed 16-bit PCM; what exceeds [-1, 1] is clipped, what is not a number is silent."""
    finite = np.nan_to_num(samples, nan=0.0, posinf=1.0, neginf=-1.0)
    return bytes(np.rint(np.clip(finite, -1.0, 1.0) * 32767.0).astype("<i2").tobytes())


class PCMEncoder:
    """Turns one utterance's samples into PCM16 at one rate, whatever the rates of the engines that made them.

    Resampling is stateful across calls (soxr's stream), so chunk borders leave no trace.
    """

    def __init__(self, sample_rate: int) -> None:
        self.sample_rate = sample_rate
        self._source_rate = sample_rate
        self._resampler: Any = None

    def encode(self, samples: NDArray[np.float32], source_rate: int) -> bytes:
        """PCM16 for samples of shape (n,) at `source_rate`; may be empty while the resampler fills."""
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
        """What the resampler still holds; the encoder can be used again afterwards."""
        if self._resampler is None:
            return b""
        rest = self._resampler.resample_chunk(np.zeros(0, dtype=np.float32), last=True)
        self._resampler = None
        self._source_rate = self.sample_rate
        return pcm16(rest)
