"""A request selects a voice by name, alias, speaker or language."""

from __future__ import annotations

import dataclasses

import pytest

from wyoming_chatterbox.language_codes import same_language
from wyoming_chatterbox.voices.selection import MalformedName, UnknownVoice, find_voice, split_name
from wyoming_chatterbox.voices.voice import Voice


def voice(name: str, *languages: str, **fields: object) -> Voice:
    return dataclasses.replace(Voice(name, "original", name, languages, "tests", ""), **fields)  # type: ignore[arg-type]


VOICES = (voice("Anna", "en", aliases=("Mum", "the boss")), voice("bernd", "de-DE"), voice("chloé", "fr"))
FAMILY = (voice("fam", "en", speaker="Dad"), voice("fam", "en", speaker="mum"), *VOICES)
POLYGLOT = (
    voice("default", "en"),
    voice("anna", "de", base="anna"),
    voice("anna-en", "en", base="anna"),
    voice("anna-nb", "nb", base="anna"),
)


def test_by_name_whatever_its_capitals() -> None:
    assert find_voice(VOICES, name="anna").name == "Anna"
    assert find_voice(VOICES, name="CHLOÉ", language="en").name == "chloé"


def test_by_alias_unless_it_is_a_name() -> None:
    assert find_voice(VOICES, name="mum").name == find_voice(VOICES, name="THE BOSS").name == "Anna"
    assert find_voice((*VOICES, voice("mum", "en")), name="mum").name == "mum"


@pytest.mark.parametrize("language", ["de", "de-DE", "de_AT", "DE"])
def test_by_language_in_any_spelling(language: str) -> None:
    assert find_voice(VOICES, language=language).name == "bernd"


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("no", "nb", True),
        ("nb_NO", "no", True),
        ("nn", "nb", True),
        ("en_US", "en-GB", True),
        ("zh-Hant-TW", "zh", True),
        ("iw", "he", True),
        ("no", "nl", False),
        ("en", "eng", False),
    ],
)
def test_what_is_one_language(first: str, second: str, same: bool) -> None:
    assert same_language(first, second) is same_language(second, first) is same


def test_the_region_that_is_asked_for_wins() -> None:
    voices = (voice("x", "fr"), voice("us", "en-US"), voice("uk", "en_GB"))
    assert find_voice(voices, language="en-GB").name == "uk"
    assert find_voice(voices, language="en_AU").name == "us"


def test_the_default_voice_wins_among_those_of_the_language() -> None:
    voices = (*VOICES, voice("dora", "de"))
    assert find_voice(voices, language="de", default="dora").name == "dora"
    assert find_voice(voices, language="fr", default="dora").name == "chloé"
    assert find_voice(voices).name == "Anna"
    assert find_voice(voices, default="dora").name == "dora"
    assert find_voice(voices, default="is gone").name == "Anna"
    assert find_voice(voices, default="mum").name == "Anna"


def test_speakers_have_a_voices_name_in_common() -> None:
    assert find_voice(FAMILY, name="FAM").speaker == "Dad" == find_voice(FAMILY).speaker
    assert find_voice(FAMILY, name="fam", speaker="MUM").speaker == "mum" == find_voice(FAMILY, speaker="mum").speaker


def test_a_voice_of_several_languages_is_spoken_in_the_one_that_is_asked_for() -> None:
    assert find_voice(POLYGLOT, name="anna").name == "anna"
    assert find_voice(POLYGLOT, name="anna", language="no").name == "anna-nb"
    assert find_voice(POLYGLOT, name="anna", language="fr").name == "anna"
    assert find_voice(POLYGLOT, name="anna-en", language="de").name == "anna-en"
    assert find_voice(POLYGLOT, language="en", default="anna").name == "anna-en"
    assert find_voice(POLYGLOT, language="de").name == "anna"


def test_a_hidden_voice_answers_to_its_name_only() -> None:
    voices = (voice("a", "en"), voice("secret", "de", hidden=True))
    assert find_voice(voices, name="secret").name == "secret"
    with pytest.raises(UnknownVoice, match="No voice speaks 'de'; available languages: en"):
        find_voice(voices, language="de")
    with pytest.raises(UnknownVoice, match=r"There is no voice 'secrt'; available: a$"):
        find_voice(voices, name="secrt")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"name": "ana"}, "There is no voice 'ana'; similar names: Anna"),
        ({"name": "zzz"}, "There is no voice 'zzz'; available: Anna, bernd, chloé"),
        ({"name": "mummy"}, "There is no voice 'mummy'; similar names: Mum"),
        ({"name": "anna", "speaker": "x"}, "Voice 'Anna' has no speaker 'x'; omit the speaker"),
        ({"language": "ja"}, "No voice speaks 'ja'; available languages: de-DE, en, fr"),
    ],
)
def test_what_is_not_there_is_said_with_what_is(asked: dict[str, str], message: str) -> None:
    with pytest.raises(UnknownVoice) as refused:
        find_voice(VOICES, **asked)  # type: ignore[arg-type]
    assert str(refused.value) == message


def test_other_speakers_are_named_and_many_voices_are_not_all_listed() -> None:
    with pytest.raises(UnknownVoice, match="Voice 'fam' has no speaker 'x'; available: Dad, mum"):
        find_voice(FAMILY, name="fam", speaker="x")
    with pytest.raises(UnknownVoice, match=r"v18, v19 and 5 more$"):
        find_voice([voice(f"v{number}", "en") for number in range(25)], name="qqq")
    with pytest.raises(UnknownVoice, match="There are no voices yet"):
        find_voice((), name="anna")


def test_a_name_may_carry_settings() -> None:
    assert split_name("anna?exaggeration=0.8&seed=3") == ("anna", {"exaggeration": "0.8", "seed": "3"})
    assert split_name("Chloé B?gain=%2B3") == ("Chloé B", {"gain": "+3"})
    assert split_name("?seed=3") == (None, {"seed": "3"})
    assert split_name("anna?") == ("anna", {}) and split_name("anna") == ("anna", {}) and split_name(None) == (None, {})
    assert split_name("anna?seed=") == ("anna", {"seed": ""})


@pytest.mark.parametrize("query", ["x", "a=1&b", "&".join(f"a{n}=1" for n in range(21)), "a=%ff", "a=1&a=2"])
def test_a_query_that_is_none_is_refused(query: str) -> None:
    with pytest.raises(MalformedName):
        split_name(f"anna?{query}")
