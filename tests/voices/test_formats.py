"""What people have on their telephones and disks is read, or named."""

from __future__ import annotations

import io
import logging
import sys
import wave
from pathlib import Path

import numpy as np
import pytest

from tests.voices.audio_factory import BY_AV, RATE, audio, m4a, sound, write
from wyoming_chatterbox.engine.registry import create_library
from wyoming_chatterbox.voices import clips
from wyoming_chatterbox.voices.audio_files import _CONTAINERS, decode, is_complete
from wyoming_chatterbox.voices.errors import ClipError
from wyoming_chatterbox.voices.files import SUFFIXES


@pytest.mark.parametrize("suffix", [".oga", ".aiff", ".aif", *BY_AV])
def test_a_recording_in_any_usual_format_is_a_voice(tmp_path: Path, suffix: str) -> None:
    if suffix in BY_AV:
        pytest.importorskip("av")
    rate = 48_000 if suffix == ".webm" else RATE  # Opus knows no other
    path = write(tmp_path / f"anna{suffix}", sound(6, rate=rate), rate)
    library = create_library((tmp_path,))
    library.scan(patient=False)
    assert [voice.name for voice in library.voices] == ["anna"] and not library.problems
    samples, _ = clips.load_reference([path])
    assert len(samples) == pytest.approx(6 * RATE, abs=0.15 * RATE)
    spectra = [np.abs(np.fft.rfft(signal[RATE : 2 * RATE])) for signal in (samples, sound(6))]
    assert np.corrcoef(*spectra)[0, 1] > 0.9


def test_every_suffix_has_a_container() -> None:
    assert set(_CONTAINERS) == set(SUFFIXES)


@pytest.mark.parametrize("suffix", [".webm", ".aac", ".mp4", ".wma", ".amr", ".aiff", ".oga", ".caf", ".mka"])
def test_a_playlist_of_other_files_is_no_recording_whatever_it_is_called(tmp_path: Path, suffix: str) -> None:
    pytest.importorskip("av")
    secret = write(tmp_path / "secret.wav")
    for content in (f"#EXTM3U\n#EXTINF:1,\n{secret}".encode(), f"ffconcat version 1.0\nfile {secret}".encode()):
        with pytest.raises(ClipError, match="it cannot be decoded"):
            decode(content * 20, suffix)


@pytest.mark.parametrize("suffix", [".webm", ".mp4", ".aac", ".wma"])
def test_without_av_the_file_and_the_remedy_are_named(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    (tmp_path / f"anna{suffix}").write_bytes(b"whatever")
    library = create_library((tmp_path,))
    library.scan(patient=False)
    (problem,) = library.problems
    assert problem.fatal and str(problem).startswith(f"anna{suffix}: {suffix[1:].upper()} files need the package av")
    assert "or convert it to WAV" in problem.message


def test_a_file_that_is_not_read_is_named_once_and_notes_are_left_in_peace(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("anna.ape", "ben", "cleo/1.mid", "dora/x/2.dsf", "notes.txt", "cover.jpg", "fred.wav.part"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"RIFF")
    write(tmp_path / "eve.wav")
    library = create_library((tmp_path,))
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            library.scan(patient=False)
    assert [voice.name for voice in library.voices] == ["eve"]
    assert [problem.file for problem in library.problems] == ["anna.ape", "ben", "cleo/1.mid", "dora/x/2.dsf"]
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 4 and "anna.ape: .ape files are not supported as a voice; use WAV, FLAC, MP3" in lines[0]
    assert "ben: a file without a suffix is not supported as a voice" in lines[1]


def streamed(data_size: int, riff_size: int, *, behind: bytes = b"", before: bytes = b"") -> bytes:
    """A WAV whose header was written before its samples were there, 6 s."""
    content = audio(sound(6))
    at = content.index(b"data")
    head = content[:4] + riff_size.to_bytes(4, "little") + content[8:at] + before
    return head + b"data" + data_size.to_bytes(4, "little") + content[at + 8 :] + behind


@pytest.mark.parametrize(
    ("data_size", "riff_size"),
    [
        (0, 0),  # GStreamer into a pipe
        (0, 36),  # Python's wave, arecord: interrupted
        (0xFFFFFFFF, 0xFFFFFFFF),  # FFmpeg into a pipe, this server's own HTTP answers
        (0x7FFFF000, 0x7FFFF024),  # sox into a pipe
        (0x80000000, 0x80000024),  # arecord into a pipe
    ],
)
@pytest.mark.parametrize("before", [b"", b"LIST\x04\x00\x00\x00INFO"])
def test_a_wav_that_does_not_say_how_long_it_is_is_read_to_its_end(
    tmp_path: Path, data_size: int, riff_size: int, before: bytes
) -> None:
    content = streamed(data_size, riff_size, before=before)
    assert is_complete(content)
    decoded = decode(content, ".wav")
    assert np.array_equal(decoded.channels, decode(audio(sound(6)), ".wav").channels)
    library = create_library((tmp_path / "voices",))
    voice, warnings = library.add("anna", content)
    assert library.seconds_of(voice) == 6.0 and not warnings


def test_a_wav_that_really_is_empty_stays_empty() -> None:
    file = io.BytesIO()
    with wave.open(file, "wb") as empty:
        empty.setparams((1, 2, RATE, 0, "NONE", ""))
    for behind in (b"", b"LIST\x04\x00\x00\x00INFO"):
        with pytest.raises(ClipError, match="it contains no audio"):
            decode(file.getvalue() + behind, ".wav")


def test_a_header_full_of_chunks_or_cut_off_ends_the_search() -> None:
    head = audio()[:36]
    for content in (head + b"JUNK\x00\x00\x00\x00" * 100_000, head, head + b"data", head + b"JUNK\xff\xff\xff\xff"):
        with pytest.raises(ClipError):
            decode(content, ".wav")


def test_a_long_film_is_not_decoded() -> None:
    """What WebM says of its length is said of the container, not of the stream."""
    pytest.importorskip("av")
    from tests.voices.audio_factory import by_av

    content = by_av(sound(1, rate=48_000), 48_000, "matroska", "aac")
    at = content.index(b"\x44\x89\x88") + 3  # EBML: Duration, a double of milliseconds
    long = content[:at] + np.array(3_600_000.0, ">f8").tobytes() + content[at + 8 :]
    with pytest.raises(ClipError, match="it lasts 60 minutes according to its header"):
        decode(long, ".mka")
    assert decode(m4a(sound(2)), ".mp4").rate == RATE
