"""Which language a sentence is written in, among those of a house."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

import pytest

from wyoming_chatterbox.engine.built_in_voices import MULTILINGUAL_LANGUAGES
from wyoming_chatterbox.speech.text.language import LanguageDetector, UtteranceLanguage

LIGHT = {
    "ar": "الضوء مضاء.",
    "da": "Lyset er tændt, og vaskemaskinen er færdig.",
    "de": "Das Licht ist an.",
    "el": "Το φως είναι αναμμένο.",
    "en": "The light is on.",
    "es": "La luz está encendida.",
    "fi": "Valo on päällä.",
    "fr": "La lumière est allumée.",
    "he": "האור דולק.",
    "hi": "बत्ती जल रही है।",
    "it": "La luce è accesa.",
    "ja": "明かりがついています。",
    "ko": "불이 켜져 있습니다.",
    "ms": "Lampu di bilik tidur telah dihidupkan.",
    "nl": "Het licht is aan.",
    "no": "Lyset er på, og oppvaskmaskinen er ferdig.",
    "pl": "Światło jest włączone.",
    "pt": "A luz está acesa.",
    "ru": "Свет включён.",
    "sv": "Lampan är tänd.",
    "sw": "Taa ya chumba cha kulala imewashwa.",
    "tr": "Işık açık.",
    "zh": "灯亮着。",
}


def detector(*languages: str) -> LanguageDetector:
    made = LanguageDetector(languages)
    made.load()
    return made


def best(made: LanguageDetector, text: str) -> str:
    confidences = made.confidences(text)
    return max(confidences, key=lambda code: confidences[code])


def test_all_languages_of_chatterbox_are_told_apart() -> None:
    assert set(LIGHT) == set(MULTILINGUAL_LANGUAGES)
    made = detector(*MULTILINGUAL_LANGUAGES)
    assert {code: best(made, text) for code, text in LIGHT.items()} == {code: code for code in LIGHT}


@pytest.mark.parametrize("other", [code for code in LIGHT if code != "en"])
def test_each_beside_english(other: str) -> None:
    made = detector(other, "en")
    assert [best(made, LIGHT[code]) for code in (other, "en")] == [other, "en"]


@pytest.mark.parametrize(
    ("languages", "text", "expected"),
    [
        (("de", "en"), "21", {}),
        (("de", "en"), "", {}),
        (("de", "en"), "💡 …", {}),
        (("de", "ru"), "Свет включён.", {"ru": 1.0}),
        (("de", "en"), "Свет включён.", {}),
        (("ja", "en"), "東京", {"ja": 1.0}),
        (("ja", "zh"), "东京", {"zh": 1.0}),
        (("ja", "zh"), "ラジオ", {"ja": 1.0}),
        (("ja", "zh"), "東京のラジオ", {"ja": 1.0}),
        (("zh", "en"), "播放 Bohemian Rhapsody", {"en": 1.0}),
    ],
)
def test_scripts_decide_first(languages: Sequence[str], text: str, expected: dict[str, float]) -> None:
    assert detector(*languages).confidences(text) == expected


@pytest.mark.parametrize(
    ("sentences", "spoken"),
    [
        (["Das Licht ist an.", "The kettle is on, and the lights are off."], ["de", "en"]),
        (["The light is on.", "It is warm.", "OK."], ["en", "en", "en"]),
        (["OK.", "The light is on."], ["de", "en"]),
        (["21 °C.", "Good morning everybody."], ["de", "en"]),
        (["Ich spiele:", "OK.", "Viel Vergnügen damit."], ["de", "de", "de"]),
        (["Es läuft gerade:", "Living room.", "Und jetzt das Wetter."], ["de", "en", "de"]),
        (["Hello there, how are you?", "Свет включён.", "I am fine."], ["en", "en", "en"]),
    ],
)
def test_a_language_changes_where_that_is_clear(sentences: list[str], spoken: list[str]) -> None:
    language = UtteranceLanguage(detector("de", "en"), "de")
    assert [language.next(sentence) for sentence in sentences] == spoken


def test_without_lingua_scripts_are_told_apart_and_the_log_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "lingua", None)
    made = detector("de", "en", "el")
    assert made.confidences("The light is on.") == {} and made.confidences(LIGHT["el"]) == {"el": 1.0}
    assert "without the package lingua-language-detector" in caplog.text
    caplog.clear()
    assert detector("de", "el").confidences("Das Licht ist an.") == {"de": 1.0} and not caplog.text


def test_a_long_text_takes_no_time_of_others() -> None:
    made = detector("de", "en")
    text = "The light in the living room is on, and the door is closed. " * 100
    made.confidences(text)
    started = time.perf_counter()
    made.confidences(text)
    assert time.perf_counter() - started < 0.1
