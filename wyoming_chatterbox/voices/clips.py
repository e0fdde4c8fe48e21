"""Reference clips: what is wrong with them, and the samples that a model takes a voice from.

A clip that needs nothing (one file, sound from its beginning to its end) comes out as upstream would load it, to the
last bit: librosa's mean of the channels and its resampler.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..audio import peak_frame_power, silence, trim_silence
from ..blocking import call_within
from ..limits import MAX_CLIP_BYTES, MAX_CLIP_SECONDS, MIN_CLIP_SECONDS
from .audio_files import Decoded, decode
from .errors import ClipError
from .files import read_file

RATE = 24_000
"""Samples per second of what is prepared; Chatterbox's own."""

PREPROCESSING_VERSION = "1"
"""Of the rules in this module; part of a voice's fingerprint, so that other rules make other conditionals."""

GOOD_SECONDS = 5.0
_LONGEST_EDGE = 0.3
"""Seconds of silence at both ends together that may stay. Upstream trims nothing, and its 10 s hold a second less of
speech for every second of it."""

_KEPT_EDGE = 0.1
_PAUSE = 0.2
"""Seconds of silence between two clips of one voice."""

READ_SECONDS = 10.0
"""Longest the engine's thread waits for a clip, 64 MB from a slow share at most; all other voices wait meanwhile."""

_SILENT, _QUIET = 10 ** (-60 / 10), 10 ** (-35 / 10)
"""Mean square of the loudest 5 ms, full scale being 1."""

_CLIPPED_SHARE = 0.001
_FULL_SCALE = 0.985
_MOST_GAIN = 4.0
"""Times; how far a clip is brought to the loudness of the first one."""


@dataclass(frozen=True)
class Clip:
    """One file, looked at."""

    fingerprint: str
    """SHA-256 of its content."""

    seconds: float
    """Of sound in it, as far as it is used."""

    warnings: tuple[str, ...]


def inspect(content: bytes, suffix: str) -> Clip:
    """Inspection at one file.

    Raises:
        ClipError: it cannot be used.
    """
    samples, warnings = _sound(content, suffix, MAX_CLIP_SECONDS)
    seconds = len(samples) / RATE
    if seconds < MIN_CLIP_SECONDS:
        raise ClipError(f"there is {seconds:.1f} s of sound in it; give 5 to 15 s of clear speech", unfinished=True)
    return Clip(hashlib.sha256(content).hexdigest(), seconds, tuple(warnings))


def too_short_warning(seconds: float) -> tuple[str, ...]:
    """What a user should know about a voice with so much sound in all of its clips."""
    if seconds >= GOOD_SECONDS:
        return ()
    return (f"there are only {seconds:.1f} s of sound in it; 5 to 15 s make a better voice",)


def fingerprint(clips: Sequence[str]) -> str:
    """Of a voice, from those of its clips, in their order."""
    return hashlib.sha256("\n".join([PREPROCESSING_VERSION, *clips]).encode()).hexdigest()


def load_reference(paths: Sequence[Path], root: Path | None = None) -> tuple[NDArray[np.float32], str]:
    """What a model takes a voice from: its clips one after the other, as loud as the first, a minute at most.

    Args:
        paths: at least one.
        root: the folder that they must not be outside of; None: each one's own.

    Returns:
        (samples of shape (n,) at RATE, the fingerprint of what was read: the files may have changed since they were
        looked at).

    Raises:
        ClipError: a file cannot be used; the message names it.
    """
    kept: list[NDArray[np.float32]] = []
    prints: list[str] = []
    left = MAX_CLIP_SECONDS
    for path in paths:
        try:
            content = _read_within_limit(path, root or path.parent)
            prints.append(hashlib.sha256(content).hexdigest())
            if left >= MIN_CLIP_SECONDS:  # files that are not needed any more are in the fingerprint all the same
                samples, _ = _sound(content, path.suffix.lower(), left)
                left -= len(samples) / RATE + _PAUSE
                kept += [samples if not kept else _match_loudness(kept[0], samples), silence(_PAUSE, RATE)]
        except ClipError as error:
            raise ClipError(f"{path.name}: {error}", unfinished=error.unfinished) from error
    return np.concatenate(kept[:-1]), fingerprint(prints)


