"""Decodes audio files of any supported format, including hostile ones, to samples.

libsndfile reads WAV, FLAC, MP3, AIFF, Ogg Vorbis and Opus; FFmpeg's libraries (PyAV) read the rest (M4A, MP4, WebM, …).
Both receive bytes, never a file name, and FFmpeg the container format as well: some of the formats it would guess refer
to other files or addresses.
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
from .wav import MIN_UNKNOWN_LENGTH, with_length

MIN_RATE, MAX_RATE = 8000, 192_000
"""Phone calls, and the fastest rate at which sound cards record."""

_SNDFILE_FORMATS = ("WAV", "WAVEX", "RF64", "FLAC", "OGG", "MP3", "AIFF")
"""Of libsndfile's two dozen; the others are old and rare, and their readers are little reviewed."""

_CONTAINERS = {
    **{".wav": "wav", ".flac": "flac", ".mp3": "mp3", ".aiff": "aiff", ".aif": "aiff", ".aac": "aac", ".amr": "amr"},
    **dict.fromkeys((".ogg", ".oga", ".opus"), "ogg"),
    **dict.fromkeys((".m4a", ".m4b", ".mp4", ".mov", ".3gp"), "mov"),
    **dict.fromkeys((".webm", ".mka", ".mkv"), "matroska"),
    **{".wma": "asf", ".caf": "caf"},
}
"""FFmpeg's name of the container format, by file suffix."""

