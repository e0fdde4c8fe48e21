"""Files that are written, change and go while the library is in use."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from tests.voices.audio_factory import audio, sound, write
from tests.voices.libraries import library_of, names, problems
from wyoming_chatterbox.voices import inspection
from wyoming_chatterbox.voices.library import VoiceLibrary


class Clock:
    """A clock that moves only when a test moves it."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def timed_library(folder: Path, clock: Clock) -> VoiceLibrary:
    """Returns the scanned library of a folder, on a test's clock."""
    library = VoiceLibrary((folder,), models={"original": ("en",)}, clock=clock)
    library.scan(patient=False)
    return library


def test_a_file_counts_when_it_has_been_left_alone(tmp_path: Path) -> None:
    clock = Clock()
    library = timed_library(tmp_path, clock)
    content = audio()
    path = tmp_path / "anna.wav"
    path.write_bytes(content[:50_000])
    assert library.scan().rescan_after is not None and not library.voices
    clock.seconds += 1.0
    assert library.scan().rescan_after is not None and not library.voices, "it is quiet, and not whole"
    path.write_bytes(content)
    assert library.scan().rescan_after is not None
    clock.seconds += inspection.SETTLE_SECONDS + 0.01
    scan = library.scan()
    assert scan.changed and scan.rescan_after is None and names(library) == ["anna"] and not library.problems
    assert not library.scan().changed


def test_a_voice_stays_what_it_was_while_its_file_is_replaced(tmp_path: Path) -> None:
    clock = Clock()
    path = write(tmp_path / "anna.wav")
    library = timed_library(tmp_path, clock)
    (before,) = library.voices
    new = audio(sound(pitch=200))
    path.write_bytes(new[:70_000])
    for _ in range(3):
        clock.seconds += 1.0
        assert not library.scan().changed and library.voices == (before,)
    clock.seconds += inspection.INCOMPLETE_TIMEOUT
    library.scan()
    assert any("it is truncated" in problem for problem in problems(library)), "nobody goes on writing it"
    path.write_bytes(new)
    library.scan()
    clock.seconds += 1.0
    assert library.scan().changed and not library.problems
    assert library.voices[0].fingerprint != before.fingerprint


def test_a_file_that_stays_broken_is_said_after_a_while(tmp_path: Path) -> None:
    clock = Clock()
    library = timed_library(tmp_path, clock)
    (tmp_path / "anna.wav").write_bytes(b"no audio")
    library.scan()
    clock.seconds += 2
    assert library.scan().rescan_after and not library.problems
    clock.seconds += inspection.INCOMPLETE_TIMEOUT
    assert library.scan().rescan_after is None
    assert problems(library) == ["anna.wav: it cannot be decoded (Format not recognised); use a WAV file"]


def test_only_what_changed_is_opened_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.wav", "b.wav", "c.wav"):
        write(tmp_path / name)
    library = library_of(tmp_path)
    opened = []
    real = inspection.read_file
    monkeypatch.setattr(inspection, "read_file", lambda path, *rest: opened.append(path.name) or real(path, *rest))
    library.scan(patient=False)
    assert opened == []
    write(tmp_path / "b.wav", sound(pitch=99))
    (tmp_path / "a.yaml").write_text("seed: 3")
    (tmp_path / "c.wav").unlink()
    library.scan(patient=False)
    assert opened == ["a.yaml", "b.wav"] and names(library) == ["a", "b"]


def test_whoever_wants_to_know_is_told_of_changes_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    library = library_of(tmp_path)
    told: list[int] = []
    library.on_change.append(lambda: told.append(len(library.voices)))
    write(tmp_path / "anna.wav")
    library.scan(patient=False)
    library.scan(patient=False)
    os.utime(tmp_path / "anna.wav")
    library.scan(patient=False)
    (tmp_path / "anna.wav").unlink()
    library.scan(patient=False)
    assert told == [1, 0]
    assert caplog.messages == ["Voices added: anna", "Voices removed: anna"]
