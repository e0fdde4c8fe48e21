"""PCM on its way to a client: tempo, and the containers that are written while they grow.

Encoders and the tempo filter are FFmpeg's, through PyAV. An encoder is used by one thread at a time; `encode` may take
some milliseconds per second of audio and is called away from the event loop where `blocking` says so.
"""

from __future__ import annotations

import itertools
import struct
from dataclasses import dataclass
from typing import Any, Protocol

import av  # here, not with the first mp3: loading FFmpeg would stop the event loop for 0.1 s
import av.filter
import numpy as np

from ..audio import CHANNELS, SAMPLE_WIDTH

MEDIA_TYPES = {
    "wav": "audio/wav",
    "pcm": "audio/pcm",
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
    "flac": "audio/flac",
    "aac": "audio/aac",
}

SILENCE_SECONDS = 0.1
"""What a text without anything to speak becomes: clients take a file without a frame for broken, or keep it. Two frames
of AAC at 24 kHz, whose frames are the longest, and too short to be noticed."""

UNKNOWN_LENGTH = 0xFFFFFFFF
"""In a WAV header whose file is still growing; players read to the end then."""


class Encoder(Protocol):
    """Turns PCM16 into a stream of bytes."""

    blocking: bool

    def encode(self, pcm: bytes) -> bytes:
        """Returns the bytes that are complete with this piece; may be none."""

    def finish(self) -> bytes:
        """Returns the rest. The encoder is not used afterwards."""


class PCM:
    """16-bit little-endian mono, as it is."""

    blocking = False

    def encode(self, pcm: bytes) -> bytes:
        return pcm

    def finish(self) -> bytes:
        return b""


class WAV:
    """The same behind a header that leaves with the first piece."""

    blocking = False

    def __init__(self, rate: int) -> None:
        self._header = wav_header(rate)

    def encode(self, pcm: bytes) -> bytes:
        header, self._header = self._header, b""
        return header + pcm

    def finish(self) -> bytes:
        return self._header  # of an answer without audio


def wav_header(rate: int) -> bytes:
    """Returns the 44 bytes before the samples of a file whose length is not known yet."""
    frame = SAMPLE_WIDTH * CHANNELS
    form = struct.pack("<IHHIIHH", 16, 1, CHANNELS, rate, rate * frame, frame, SAMPLE_WIDTH * 8)
    unknown = struct.pack("<I", UNKNOWN_LENGTH)
    return b"RIFF" + unknown + b"WAVEfmt " + form + b"data" + unknown


@dataclass(frozen=True)
class _Codec:
    container: str
    codec: str
    bit_rate: int | None
    options: dict[str, str]


_CODECS = {
    # No Xing header: its place would have to be filled in at the end. 64 kbit/s are transparent for 24 kHz speech.
    "mp3": _Codec("mp3", "libmp3lame", 64_000, {"write_xing": "0", "id3v2_version": "0"}),
    # A page per packet (20 ms): Ogg's default keeps a second back.
    "opus": _Codec("ogg", "libopus", 48_000, {"page_duration": "20000"}),
    "flac": _Codec("flac", "flac", None, {}),
    "aac": _Codec("adts", "aac", 64_000, {}),
}


_TEMPO_SECONDS = 0.05
"""What atempo gets at once: it keeps back as much as it got."""


