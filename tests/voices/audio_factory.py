"""Audio files for tests of voices."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

RATE = 24_000


def sound(seconds: float = 6.0, pitch: float = 120.0, rate: int = RATE, level: float = 0.3) -> Any:
    """Something with the looks of speech, shape (n,): no silence at its ends."""
    time = np.arange(round(seconds * rate)) / rate
    samples = sum(np.sin(2 * np.pi * pitch * harmonic * time) / harmonic for harmonic in range(1, 12))
    samples = samples * (0.6 + 0.4 * np.sin(2 * np.pi * 3 * time))
    return (samples / np.abs(samples).max() * level).astype(np.float32)


def audio(samples: Any = None, rate: int = RATE, format: str = "WAV", subtype: str | None = None) -> bytes:
    """The content of an audio file; `samples` of shape (n,) or (n, channels)."""
    file = io.BytesIO()
    soundfile.write(file, sound(rate=rate) if samples is None else samples, rate, format=format, subtype=subtype)
    return file.getvalue()


def write(path: Path, samples: Any = None, rate: int = RATE, **options: Any) -> Path:
    """An audio file of the format that its name says."""
    formats = {".wav": ("WAV", None), ".flac": ("FLAC", None), ".mp3": ("MP3", None)}
    formats |= {".ogg": ("OGG", "VORBIS"), ".oga": ("OGG", "VORBIS"), ".opus": ("OGG", "OPUS")}
    formats |= {".aiff": ("AIFF", None), ".aif": ("AIFF", None)}
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix in BY_AV:
        path.write_bytes(by_av(sound(rate=rate) if samples is None else samples, rate, *BY_AV[path.suffix]))
    else:
        format, subtype = formats[path.suffix]
        path.write_bytes(audio(samples, rate, format, options.get("subtype", subtype)))
    return path


BY_AV = {
    **dict.fromkeys((".m4a", ".m4b"), ("ipod", "aac")),
    **{".mp4": ("mp4", "aac"), ".mov": ("mov", "aac"), ".3gp": ("3gp", "aac"), ".aac": ("adts", "aac")},
    **{".webm": ("webm", "libopus"), ".mka": ("matroska", "aac"), ".mkv": ("matroska", "aac")},
    **{".wma": ("asf", "wmav2"), ".caf": ("caf", "pcm_s16le")},
}
"""FFmpeg's container and encoder, by the suffix of the file."""


def m4a(samples: Any, rate: int = RATE) -> bytes:
    """AAC in an MPEG-4 container, mono."""
    return by_av(samples, rate, "ipod", "aac")


def by_av(samples: Any, rate: int, format: str, codec: str) -> bytes:
    """A file that FFmpeg writes, mono."""
    import av

    file = io.BytesIO()
    with av.open(file, "w", format=format) as container:
        stream = container.add_stream(codec, rate=rate, layout="mono")
        stream.bit_rate = 64_000
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[None]), format="fltp", layout="mono")
        frame.sample_rate = rate
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    return file.getvalue()
