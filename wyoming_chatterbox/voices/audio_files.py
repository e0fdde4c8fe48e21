"""From the bytes of an audio file to samples, whatever the bytes are.

libsndfile reads WAV, FLAC, MP3, AIFF, Ogg Vorbis and Opus; FFmpeg's libraries (PyAV) read the rest (M4A, MP4, WebM, …).
Both are given bytes, never a name, and FFmpeg the container's format as well: of the formats it would guess some name
other files or addresses.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..installation import installing
from ..limits import MAX_CLIP_CHANNELS, MAX_CLIP_SAMPLES, MAX_CLIP_SECONDS, MAX_DECLARED_SECONDS
from .errors import ClipError
from .files import FORMATS
from .wav import LEAST_UNKNOWN_LENGTH, with_length

MIN_RATE, MAX_RATE = 8000, 192_000
"""Telephones, and the fastest that sound cards record with."""

_SNDFILE_FORMATS = ("WAV", "WAVEX", "RF64", "FLAC", "OGG", "MP3", "AIFF")
"""Of libsndfile's two dozen; the others are old and rare, as are the eyes that looked at their readers."""

_CONTAINERS = {
    **{".wav": "wav", ".flac": "flac", ".mp3": "mp3", ".aiff": "aiff", ".aif": "aiff", ".aac": "aac", ".amr": "amr"},
    **dict.fromkeys((".ogg", ".oga", ".opus"), "ogg"),
    **dict.fromkeys((".m4a", ".m4b", ".mp4", ".mov", ".3gp"), "mov"),
    **dict.fromkeys((".webm", ".mka", ".mkv"), "matroska"),
    **{".wma": "asf", ".caf": "caf"},
}
"""FFmpeg's names of the container, by the suffix of the file."""

