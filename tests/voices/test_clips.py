"""What a model gets of a clip, and what a user is told about it."""

from __future__ import annotations

import io
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.voices.audio_factory import RATE, audio, m4a, sound, write
from wyoming_chatterbox.voices import audio_files, clips
from wyoming_chatterbox.voices.audio_files import decode, is_complete
from wyoming_chatterbox.voices.errors import ClipError


def padded(samples: Any, before: float, after: float, rate: int = RATE) -> Any:
    return np.concatenate((np.zeros(round(before * rate)), samples, np.zeros(round(after * rate)))).astype(np.float32)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mp3", "a.ogg", "a.opus", "a.m4a"])
def test_every_format_gives_the_same_sound(tmp_path: Path, name: str) -> None:
    if name == "a.m4a":
        pytest.importorskip("av")
    rate = 48_000 if name == "a.opus" else RATE
    samples, _ = clips.load_reference([write(tmp_path / name, sound(6, rate=rate), rate)])
    expected = sound(6)
    assert len(samples) == pytest.approx(len(expected), abs=0.1 * RATE)
    spectra = [np.abs(np.fft.rfft(signal[:RATE])) for signal in (samples, expected)]
    assert np.corrcoef(*spectra)[0, 1] > 0.95


@pytest.mark.parametrize("rate", [24_000, 44_100, 16_000, 48_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_clip_that_needs_nothing_is_what_upstream_would_load(tmp_path: Path, rate: int, channels: int) -> None:
    librosa = pytest.importorskip("librosa")
    mono = sound(5.5, rate=rate)
    samples = np.stack([mono, sound(5.5, 200, rate)], axis=1) if channels == 2 else mono
    path = write(tmp_path / "a.wav", samples, rate)
    expected, _ = librosa.load(path, sr=24_000)
    prepared, _ = clips.load_reference([path])
    assert prepared.dtype == np.float32 and np.array_equal(prepared, expected)


def test_silence_at_the_ends_goes_and_a_breath_of_it_stays(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", padded(sound(6), 2.0, 3.0))
    samples, _ = clips.load_reference([path])
    assert len(samples) / RATE == pytest.approx(6.2, abs=0.02)
    assert clips.inspect(path.read_bytes(), ".wav").warnings == ("4.8 s of silence at its ends were trimmed",)
    short = write(tmp_path / "b.wav", padded(sound(6), 0.15, 0.13))
    assert len(clips.load_reference([short])[0]) == round(6.28 * RATE), "a little is nobody's harm"


def test_several_clips_are_one_voice_each_as_loud_as_the_first(tmp_path: Path) -> None:
    first = write(tmp_path / "1.wav", sound(3, level=0.3), subtype="FLOAT")
    second = write(tmp_path / "2.wav", sound(2, pitch=200, level=0.1), subtype="FLOAT")
    samples, fingerprint = clips.load_reference([first, second])
    assert len(samples) / RATE == pytest.approx(5.2)
    assert np.array_equal(samples[: 3 * RATE], sound(3, level=0.3))
    assert not samples[3 * RATE : round(3.2 * RATE)].any()
    powers = [float(np.mean(part**2)) for part in (samples[: 3 * RATE], samples[-2 * RATE :])]
    assert powers[1] == pytest.approx(powers[0], rel=0.02)
    prints = [clips.inspect(path.read_bytes(), ".wav").fingerprint for path in (first, second)]
    assert fingerprint == clips.fingerprint(prints) != clips.fingerprint(prints[::-1])


def test_no_more_than_a_minute_is_used(tmp_path: Path) -> None:
    path = write(tmp_path / "a.flac", sound(100))
    samples, _ = clips.load_reference([path, path, write(tmp_path / "b.wav")])
    assert len(samples) == 60 * RATE
    assert "only the first 60 s are used" in clips.inspect(path.read_bytes(), ".flac").warnings[0]


@pytest.mark.parametrize(
    ("samples", "rate", "warning"),
    [
        (np.clip(sound(6, level=3.0), -1, 1), RATE, "it is clipped"),
        (sound(6, level=0.01), RATE, "it is very quiet"),
        (sound(6, rate=11_025), 11_025, "its sample rate is only 11025 Hz; the voice will sound like a phone call"),
        (np.stack([sound(6), 0 * sound(6)], axis=1), RATE, "only channel 1 of 2 has audio"),
        (np.stack([sound(6), -sound(6)], axis=1), RATE, "its channels cancel each other out"),
    ],
)
def test_what_will_be_heard_is_said(samples: Any, rate: int, warning: str) -> None:
    warnings = clips.inspect(audio(samples, rate), ".wav").warnings
    assert len(warnings) == 1 and warning in warnings[0]


def test_few_seconds_are_said_of_all_clips_together() -> None:
    assert clips.too_short_warning(3.04) == ("it has only 3.0 s of audio; 5 to 15 s give a better voice",)
    assert clips.too_short_warning(5.0) == ()


def test_a_good_clip_gets_no_warning() -> None:
    assert clips.inspect(audio(), ".wav").warnings == ()


def test_a_channel_that_is_alone_or_inverted_is_as_loud_as_it_was() -> None:
    for other in (0 * sound(6), -sound(6)):
        stereo = audio(np.stack([sound(6), other], axis=1), subtype="FLOAT")
        samples, _ = clips._decode_mono(stereo, ".wav", 60)
        assert np.array_equal(samples, sound(6))


def test_samples_far_beyond_full_scale_are_made_smaller() -> None:
    content = audio(sound(6) * 30_000, subtype="FLOAT")
    assert "times full scale; they are scaled down" in clips.inspect(content, ".wav").warnings[0]
    assert np.abs(clips._decode_mono(content, ".wav", 60)[0]).max() == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (sound(0.5), "it has only 0.5 s of audio; use 5 to 15 s of clear speech"),
        (0 * sound(6), "it is silent"),
        (padded(sound(0.4), 3, 3), "it has only 0.6 s of audio"),
        (sound(6) * np.nan, "it contains samples that are not numbers"),
        (sound(6) * np.inf, "it contains samples that are not numbers"),
    ],
)
def test_what_holds_no_voice_is_refused(samples: Any, message: str) -> None:
    with pytest.raises(ClipError, match=message):
        clips.inspect(audio(samples, subtype="FLOAT"), ".wav")


def test_a_rate_or_channels_that_nobody_has_are_refused() -> None:
    with pytest.raises(ClipError, match=r"its sample rate is 4000 Hz \(allowed: 8000 to 192000\)"):
        decode(audio(sound(6, rate=4000), 4000), ".wav")
    with pytest.raises(ClipError, match=r"it has 16 channels \(allowed: 1 to 8\)"):
        decode(audio(np.tile(sound(2)[:, None], 16)), ".wav")


def test_hours_in_a_small_file_are_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour of silence takes 90 kB as FLAC, and 350 MB as samples."""
    bomb = audio(np.zeros(3600 * 8000, dtype=np.int16), 8000, "FLAC")
    assert len(bomb) < 200_000
    monkeypatch.setattr(audio_files, "_sndfile_blocks", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(
        ClipError, match="it lasts 60 minutes according to its header; use an excerpt of 5 to 15 s of clear speech"
    ):
        decode(bomb, ".flac")


def test_sound_without_end_is_decoded_for_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("av")
    yielded = []

    def endless(*_: object) -> Any:
        while True:
            yielded.append(1)
            assert len(yielded) < 100
            yield np.zeros((1, RATE), dtype=np.float32)

    content = m4a(sound(2))
    monkeypatch.setattr(audio_files, "_ffmpeg_blocks", endless)
    decoded = decode(content, ".m4a")
    assert decoded.truncated and decoded.channels.shape == (1, 60 * RATE) and len(yielded) == 61


def test_a_header_that_lies_about_its_length_makes_no_memory() -> None:
    """25 minutes announced, a second there."""
    content = bytearray(audio(sound(1), format="FLAC"))
    # STREAMINFO: 36 bits of the number of samples end at byte 26 of the file.
    content[21:26] = bytes([content[21] & 0xF0]) + (25 * 60 * RATE).to_bytes(4, "big")
    tracemalloc.start()
    try:
        assert decode(bytes(content), ".flac").channels.shape == (1, RATE)
        assert tracemalloc.get_traced_memory()[1] < 10e6
    finally:
        tracemalloc.stop()


def test_an_mp4_that_is_no_audio_or_a_playlist_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("av")
    secret = write(tmp_path / "secret.wav")
    for content in (b"#EXTM3U\n#EXTINF:1,\n" + str(secret).encode(), f"ffconcat version 1.0\nfile {secret}".encode()):
        for suffix in (".m4a", ".mp3", ".ogg", ".flac"):
            with pytest.raises(ClipError, match="it cannot be decoded"):
                decode(content, suffix)


@pytest.mark.parametrize("format", ["AU", "W64"])
def test_formats_that_nobody_records_in_are_not_tried(format: str) -> None:
    with pytest.raises(ClipError, match=f"it is a {format} file"):
        decode(audio(format=format), ".wav")


@pytest.mark.parametrize("name", ["a.wav", "a.ogg", "a.m4a"])
def test_a_file_that_is_cut_is_not_whole(tmp_path: Path, name: str) -> None:
    if name == "a.m4a":
        pytest.importorskip("av")
    content = write(tmp_path / name).read_bytes()
    assert is_complete(content)
    for share in (0.1, 0.5, 0.9, 0.99):
        assert not is_complete(content[: int(len(content) * share)])


def test_a_flac_that_is_cut_is_told_by_its_samples() -> None:
    content = audio(format="FLAC")
    for share in (0.3, 0.7, 0.95):
        with pytest.raises(ClipError) as refused:
            decode(content[: int(len(content) * share)], ".flac")
        assert refused.value.unfinished


def test_without_av_an_m4a_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("av")
    content = m4a(sound(2))
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(
        ClipError, match=r"M4A files need the package av, .*; run (script/setup --http|pip install av), or convert it"
    ):
        decode(content, ".m4a")


def test_an_empty_file_may_still_be_written() -> None:
    for content in (b"", io.BytesIO().getvalue(), audio()[:44]):
        with pytest.raises(ClipError) as refused:
            clips.inspect(content, ".wav")
        assert refused.value.unfinished
