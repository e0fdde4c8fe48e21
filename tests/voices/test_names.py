"""Two spellings of one name are one name, and a name can be read as it is spelled."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from tests.voices.audio_factory import audio, sound, write
from wyoming_chatterbox.engine.registry import create_library
from wyoming_chatterbox.voices.errors import VoiceError
from wyoming_chatterbox.voices.names import check_name, name_key
from wyoming_chatterbox.voices.selection import UnknownVoice, find_voice

COMPOSED, DECOMPOSED = "Zo\u00eb", "Zoe\u0308"


@pytest.mark.parametrize(("on_disk", "asked"), [(COMPOSED, DECOMPOSED), (DECOMPOSED, COMPOSED)])
def test_a_voice_is_found_settled_replaced_and_deleted_in_either_form(tmp_path: Path, on_disk: str, asked: str) -> None:
    write(tmp_path / f"{on_disk}.wav")
    (tmp_path / f"{asked}.yaml").write_text("title: warm\n")
    library = create_library((tmp_path,))
    library.scan(patient=False)
    (voice,) = library.voices
    assert voice.name == COMPOSED and voice.description == "warm" and not library.problems
    for name in (COMPOSED, DECOMPOSED, asked.upper()):
        assert find_voice(library.voices, name=name) is voice
        with pytest.raises(VoiceError, match="already"):
            library.add(name, audio())
    library.add(asked, audio(sound(pitch=150)), replace=True)
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".wav"] == [f"{COMPOSED}.wav"]
    library.remove(asked)
    assert not library.voices and not list(tmp_path.iterdir())


def test_speakers_and_aliases_are_found_in_either_form(tmp_path: Path) -> None:
    write(tmp_path / "family" / DECOMPOSED / "1.wav")
    write(tmp_path / "ben.wav")
    (tmp_path / "ben.yaml").write_text(f'aliases: "{DECOMPOSED}"\n')
    library = create_library((tmp_path,))
    library.scan(patient=False)
    assert find_voice(library.voices, name="family", speaker=COMPOSED).base == "family"
    assert find_voice(library.voices, name=COMPOSED).name == "ben"
    with pytest.raises(UnknownVoice, match=f"similar names: {COMPOSED}"):
        find_voice(library.voices, name="Zoee\u0308")


def test_two_files_whose_names_are_one_are_one_voice_and_the_other_is_named(tmp_path: Path) -> None:
    write(tmp_path / f"{COMPOSED}.wav")
    write(tmp_path / f"{DECOMPOSED}.wav")
    if len(list(tmp_path.iterdir())) == 1:
        pytest.skip("this file system composes names")
    library = create_library((tmp_path,))
    library.scan(patient=False)
    assert [voice.name for voice in library.voices] == [COMPOSED]
    assert "a voice with this name already exists" in str(library.problems[0])


@pytest.mark.parametrize(
    ("character", "described"),
    [
        ("\u200b", "U+200B (ZERO WIDTH SPACE)"),
        ("\u200f", "U+200F (RIGHT-TO-LEFT MARK)"),
        ("\u202e", "U+202E (RIGHT-TO-LEFT OVERRIDE)"),
        ("\u2066", "U+2066 (LEFT-TO-RIGHT ISOLATE)"),
        ("\ufeff", "U+FEFF (ZERO WIDTH NO-BREAK SPACE)"),
        ("\u00ad", "U+00AD (SOFT HYPHEN)"),
        ("\u3164", "U+3164 (HANGUL FILLER)"),
        ("\ufe0f", "U+FE0F (VARIATION SELECTOR-16)"),
        ("\u2800", "U+2800 (BRAILLE PATTERN BLANK)"),
        ("\U000e0041", "U+E0041 (TAG LATIN CAPITAL LETTER A)"),
        ("\ue000", "U+E000"),
        ("\x07", "U+0007"),
        ("\u2028", "U+2028 (LINE SEPARATOR)"),
    ],
)
def test_a_character_that_cannot_be_seen_is_refused_by_its_code_point(
    tmp_path: Path, character: str, described: str
) -> None:
    expected = f"a voice's name cannot contain {described}, which cannot be seen; rename it"
    for name in (f"an{character}na", f"anna{character}b"):
        with pytest.raises(VoiceError) as refused:
            check_name(name)
        assert str(refused.value) == expected and expected.isprintable()
    library = create_library((tmp_path,))
    with pytest.raises(VoiceError, match="cannot be seen"):
        library.add(f"an{character}na", audio())
    write(tmp_path / f"an{character}na.wav")
    library.scan(patient=False)
    assert not library.voices and [problem.message for problem in library.problems] == [expected]


@pytest.mark.parametrize("name", ["שרה", "محمد علي", "Zoë", "山田 太郎", "Ольга", "O'Brien 2", "अनिता", "😀", "김"])
def test_names_of_every_script_are_names(name: str) -> None:
    assert check_name(name) == unicodedata.normalize("NFC", name)


def test_the_key_is_stable_where_folding_takes_a_letter_apart() -> None:
    for name in ("İzmir", "Straße", "ΰ", "ǰ", DECOMPOSED):
        assert name_key(name_key(name)) == name_key(name) == name_key(unicodedata.normalize("NFD", name))