class _Sink:
    """A file that can only be written to; what was written is taken out again."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def write(self, data: bytes) -> int:
        self._bytes += data
        return len(data)

    def take(self) -> bytes:
        content = bytes(self._bytes)
        self._bytes.clear()
        return content


class Compressed:
    """mp3, opus (in Ogg), flac or aac (in ADTS)."""

    blocking = True

    def __init__(self, name: str, rate: int) -> None:
        kind = _CODECS[name]
        self._rate = rate
        self._position = 0
        self._sink = _Sink()
        container: Any = av.open(self._sink, "w", format=kind.container, options={"flush_packets": "1", **kind.options})
        self._container = container
        stream: Any = container.add_stream(kind.codec, rate=_supported_rate(kind.codec, rate))
        stream.layout = "mono"
        if kind.bit_rate:
            stream.bit_rate = kind.bit_rate
        self._stream = stream

    def encode(self, pcm: bytes) -> bytes:
        frame = _frame(pcm, self._rate, self._position)
        self._position += frame.samples
        self._mux(frame)
        return self._sink.take()

    def finish(self) -> bytes:
        if self._position:
            self._mux(None)
        self._container.close()
        return self._sink.take()

    def _mux(self, frame: Any) -> None:
        for packet in self._stream.encode(frame):
            self._container.mux(packet)


def _supported_rate(codec: str, rate: int) -> int:
    """Returns the sample rate that a codec takes without losing anything of `rate`; PyAV resamples to it."""
    offered: list[int] = sorted(av.Codec(codec, "w").audio_rates or [rate])
    return next((candidate for candidate in offered if candidate >= rate), offered[-1])


def _frame(pcm: bytes, rate: int, position: int) -> Any:
    frame = av.AudioFrame.from_ndarray(np.frombuffer(pcm, dtype="<i2").reshape(1, -1), format="s16", layout="mono")
    frame.sample_rate = rate
    frame.pts = position
    return frame


class TempoFilter:
    """Faster or slower speech at the same pitch: FFmpeg's atempo."""

    def __init__(self, speed: float, rate: int) -> None:
        self._rate = rate
        self._position = 0
        graph = av.filter.Graph()
        steps = [graph.add_abuffer(format="s16", sample_rate=rate, layout="mono", time_base=_base(rate))]
        steps += [graph.add("atempo", f"{factor:.9f}") for factor in _factors(speed)]
        steps.append(graph.add("aformat", "sample_fmts=s16:channel_layouts=mono"))
        steps.append(graph.add("abuffersink"))
        for first, second in itertools.pairwise(steps):
            first.link_to(second)
        graph.configure()
        self._graph: Any = graph

    def change(self, pcm: bytes) -> bytes:
        """PCM at the new tempo, as far as it is known; may be empty."""
        size = round(_TEMPO_SECONDS * self._rate) * SAMPLE_WIDTH
        changed = []
        for start in range(0, len(pcm), size):
            frame = _frame(pcm[start : start + size], self._rate, self._position)
            self._position += frame.samples
            self._graph.push(frame)
            changed.append(self._pull())
        return b"".join(changed)

    def finish(self) -> bytes:
        """Returns the rest."""
        if not self._position:
            return b""
        self._graph.push(None)
        return self._pull()

    def _pull(self) -> bytes:
        pieces = []
        while True:
            try:
                pieces.append(self._graph.pull().to_ndarray().astype("<i2").tobytes())
            except (av.error.BlockingIOError, av.error.EOFError):
                return b"".join(pieces)


def _base(rate: int) -> Any:
    from fractions import Fraction

    return Fraction(1, rate)


def _factors(speed: float) -> list[float]:
    """Factors from 0.5 to 2 whose product is `speed`: beyond 2 one atempo skips samples instead of blending them."""
    factors = []
    while speed > 2.0:
        factors.append(2.0)
        speed /= 2.0
    while speed < 0.5:
        factors.append(0.5)
        speed /= 0.5
    return [*factors, speed]


class TempoEncoder:
    """An encoder behind a change of tempo."""

    blocking = True

    def __init__(self, encoder: Encoder, speed: float, rate: int) -> None:
        self._encoder = encoder
        self._tempo = TempoFilter(speed, rate)

    def encode(self, pcm: bytes) -> bytes:
        changed = self._tempo.change(pcm)
        return self._encoder.encode(changed) if changed else b""

    def finish(self) -> bytes:
        rest = self._tempo.finish()
        return (self._encoder.encode(rest) if rest else b"") + self._encoder.finish()


class NonEmpty:
    """An encoder whose file can be decoded even if there was nothing to encode: it has a moment of silence then."""

    def __init__(self, encoder: Encoder, rate: int) -> None:
        self.blocking = encoder.blocking
        self._encoder = encoder
        self._silence = bytes(round(SILENCE_SECONDS * rate) * SAMPLE_WIDTH * CHANNELS)

    def encode(self, pcm: bytes) -> bytes:
        self._silence = b""
        return self._encoder.encode(pcm)

    def finish(self) -> bytes:
        silence = self._encoder.encode(self._silence) if self._silence else b""
        return silence + self._encoder.finish()


def encoder_for(name: str, rate: int, speed: float = 1.0) -> Encoder:
    """Returns an encoder by the name of its response_format.

    Args:
        rate: of the PCM that it will get.
        speed: the tempo, 0.25 to 4.
    """
    container: Encoder = PCM() if name == "pcm" else WAV(rate) if name == "wav" else Compressed(name, rate)
    encoder = NonEmpty(container, rate)
    return encoder if speed == 1.0 else TempoEncoder(encoder, speed, rate)
