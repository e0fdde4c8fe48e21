"""Reference clips: checks them, and loads the samples from which a model clones a voice.

A single clip that needs no trimming is loaded bit for bit as upstream would load it: librosa's mean of the channels and
its resampler.
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
"""Samples per second of loaded clips, as Chatterbox expects."""

PREPROCESSING_VERSION = "1"
"""Version of the rules in this module; part of a voice's fingerprint, so that changed rules give new conditionals."""

GOOD_SECONDS = 5.0
_MAX_EDGE_SILENCE = 0.3
"""Seconds of silence at both ends together that are not trimmed. Upstream trims nothing; of the 10 s it uses, every
second of silence is a second of speech less."""

_TRIM_MARGIN = 0.1
_PAUSE = 0.2
"""Seconds of silence between two clips of the same voice."""

READ_SECONDS = 10.0
"""Longest the engine's thread waits for a clip of up to 64 MB on a slow share; all other voices wait meanwhile."""

_SILENT_POWER, _QUIET_POWER = 10 ** (-60 / 10), 10 ** (-35 / 10)
"""Mean square of the loudest 5 ms, relative to full scale."""

_CLIPPED_SHARE = 0.001
_FULL_SCALE = 0.985
_MAX_GAIN = 4.0
"""Largest factor by which a clip is scaled to match the loudness of the first."""


@dataclass(frozen=True)
class Clip:
    """What is known about one inspected file."""

    fingerprint: str
    """SHA-256 of its content."""

    seconds: float
    """Duration of the audio that is used."""

    warnings: tuple[str, ...]


def inspect(content: bytes, suffix: str) -> Clip:
    """Inspection at one file.

    Raises:
        ClipError: it cannot be used.
    """
    samples, warnings = _decode_mono(content, suffix, MAX_CLIP_SECONDS)
    seconds = len(samples) / RATE
    if seconds < MIN_CLIP_SECONDS:
        raise ClipError(f"it has only {seconds:.1f} s of audio; use 5 to 15 s of clear speech", unfinished=True)
    return Clip(hashlib.sha256(content).hexdigest(), seconds, tuple(warnings))


def too_short_warning(seconds: float) -> tuple[str, ...]:
    """Returns a warning if a voice's clips last less than GOOD_SECONDS in total; else nothing."""
    if seconds >= GOOD_SECONDS:
        return ()
    return (f"it has only {seconds:.1f} s of audio; 5 to 15 s give a better voice",)


def fingerprint(clips: Sequence[str]) -> str:
    """Returns a voice's fingerprint, from the fingerprints of its clips in order."""
    return hashlib.sha256("\n".join([PREPROCESSING_VERSION, *clips]).encode()).hexdigest()


def load_reference(paths: Sequence[Path], root: Path | None = None) -> tuple[NDArray[np.float32], str]:
    """Loads a voice's clips as one recording: joined with short pauses, as loud as the first, at most MAX_CLIP_SECONDS.

    Args:
        paths: at least one clip.
        root: the folder in which the clips must be; None: the folder of each clip.

    Returns:
        (samples of shape (n,) at RATE, fingerprint of the content that was read: the files may have changed since they
        were inspected).

    Raises:
        ClipError: a file cannot be used; the message names it.
    """
    pieces: list[NDArray[np.float32]] = []
    fingerprints: list[str] = []
    remaining = MAX_CLIP_SECONDS
    for path in paths:
        try:
            content = _read_within_limit(path, root or path.parent)
            fingerprints.append(hashlib.sha256(content).hexdigest())
            if remaining >= MIN_CLIP_SECONDS:  # files that are no longer needed still count for the fingerprint
                samples, _ = _decode_mono(content, path.suffix.lower(), remaining)
                remaining -= len(samples) / RATE + _PAUSE
                pieces += [_match_loudness(pieces[0], samples) if pieces else samples, silence(_PAUSE, RATE)]
        except ClipError as error:
            raise ClipError(f"{path.name}: {error}", unfinished=error.unfinished) from error
    return np.concatenate(pieces[:-1]), fingerprint(fingerprints)


