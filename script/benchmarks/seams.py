"""What a listener hears at the joins of a stream.

**Hole**: how much quieter the first milliseconds after a join are than what surrounds them: their level less that of
the 20 ms before the join and of 20 to 40 ms after it. Speech is uneven by itself, so the same is measured every 10 ms
elsewhere in the utterance, and the mean of that is subtracted: 0 dB is a join like any other place, a fade-in from
zero over 20 ms is -25 dB in the first 2 ms and -17 dB in the first 5 ms. It needs nothing to compare with; what
chance does to the mean of so few joins (±) comes from the deviation elsewhere.

**Level to one chunk**: the level of a window at the join less that of the same window where the same tokens were
decoded in one chunk. Means something only where the two are the same speech: of a decoder's own one chunk the source is
the stream's, sample by sample. (Where only the seed is the same, the pitch that the first frames had moves the phase of
all that follows; nobody hears that, but it is 0.1 to 0.3 dB.)

**Log-mel distance**: mel spectra (80 bands up to 8 kHz, windows of 43 ms every 10 ms) in dB, all below -80 dB of the
loudest counted as that; per frame the root mean square of the bands' differences, and the mean of that over all frames,
over those within 100 ms of a join (near) and over the others (elsewhere).

A join in silence has no level: where what it is compared with is 50 dB below the utterance's, it is left out.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

RATE = 24_000
Samples: TypeAlias = NDArray[np.float32]

_SILENCE = -50.0
"""dB to the utterance's level."""

_NEAR = 0.1
"""Seconds to both sides of a join."""

_FFT, _HOP, _BANDS, _TOP = 1024, 240, 80, 8000.0
_RANGE = 80.0
"""dB below the loudest that are looked at."""


def joins(chunks: Sequence[int]) -> list[int]:
    """Returns where one chunk ends and the next begins, in samples, from the chunks' lengths."""
    return [int(end) for end in np.cumsum(chunks)[:-1]]


def level(samples: Samples) -> float:
    """In dB of full scale."""
    if len(samples) == 0:
        return -math.inf
    return float(10 * np.log10(np.mean(np.square(samples, dtype=np.float64)) + 1e-20))


def hole(samples: Samples, at: Sequence[int], seconds: float) -> tuple[float, float] | tuple[None, None]:
    """Returns the mean depth of the joins' holes and its standard error, in dB (below 0: quieter), see above.

    Args:
        samples: the utterance, shape (n,).
        at: the joins, in samples.
        seconds: how much after a join is looked at.

    Returns:
        (None, None) where there is no join, or nothing else.
    """
    places = range(_milliseconds(20), len(samples) - _milliseconds(40), _milliseconds(10))
    near = _milliseconds(1000 * _NEAR)
    elsewhere = [place for place in places if all(abs(place - join) > near for join in at)]
    found = _depths(samples, at, seconds)
    usual = _depths(samples, elsewhere, seconds)
    if not found or not usual:
        return None, None
    return float(np.mean(found) - np.mean(usual)), float(np.std(usual) / math.sqrt(len(found)))


def to_one_chunk(samples: Samples, whole: Samples, at: Sequence[int], before: float, after: float) -> list[float]:
    """Returns the level at each join, from `before` to `after` seconds around it, less that in one chunk, in dB.

    Joins in silence and joins whose window is not in both are left out.
    """
    floor = level(whole) + _SILENCE
    found = []
    for join in at:
        window = slice(join - _milliseconds(1000 * before), join + _milliseconds(1000 * after))
        if window.start < 0 or window.stop > min(len(samples), len(whole)) or level(whole[window]) < floor:
            continue
        found.append(level(samples[window]) - level(whole[window]))
    return found