def _read_within_limit(path: Path, root: Path) -> bytes:
    try:
        return call_within(READ_SECONDS, read_file, path, root, MAX_CLIP_BYTES)
    except TimeoutError as error:
        raise ClipError(f"it cannot be read: {error}", unfinished=True) from error


def _sound(content: bytes, suffix: str, seconds: float) -> tuple[NDArray[np.float32], list[str]]:
    """(samples at RATE, what a user should know about them)."""
    decoded = decode(content, suffix, seconds)
    warnings: list[str] = []
    if decoded.cut and seconds == MAX_CLIP_SECONDS:
        warnings.append(f"only its first {MAX_CLIP_SECONDS:.0f} s are used; 5 to 15 s of clear speech are enough")
    if decoded.rate < 16_000:
        warnings.append(f"its sample rate is {decoded.rate} Hz, the voice will sound as on the telephone")
    mono = _one_channel(decoded, warnings)
    peak = float(np.abs(mono).max(initial=0.0))
    if not math.isfinite(peak):
        raise ClipError("it holds samples that are no numbers; export it again")
    if peak_frame_power(mono, decoded.rate) < _SILENT:
        raise ClipError("it is silent; give 5 to 15 s of clear speech", unfinished=True)
    if peak > 1.5:  # a float file may hold anything; a little over 1 is common, and upstream leaves it
        warnings.append(f"its samples reach {peak:.3g} times full scale; they are made smaller")
        mono = mono / np.float32(peak)
    elif float(np.mean(np.abs(mono) >= _FULL_SCALE)) > _CLIPPED_SHARE:
        warnings.append("it is clipped (too loud when it was recorded), which will be heard in the voice")
    if peak_frame_power(mono, decoded.rate) < _QUIET:
        warnings.append("it is very quiet; record it closer to the microphone")
    samples = _resampled(mono, decoded.rate)
    trimmed = trim_silence(samples, RATE, margin=_KEPT_EDGE)
    cut = (len(samples) - len(trimmed)) / RATE
    if cut > _LONGEST_EDGE:
        samples = trimmed
        if cut > 1.0:
            warnings.append(f"{cut:.1f} s of silence at its ends are left out")
    return samples, warnings


def _one_channel(decoded: Decoded, warnings: list[str]) -> NDArray[np.float32]:
    channels = decoded.channels
    mixed: NDArray[np.float32] = np.mean(channels, axis=0)
    if len(channels) == 1:
        return mixed
    powers = np.einsum("cn,cn->c", channels, channels, dtype=np.float64) / channels.shape[1]
    loudest = int(np.argmax(powers))
    one: NDArray[np.float32] = channels[loudest]
    if not np.isfinite(powers).all() or powers[loudest] == 0.0:
        return mixed
    if (np.delete(powers, loudest) < powers[loudest] * 1e-4).all():
        warnings.append(f"of its {len(channels)} channels only number {loudest + 1} has sound; it is used alone")
        return one
    if float(np.einsum("n,n", mixed, mixed, dtype=np.float64)) / len(mixed) < powers[loudest] * 1e-2:
        warnings.append("its channels cancel each other out (one is inverted); one of them is used alone")
        return one
    return mixed


def _resampled(samples: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
    """As librosa.load(sr=24000) does it."""
    if rate == RATE:
        return samples
    import soxr

    length = math.ceil(len(samples) * RATE / rate)
    resampled: NDArray[np.float32] = soxr.resample(samples, rate, RATE, quality="HQ")[:length]
    padded: NDArray[np.float32] = np.pad(resampled, (0, length - len(resampled)))
    return padded


def _match_loudness(first: NDArray[np.float32], samples: NDArray[np.float32]) -> NDArray[np.float32]:
    times = math.sqrt(float(np.mean(np.square(first))) / max(float(np.mean(np.square(samples))), 1e-12))
    times = min(max(times, 1 / _MOST_GAIN), _MOST_GAIN, 1.0 / max(float(np.abs(samples).max()), 1e-6))
    scaled: NDArray[np.float32] = samples * np.float32(times)
    return scaled