def _read_within_limit(path: Path, root: Path) -> bytes:
    try:
        return call_within(READ_SECONDS, read_file, path, root, MAX_CLIP_BYTES)
    except TimeoutError as error:
        raise ClipError(f"it cannot be read: {error}", unfinished=True) from error


def _decode_mono(content: bytes, suffix: str, seconds: float) -> tuple[NDArray[np.float32], list[str]]:
    """Returns (mono samples at RATE, trimmed; warnings for the user). Raises ClipError."""
    decoded = decode(content, suffix, seconds)
    warnings: list[str] = []
    if decoded.truncated and seconds == MAX_CLIP_SECONDS:
        warnings.append(f"only the first {MAX_CLIP_SECONDS:.0f} s are used; 5 to 15 s of clear speech are enough")
    if decoded.rate < 16_000:
        warnings.append(f"its sample rate is only {decoded.rate} Hz; the voice will sound like a phone call")
    mono = _to_mono(decoded, warnings)
    peak = float(np.abs(mono).max(initial=0.0))
    if not math.isfinite(peak):
        raise ClipError("it contains samples that are not numbers; export it again")
    if peak_frame_power(mono, decoded.rate) < _SILENT_POWER:
        raise ClipError("it is silent; use 5 to 15 s of clear speech", unfinished=True)
    if peak > 1.5:  # a float file may hold anything; a little over 1 is common, and upstream leaves it
        warnings.append(f"its samples reach {peak:.3g} times full scale; they are scaled down")
        mono = mono / np.float32(peak)
    elif float(np.mean(np.abs(mono) >= _FULL_SCALE)) > _CLIPPED_SHARE:
        warnings.append("it is clipped (recorded too loud), which will be audible in the voice")
    if peak_frame_power(mono, decoded.rate) < _QUIET_POWER:
        warnings.append("it is very quiet; record closer to the microphone")
    samples = _resample(mono, decoded.rate)
    trimmed = trim_silence(samples, RATE, margin=_TRIM_MARGIN)
    cut = (len(samples) - len(trimmed)) / RATE
    if cut > _MAX_EDGE_SILENCE:
        samples = trimmed
        if cut > 1.0:
            warnings.append(f"{cut:.1f} s of silence at its ends were trimmed")
    return samples, warnings


def _to_mono(decoded: Decoded, warnings: list[str]) -> NDArray[np.float32]:
    channels = decoded.channels
    mixed: NDArray[np.float32] = np.mean(channels, axis=0)
    if len(channels) == 1:
        return mixed
    powers = np.einsum("cn,cn->c", channels, channels, dtype=np.float64) / channels.shape[1]
    loudest = int(np.argmax(powers))
    single: NDArray[np.float32] = channels[loudest]
    if not np.isfinite(powers).all() or powers[loudest] == 0.0:
        return mixed
    if (np.delete(powers, loudest) < powers[loudest] * 1e-4).all():
        warnings.append(f"only channel {loudest + 1} of {len(channels)} has audio; only that channel is used")
        return single
    if float(np.einsum("n,n", mixed, mixed, dtype=np.float64)) / len(mixed) < powers[loudest] * 1e-2:
        warnings.append("its channels cancel each other out (one is inverted); only one of them is used")
        return single
    return mixed


def _resample(samples: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
    """Resamples to RATE exactly as librosa.load(sr=24000) does."""
    if rate == RATE:
        return samples
    import soxr

    length = math.ceil(len(samples) * RATE / rate)
    resampled: NDArray[np.float32] = soxr.resample(samples, rate, RATE, quality="HQ")[:length]
    padded: NDArray[np.float32] = np.pad(resampled, (0, length - len(resampled)))
    return padded


def _match_loudness(first: NDArray[np.float32], samples: NDArray[np.float32]) -> NDArray[np.float32]:
    factor = math.sqrt(float(np.mean(np.square(first))) / max(float(np.mean(np.square(samples))), 1e-12))
    factor = min(max(factor, 1 / _MAX_GAIN), _MAX_GAIN, 1.0 / max(float(np.abs(samples).max()), 1e-6))
    scaled: NDArray[np.float32] = samples * np.float32(factor)
    return scaled
