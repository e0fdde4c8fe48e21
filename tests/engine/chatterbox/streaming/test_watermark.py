"""The watermark of a stream is that of the whole."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.engine.chatterbox.streaming.helpers import RATE, speak
from tests.engine.chatterbox.tiny import agreement, level
from wyoming_chatterbox.engine.base import Samples
from wyoming_chatterbox.engine.chatterbox.engine import ChatterboxEngine
from wyoming_chatterbox.engine.chatterbox.watermark import StreamingWatermark

pytestmark = pytest.mark.filterwarnings("ignore:.*sdp_kernel:FutureWarning")


def _loudness(samples: Samples) -> Samples:
    """Speech-like: words of other loudness, 25 dB apart, and pauses."""
    steps = np.repeat(np.array([1.0, 0.3, 0.06, 1.0, 0.0, 0.5]), len(samples) // 6)
    smooth = np.convolve(steps, np.hanning(1200) / np.hanning(1200).sum(), mode="same")
    return (samples[: len(smooth)] * smooth).astype(np.float32)


def _marked(watermarker: Any, samples: Samples, cuts: list[int]) -> Samples:
    streaming = StreamingWatermark(watermarker, RATE)
    pieces = np.split(samples, cuts)
    after = [samples[cut : cut + 16 * 480] for cut in [*cuts, len(samples)]]
    return np.concatenate([streaming.apply(piece, rest) for piece, rest in zip(pieces, after, strict=True)])


@pytest.mark.parametrize("pauses", [False, True])
@pytest.mark.parametrize("cuts", [[13_440, 37_440], list(range(4_800, 57_600, 4_800)), [960, 12_480]], ids=len)
def test_marking_piece_by_piece_is_marking_at_once(
    long_engine: ChatterboxEngine, monkeypatch: pytest.MonkeyPatch, cuts: list[int], pauses: bool
) -> None:
    watermarker = long_engine.chatterbox.watermarker
    with monkeypatch.context() as patched:
        patched.setattr(watermarker, "apply_watermark", lambda samples, sample_rate: samples)
        plain = speak(long_engine)
    if pauses:
        plain = _loudness(plain)
    at_once = watermarker.apply_watermark(plain, sample_rate=RATE)
    streamed = _marked(watermarker, plain, cuts)
    assert len(streamed) == len(plain)
    assert level(streamed - plain) > level(plain) - 30, "there is a mark"
    # Perth marks what is louder than a part of the loudest in its window: with pauses a piece may be marked where all
    # at once is not.
    assert agreement(streamed, at_once[: len(streamed)]) > (20 if pauses else 100)
    for cut in cuts:
        mark = streamed - plain
        usual = np.abs(np.diff(mark[cut - 480 : cut + 480])).max()
        assert abs(mark[cut] - mark[cut - 1]) <= usual, "no step at the join that its surroundings do not have"


@pytest.mark.parametrize("chunking", [{}, {"chunk_size": 12, "chunk_growth": 1.0}], ids=str)
def test_a_streams_mark_is_that_of_marking_at_once(
    long_engine: ChatterboxEngine, monkeypatch: pytest.MonkeyPatch, chunking: dict[str, Any]
) -> None:
    """Though what follows a chunk comes otherwise than it was foreseen: it was decoded without all that comes later."""
    pieces = []
    real = StreamingWatermark.apply

    def watched(self: StreamingWatermark, samples: Samples, following: Samples) -> Samples:
        pieces.append(samples.copy())
        return real(self, samples, following)

    monkeypatch.setattr(StreamingWatermark, "apply", watched)
    streamed = speak(long_engine, **chunking)
    assert len(pieces) >= 2
    at_once = long_engine.chatterbox.watermarker.apply_watermark(np.concatenate(pieces), sample_rate=RATE)
    # 87 to 93 dB; were nothing known of what follows, 59 to 71.
    assert agreement(streamed, np.clip(at_once, -1, 1)[: len(streamed)]) > 80


@pytest.mark.parametrize("length", [200, 480, 767, 768, 960])
def test_a_piece_too_short_for_the_watermarks_network_is_heard(long_engine: ChatterboxEngine, length: int) -> None:
    """One frame: speech of one token, of a clip that has a frame more than its tokens'."""
    piece = np.sin(np.arange(length) / 20).astype(np.float32)
    nothing = np.zeros(0, dtype=np.float32)
    marked = StreamingWatermark(long_engine.chatterbox.watermarker, RATE).apply(piece, nothing)
    assert len(marked) == length
    assert agreement(marked, piece) > 10, "marked, and not changed otherwise"


def test_the_watermark_is_found_in_a_stream(long_engine: ChatterboxEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    watermarker = long_engine.chatterbox.watermarker
    for chunk_size in (12, 500):
        marked = speak(long_engine, chunk_size=chunk_size)
        assert watermarker.get_watermark(marked, sample_rate=RATE, round=False) > 0.99
    monkeypatch.setattr(watermarker, "apply_watermark", lambda samples, sample_rate: samples)
    assert watermarker.get_watermark(speak(long_engine), sample_rate=RATE, round=False) < 0.01