def mel_distances(
    samples: Samples, whole: Samples, at: Sequence[int]
) -> tuple[float | None, float | None, float | None]:
    """Returns the log-mel distance of two decodes of the same tokens: of all, near the joins, and elsewhere; in dB."""
    length = min(len(samples), len(whole))
    if length < _FFT:
        return None, None, None
    one, other = _mel(samples[:length]), _mel(whole[:length])
    floor = max(one.max(), other.max()) - _RANGE
    differences = np.maximum(one, floor) - np.maximum(other, floor)
    distances = np.sqrt(np.mean(np.square(differences), axis=1))
    centres = np.arange(len(distances)) * _HOP + _FFT // 2
    near = np.zeros(len(distances), dtype=bool)
    for join in at:
        near |= np.abs(centres - join) <= _milliseconds(1000 * _NEAR)
    return _mean(distances), _mean(distances[near]), _mean(distances[~near])


def report(chunks: Sequence[Samples], own_whole: Samples | None, exact_whole: Samples | None) -> dict[str, Any]:
    """One decoder's row: figures in dB, None where there is nothing to measure.

    Args:
        chunks: the stream.
        own_whole: the same tokens in one chunk by the same decoder with the stream's source; None: not at hand.
        exact_whole: the same tokens in one chunk by our decoder's exact profile; None: not at hand, or other tokens.
    """
    samples = np.concatenate(chunks)
    at = joins([len(chunk) for chunk in chunks])
    row: dict[str, Any] = {"joins": len(at)}
    for milliseconds in (2, 5):
        name = f"hole_{milliseconds}ms"
        row[name], row[f"{name}_error"] = hole(samples, at, milliseconds / 1000)
    for name, whole in (("own", own_whole), ("exact", exact_whole)):
        around: list[float] = []
        first: list[float] = []
        mel = near = elsewhere = None
        if whole is not None:
            around = to_one_chunk(samples, whole, at, 0.005, 0.040)
            first = to_one_chunk(samples, whole, at, 0.0, 0.005)
            mel, near, elsewhere = mel_distances(samples, whole, at)
        row[f"{name}_level"] = max(around, key=abs, default=None)
        row[f"{name}_level_5ms"] = max(first, key=abs, default=None)
        row[f"{name}_mel"] = mel
        row[f"{name}_mel_near"] = near
        row[f"{name}_mel_elsewhere"] = elsewhere
    return row


def _depths(samples: Samples, places: Sequence[int], seconds: float) -> list[float]:
    floor = level(samples) + _SILENCE
    found = []
    for place in places:
        if place < _milliseconds(20) or place + _milliseconds(40) > len(samples):
            continue
        before = samples[place - _milliseconds(20) : place]
        after = samples[place + _milliseconds(20) : place + _milliseconds(40)]
        around = level(np.concatenate((before, after)))
        if around >= floor:
            found.append(level(samples[place : place + _milliseconds(1000 * seconds)]) - around)
    return found


def _mel(samples: Samples) -> NDArray[np.float64]:
    """In dB, shape (frames, bands)."""
    frames = np.lib.stride_tricks.sliding_window_view(samples.astype(np.float64), _FFT)[::_HOP]
    power = np.abs(np.fft.rfft(frames * np.hanning(_FFT), axis=1)) ** 2
    found: NDArray[np.float64] = 10 * np.log10(power @ _filters().T + 1e-20)
    return found


@functools.cache
def _filters() -> NDArray[np.float64]:
    """Triangles on the mel scale (2595 log10(1 + f / 700)), shape (bands, frequencies)."""
    top = 2595 * np.log10(1 + _TOP / 700)
    bins = 700 * (10 ** (np.linspace(0, top, _BANDS + 2) / 2595) - 1) / RATE * _FFT
    places = np.arange(_FFT // 2 + 1)
    rising = (places - bins[:-2, None]) / (bins[1:-1] - bins[:-2])[:, None]
    falling = (bins[2:, None] - places) / (bins[2:] - bins[1:-1])[:, None]
    found: NDArray[np.float64] = np.maximum(0, np.minimum(rising, falling))
    return found


def _mean(values: NDArray[np.float64]) -> float | None:
    return float(values.mean()) if len(values) else None


def _milliseconds(count: float) -> int:
    return round(count * RATE / 1000)