_BY_SNDFILE = (".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".aiff", ".aif")
"""Suffixes that libsndfile tries first; FFmpeg reads the others."""

_BLOCK_SECONDS = 1.0

_SNDFILE_ONLY = (".wav", ".aiff", ".aif")
"""Suffixes for which FFmpeg is no help if libsndfile fails."""


TRUNCATED = "it is truncated: the file is damaged or was not copied completely"


@dataclass(frozen=True)
class Decoded:
    """The beginning of an audio file."""

    channels: NDArray[np.float32]
    """Shape (channels, n)."""

    rate: int
    truncated: bool
    """True if the file is longer than what was decoded."""


def decode(content: bytes, suffix: str, seconds: float = MAX_CLIP_SECONDS) -> Decoded:
    """Decodes at most `seconds` of an audio file.

    Args:
        content: the whole file.
        suffix: of its name, one of `files.SUFFIXES`; selects the decoder, the content may be of another format.

    Raises:
        ClipError: it is not an audio file, or not safe to decode; the message says why.
    """
    import soundfile

    if not content:
        raise ClipError("it is empty", unfinished=True)
    if suffix in _BY_SNDFILE:
        try:
            return _by_sndfile(with_length(content), seconds)
        except soundfile.LibsndfileError as error:
            if suffix in _SNDFILE_ONLY:
                kind = "a WAV file" if suffix == ".wav" else "WAV or FLAC"
                raise ClipError(f"it cannot be decoded ({_reason(error)}); use {kind}", unfinished=True) from error
    return _by_ffmpeg(content, suffix, seconds)


def is_complete(content: bytes) -> bool:
    """Returns False if the end of the file is missing. True if the format cannot tell (MP3, WebM)."""
    if content[:4] == b"RIFF" and content[8:12] == b"WAVE":
        size = int.from_bytes(content[4:8], "little")
        return size == 0 or size >= MIN_UNKNOWN_LENGTH or size + 8 <= len(content) + 1
    if content[:4] == b"FORM" and content[8:12] in (b"AIFF", b"AIFC"):
        return int.from_bytes(content[4:8], "big") + 8 <= len(content) + 1
    if content[:4] == b"OggS":
        return _has_last_page(content)
    if content[4:8] == b"ftyp":
        return _has_all_boxes(content)
    return True


def _has_last_page(content: bytes) -> bool:
    """Returns True if an Ogg file (RFC 3533, 6) has a complete page that is marked as the last."""
    page = content[content.rfind(b"OggS") :]
    segments = page[26] if len(page) > 26 else 0
    return bool(segments and page[5] & 4) and len(page) >= 27 + segments + sum(page[27 : 27 + segments])


def _has_all_boxes(content: bytes) -> bool:
    """Returns True if every box (ISO 14496-12, 4.2) of an MPEG-4 file is complete, and one of them is the index."""
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
            raise ClipError(f"it is a {file.format} file; use {FORMATS}")
        _check(file.samplerate, file.channels, file.frames / file.samplerate if file.samplerate > 0 else 0.0)
        blocks = _sndfile_blocks(file, round(seconds * file.samplerate) + 1)
        decoded = _collect(blocks, file.samplerate, seconds)
        # For an MP3, libsndfile only estimates the length.
        missing = file.frames - decoded.channels.shape[1]
        if not decoded.truncated and file.format != "MP3" and missing > 0.1 * file.samplerate:
            raise ClipError(TRUNCATED, unfinished=True)
        return decoded


def _sndfile_blocks(file: Any, remaining: int) -> Iterator[NDArray[np.float32]]:
    block = round(_BLOCK_SECONDS * file.samplerate)
    while remaining > 0:
        # Not file.blocks(): it allocates for the length that the header claims.
        samples = file.read(min(block, remaining), dtype="float32", always_2d=True)
        if not len(samples):
            return
        remaining -= len(samples)
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
                raise ClipError("it contains no audio; use an audio file")
            codec = stream.codec_context
            if not codec.sample_rate:  # a stream that was announced, but has no data
                raise ClipError(f"it cannot be decoded ({suffix[1:]} data expected); use an audio file")
            declared = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else 0.0
            declared = max(declared, (container.duration or 0) / av.time_base)  # WebM states only this
            _check(codec.sample_rate, codec.channels, declared)
            return _collect(_ffmpeg_blocks(container, stream), codec.sample_rate, seconds)
    except av.error.FFmpegError as error:
        raise ClipError(f"it cannot be decoded ({_reason(error)}); use {FORMATS}", unfinished=True) from error


def _ffmpeg_blocks(container: Any, stream: Any) -> Iterator[NDArray[np.float32]]:
    import av

    resampler: Any = av.AudioResampler(format="fltp", rate=stream.codec_context.sample_rate)  # fltp: floats, by channel
    for frame in container.decode(stream):
        for converted in resampler.resample(frame):
            yield converted.to_ndarray()
    for converted in resampler.resample(None):
        yield converted.to_ndarray()


def _collect(blocks: Iterator[NDArray[np.float32]], rate: int, seconds: float) -> Decoded:
    """Joins blocks of shape (channels, n) up to `seconds`, and requests no more blocks. Raises ClipError if empty."""
    max_length = round(seconds * rate)
    collected: list[NDArray[np.float32]] = []
    length = 0
    for block in blocks:
        max_length = min(max_length, MAX_CLIP_SAMPLES // len(block))
        collected.append(block)
        length += block.shape[1]
        if length > max_length:
            break
    if not length:
        raise ClipError("it contains no audio", unfinished=True)
    samples = np.concatenate(collected, axis=1)
    return Decoded(samples[:, :max_length], rate, truncated=length > max_length)


def _check(rate: int, channels: int, seconds: float) -> None:
    """Raises ClipError if the audio is not worth decoding, or not safe to decode."""
    if not MIN_RATE <= rate <= MAX_RATE:
        raise ClipError(f"its sample rate is {rate} Hz (allowed: {MIN_RATE} to {MAX_RATE}); use 24000 Hz or more")
    if not 1 <= channels <= MAX_CLIP_CHANNELS:
        raise ClipError(f"it has {channels} channels (allowed: 1 to {MAX_CLIP_CHANNELS}); use one or two")
    if seconds > MAX_DECLARED_SECONDS:
        raise ClipError(
            f"it lasts {seconds / 60:.0f} minutes according to its header; use an excerpt of 5 to 15 s of clear speech"
        )


def _reason(error: Exception) -> str:
    return (getattr(error, "error_string", None) or getattr(error, "strerror", None) or str(error)).strip().rstrip(".")
