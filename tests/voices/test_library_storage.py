"""Voices are added to the folder and removed from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.voices.audio_factory import audio, sound, write
from tests.voices.libraries import library_of, names
from wyoming_chatterbox.engine.registry import create_library
from wyoming_chatterbox.voices.errors import VoiceError


def test_what_is_added_is_there_at_once_with_its_manner(tmp_path: Path) -> None:
    folder = tmp_path / "voices"
    library = library_of(folder)
    voice, warnings = library.add("Anna", audio(sound(3)), config="exaggeration: 0.9\n")
    assert (voice.name, voice.settings) == ("Anna", {"exaggeration": 0.9}) and library.voices == (voice,)
    assert warnings == ("it has only 3.0 s of audio; 5 to 15 s give a better voice",)
    library.add("ben", write(tmp_path / "x.flac"))
    assert sorted(path.name for path in folder.iterdir()) == ["Anna.wav", "Anna.yaml", "ben.flac"]
    replaced, _ = library.add("anna", audio(sound(6), format="FLAC"), ".flac", replace=True)
    assert sorted(path.name for path in folder.iterdir()) == ["anna.flac", "ben.flac"]
    assert replaced.fingerprint != voice.fingerprint and not replaced.settings


@pytest.mark.parametrize(
    ("name", "content", "suffix", "manner", "message"),
    [
        ("anna", audio(), ".wav", "", "a voice 'anna' already exists; remove it first"),
        ("../up", audio(), ".wav", "", "begins with a dot"),
        ("a/b", audio(), ".wav", "", "cannot contain '/'"),
        ("a\\b", audio(), ".wav", "", r"cannot contain '\\'"),
        ("a\0b", audio(), ".wav", "", "cannot contain U+0000"),
        ("", audio(), ".wav", "", "is empty"),
        (" x", audio(), ".wav", "", "begins or ends with a space"),
        ("x?seed=1", audio(), ".wav", "", "cannot contain '?'"),
        ("x" * 101, audio(), ".wav", "", "at most 100 characters"),
        ("Embedded", audio(), ".wav", "", "is reserved for the built-in voice"),
        ("ben", audio(), ".exe", "", ".exe is not a supported audio format (allowed: .wav, .flac"),
        ("ben", audio(), ".pt", "", ".pt is not a supported audio format"),
        ("ben", audio(), "/../x.wav", "", "/../x.wav is not a supported audio format"),
        ("ben", b"\x80\x04pickle", ".wav", "", "it cannot be decoded"),
        ("ben", audio()[:90_000], ".wav", "", "it is truncated"),
        ("ben", audio(0 * sound()), ".wav", "", "it is silent"),
        ("ben", audio(), ".wav", "exaggeration: 5", "exaggeration: 5 is out of range (allowed: 0 to 2)"),
    ],
)
def test_what_cannot_be_added_leaves_nothing_behind(
    tmp_path: Path, name: str, content: bytes, suffix: str, manner: str, message: str
) -> None:
    write(tmp_path / "voices" / "anna.wav")
    library = library_of(tmp_path / "voices")
    with pytest.raises(VoiceError) as refused:
        library.add(name, content, suffix, config=manner)
    assert message in str(refused.value)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["anna.wav", "voices"]


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    library = library_of(tmp_path / "file" / "voices")
    with pytest.raises(VoiceError, match=r"anna\.wav cannot be written to .*voices: Not a directory"):
        library.add("anna", audio())
    library.open()


def test_what_is_removed_is_gone_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "voices"
    write(folder / "anna.wav")
    (folder / "anna.yaml").write_text("seed: 1")
    write(folder / "fam/mum/1.wav")
    write(folder / "fam/dad/1.wav")
    (folder / "fam" / "notes.txt").write_text("mine")
    target = write(tmp_path / "voices" / ".kept" / "linked.wav")
    (folder / "linked.wav").symlink_to(target)
    library = library_of(folder)
    assert names(library) == ["anna", "fam/dad", "fam/mum", "linked"]
    assert {path.name for path in library.remove("ANNA")} == {"anna.wav", "anna.yaml"}
    library.remove("fam")
    library.remove("linked")
    assert not library.voices and target.exists()
    assert [path.name for path in sorted((folder / "fam").rglob("*"))] == ["notes.txt"]
    with pytest.raises(VoiceError, match="there is no voice 'anna' in"):
        library.remove("anna")
    with pytest.raises(VoiceError, match=r"there is no voice '\.\./outside'"):
        library.remove("../outside")


def test_a_reference_clip_is_not_removed(tmp_path: Path) -> None:
    clip = write(tmp_path / "anna.wav")
    library = create_library((tmp_path / "voices",), clip)
    library.scan(patient=False)
    with pytest.raises(VoiceError, match=r"is the --reference-clip .*, which is never deleted"):
        library.remove("anna")
    with pytest.raises(VoiceError, match="which is never replaced"):
        library.add("anna", audio(), replace=True)
    assert clip.exists()
