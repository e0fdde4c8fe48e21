"""Which voice a request means."""

from __future__ import annotations

import pytest

from wyoming_chatterbox.voices.choosing import UnknownVoice, find_voice
from wyoming_chatterbox.voices.voice import Voice


def voice(name: str, *languages: str) -> Voice:
    return Voice(name, "original", name, languages, "tests", "")


VOICES = (voice("Anna", "en"), voice("bernd", "de-DE"), voice("chloé", "fr"))


def test_by_name_whatever_its_capitals() -> None:
    assert find_voice(VOICES, name="anna").name == "Anna"
    assert find_voice(VOICES, name="CHLOÉ", language="en").name == "chloé"


@pytest.mark.parametrize("language", ["de", "de-DE", "de_AT", "DE"])
def test_by_language_in_any_spelling(language: str) -> None:
    assert find_voice(VOICES, language=language).name == "bernd"


def test_the_default_voice_wins_among_those_of_the_language() -> None:
    voices = (*VOICES, voice("dora", "de"))
    assert find_voice(voices, language="de", default="dora").name == "dora"
    assert find_voice(voices, language="fr", default="dora").name == "chloé"
    assert find_voice(voices).name == "Anna"
    assert find_voice(voices, default="dora").name == "dora"


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"name": "ana"}, "There is no voice 'ana'; near names: Anna"),
        ({"name": "zzz"}, "There is no voice 'zzz'; there are: Anna, bernd, chloé"),
        ({"name": "anna", "speaker": "x"}, "Voice 'Anna' has no speaker 'x'; leave the speaker out"),
        ({"language": "ja"}, "No voice speaks 'ja'; there are voices for: de-DE, en, fr"),
    ],
)
def test_what_is_not_there_is_said_with_what_is(asked: dict[str, str], message: str) -> None:
    with pytest.raises(UnknownVoice) as refused:
        find_voice(VOICES, **asked)  # type: ignore[arg-type]
    assert str(refused.value) == message