_BY_SNDFILE = (".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".aiff", ".aif")
"""Suffixes of what libsndfile may read; the others go to FFmpeg at once."""

_BLOCK_SECONDS = 1.0

_DAMAGED_TO_SNDFILE = (".wav", ".aiff", ".aif")
"""Suffixes of what FFmpeg cannot read better."""


@dataclass(frozen=True)
class Decoded:
    """The beginning of an audio file."""

    channels: NDArray[np.float32]
    """Shape (channels, n)."""

    rate: int
    cut: bool
    """There was more than MAX_CLIP_SECONDS."""


def decode(content: bytes, suffix: str, seconds: float = MAX_CLIP_SECONDS) -> Decoded:
    """Decode up to so many seconds.

    Args:
        content: the whole file.
        suffix: of its name, one of `files.SUFFIXES`; says what is tried, not what it must be.

    Raises:
        ClipError: it is no audio file, or not one that is safe to decode; the message says why.
    """
    import soundfile

    if not content:
        raise ClipError("it is empty", unfinished=True)
    if suffix in _BY_SNDFILE:
        try:
            return _by_sndfile(with_length(content), seconds)
        except soundfile.LibsndfileError as error:
            if suffix in _DAMAGED_TO_SNDFILE:
                kind = "a WAV file" if suffix == ".wav" else "WAV or FLAC"
                raise ClipError(f"it cannot be decoded ({_reason(error)}); give {kind}", unfinished=True) from error
    return _by_ffmpeg(content, suffix, seconds)


def is_whole(content: bytes) -> bool:
    """Whether nothing is missing at the end, as far as the format says; True where it says nothing (MP3, WebM)."""
    if content[:4] == b"RIFF" and content[8:12] == b"WAVE":
        size = int.from_bytes(content[4:8], "little")
        return size == 0 or size >= LEAST_UNKNOWN_LENGTH or size + 8 <= len(content) + 1
    if content[:4] == b"FORM" and content[8:12] in (b"AIFF", b"AIFC"):
        return int.from_bytes(content[4:8], "big") + 8 <= len(content) + 1
    if content[:4] == b"OggS":
        return _last_page_is_whole(content)
    if content[4:8] == b"ftyp":
        return _boxes_are_whole(content)
    return True


def _last_page_is_whole(content: bytes) -> bool:
    """Of an Ogg file (RFC 3533, 6): its last page says that it is the last, and is there to its end."""
    page = content[content.rfind(b"OggS") :]
    segments = page[26] if len(page) > 26 else 0
    return bool(segments and page[5] & 4) and len(page) >= 27 + segments + sum(page[27 : 27 + segments])


def _boxes_are_whole(content: bytes) -> bool:
    """Of an MPEG-4 file: every box (ISO 14496-12, 4.2) ends in the file, and there is one that tells what is where."""
    at, has_index = 0, False
    while at + 8 <= len(content):
        size = int.from_bytes(content[at : at + 4], "big")
        has_index |= content[at + 4 : at + 8] == b"moov"
        if size == 1:
            size = int.from_bytes(content[at + 8 : at + 16], "big")
        if size < 8:
            return has_index and size == 0  # up to the end of the file
        at += size
    return has_index and at == len(content)


def _by_sndfile(content: bytes, seconds: float) -> Decoded:
    import soundfile

    with soundfile.SoundFile(io.BytesIO(content)) as file:
        if file.format not in _SNDFILE_FORMATS:
            raise ClipError(f"it is a {file.format} file; give {FORMATS}")
        _check(file.samplerate, file.channels, file.frames / file.samplerate if file.samplerate > 0 else 0.0)
        blocks = _sndfile_blocks(file, round(seconds * file.samplerate) + 1)
        decoded = _collected(blocks, file.samplerate, seconds)
        # Of an MP3 the length is only estimated.
        missing = file.frames - decoded.channels.shape[1]
        if not decoded.cut and file.format != "MP3" and missing > 0.1 * file.samplerate:
            raise ClipError("it ends before its end: it is damaged, or was not copied to its end", unfinished=True)
        return decoded


def _sndfile_blocks(file: Any, most: int) -> Iterator[NDArray[np.float32]]:
    block = round(_BLOCK_SECONDS * file.samplerate)
    while most > 0:
        # Not its blocks(): they would be made for the length that the header claims.
        samples = file.read(min(block, most), dtype="float32", always_2d=True)
        if not len(samples):
            return
        most -= len(samples)
        yield samples.T


def _by_ffmpeg(content: bytes, suffix: str, seconds: float) -> Decoded:
    try:
        import av
    except ImportError:
        raise ClipError(
            f"{suffix[1:].upper()} files need the package av, which is not installed; {installing('http', 'av')}, or "
            "convert it to WAV"
        ) from None
    try:
        with av.open(io.BytesIO(content), format=_CONTAINERS[suffix], metadata_errors="ignore") as container:
            stream = next(iter(container.streams.audio), None)
            if stream is None:
                raise ClipError("there is no sound in it; give an audio file")
            codec = stream.codec_context
            if not codec.sample_rate:  # a stream that was announced, and of which nothing was found
                raise ClipError(f"it cannot be decoded ({suffix[1:]} data expected); give an audio file")
            declared = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else 0.0
            declared = max(declared, (container.duration or 0) / av.time_base)  # all that WebM says
            _check(codec.sample_rate, codec.channels, declared)
            return _collected(_ffmpeg_blocks(container, stream), codec.sample_rate, seconds)
    except av.error.FFmpegError as error:
        raise ClipError(f"it cannot be decoded ({_reason(error)}); give {FORMATS}", unfinished=True) from error


def _ffmpeg_blocks(container: Any, stream: Any) -> Iterator[NDArray[np.float32]]:
    import av

    resampler: Any = av.AudioResampler(format="fltp", rate=stream.codec_context.sample_rate)  # fltp: floats, by channel
    for frame in container.decode(stream):
        for converted in resampler.resample(frame):
            yield converted.to_ndarray()
    for converted in resampler.resample(None):
        yield converted.to_ndarray()


def _collected(blocks: Iterator[NDArray[np.float32]], rate: int, seconds: float) -> Decoded:
    """The first seconds of blocks of shape (channels, n); no more of them are asked for."""
    most = round(seconds * rate)
    kept: list[NDArray[np.float32]] = []
    length = 0
    for block in blocks:
        most = min(most, MAX_CLIP_SAMPLES // len(block))
        kept.append(block)
        length += block.shape[1]
        if length > most:
            break
    if not length:
        raise ClipError("there is no sound in it", unfinished=True)
    samples = np.concatenate(kept, axis=1)
    return Decoded(samples[:, :most], rate, cut=length > most)


def _check(rate: int, channels: int, seconds: float) -> None:
    """Raise ClipError for what is not worth decoding, or not safe."""
    if not MIN_RATE <= rate <= MAX_RATE:
        raise ClipError(f"its sample rate is {rate} Hz (allowed: {MIN_RATE} to {MAX_RATE}); give 24000 Hz or more")
    if not 1 <= channels <= MAX_CLIP_CHANNELS:
        raise ClipError(f"it has {channels} channels (allowed: 1 to {MAX_CLIP_CHANNELS}); give one or two")
    if seconds > MAX_DECLARED_SECONDS:
        raise ClipError(f"it says that it lasts {seconds / 60:.0f} minutes; cut 5 to 15 s of clear speech out of it")


def _reason(error: Exception) -> str:
    return (getattr(error, "error_string", None) or getattr(error, "strerror", None) or str(error)).strip().rstrip(".")
