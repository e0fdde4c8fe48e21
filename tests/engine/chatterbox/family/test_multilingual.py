"""Multilingual with small networks: languages, its tokenizer, and the end of its speech."""

from __future__ import annotations

import dataclasses
import logging
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from wyoming_chatterbox.engine.base import CancelToken, EngineError, Samples
from wyoming_chatterbox.engine.chatterbox.engine import ChatterboxEngine
from wyoming_chatterbox.engine.chatterbox.language_preparation import LanguagePreparation, decompose_hangul
from wyoming_chatterbox.engine.chatterbox.specs import MULTILINGUAL_V3
from wyoming_chatterbox.engine.chatterbox.text import normalize_punctuation
from wyoming_chatterbox.engine.registry import MODELS
from wyoming_chatterbox.speech_settings import GenerationSettings
from wyoming_chatterbox.testing.random_checkpoint import build
from wyoming_chatterbox.voices.selection import find_voice

MULTILINGUAL = MODELS["multilingual"]
SPEECH_TOKENS = 30


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> ChatterboxEngine:
    checkpoint = build(tmp_path_factory.mktemp("multilingual"), model="multilingual", eos_at=SPEECH_TOKENS)
    assert MULTILINGUAL.layout is not None
    return ChatterboxEngine.load(
        checkpoint,
        "cpu",
        None,
        0,
        name="multilingual",
        layout=MULTILINGUAL.layout,
        built_in_voices=MULTILINGUAL.voices,
    )


def _speak(engine: ChatterboxEngine, text: str, language: str) -> list[Samples]:
    voice = find_voice(engine.voices, language=language)
    return [samples for samples, _ in engine.generate_stream(text, voice, GenerationSettings(), CancelToken())]


def test_every_language_has_a_voice_and_speaks_as_itself(engine: ChatterboxEngine) -> None:
    assert len(MULTILINGUAL.languages) == 23 == len(engine.voices)
    heard = {language: np.concatenate(_speak(engine, "Radio 7", language)) for language in ("en", "de", "fr", "ko")}
    assert len({samples.tobytes() for samples in heard.values()}) == 4, "the token of the language is read"
    bokmal = np.concatenate(_speak(engine, "Radio 7", "nb-NO"))
    assert np.array_equal(bokmal, np.concatenate(_speak(engine, "Radio 7", "no")))


def test_a_language_that_it_does_not_speak_is_named(engine: ChatterboxEngine) -> None:
    voice = dataclasses.replace(engine.voices[0], languages=("uk",))
    with pytest.raises(EngineError, match="Multilingual v3 does not speak 'uk', for which voice 'default' is listed"):
        next(engine.generate_stream("Radio 7", voice, GenerationSettings(), CancelToken()))


def test_the_last_speech_token_is_cut_off(engine: ChatterboxEngine) -> None:
    """Its 40 ms are noise, by its developers' account."""
    chunks = _speak(engine, "Guten Morgen, liebe Sonne, guten Tag.", "de")
    assert len(chunks) > 1 and sum(map(len, chunks)) == (SPEECH_TOKENS - 1) * 960


def test_a_text_is_lower_case_decomposed_and_behind_its_language(engine: ChatterboxEngine) -> None:
    tokenizer = engine.chatterbox.tokenizer
    known = tokenizer._tokenizer
    assert [known.id_to_token(token) for token in tokenizer.encode("Ab c", "de")] == ["[de]", "a", "b", "[SPACE]", "c"]
    composed, decomposed = "Ünal", unicodedata.normalize("NFD", "Ünal")
    assert tokenizer.encode(composed, "tr") == tokenizer.encode(decomposed, "tr")


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("guten Morgen", "Guten Morgen."),
        ("你好。", "你好。"),
        ("本当ですか？", "本当ですか？"),
        ("Wirklich … ja: „gut“ – so", 'Wirklich, ja, „gut" - so.'),
    ],
)
def test_punctuation_is_its_developers(text: str, normal: str) -> None:
    assert normalize_punctuation(text, MULTILINGUAL_V3).replace("  ", " ") == normal


def test_languages_that_need_a_package_are_read_as_they_are_without_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    prepare = LanguagePreparation(None)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert prepare("你好", "zh") == "你好"
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        "Texts in zh are read as they are written, worse than they could be"
    ]
    assert "你好" not in caplog.text
    assert prepare("guten tag", "de") == "guten tag"


def test_korean_is_read_as_jamo() -> None:
    assert decompose_hangul("한국어 a") == unicodedata.normalize("NFD", "한국어 a")


def test_chinese_is_read_as_cangjie(tmp_path: Path) -> None:
    table = tmp_path / "Cangjie5_TC.json"
    table.write_text('["日\\ta", "曰\\ta", "明\\tab"]', "utf-8")
    prepare = LanguagePreparation(table)
    prepare._segmenter = type("Words", (), {"cut": lambda self, text: [text]})()  # the package need not be here
    assert prepare("明曰x", "zh") == "[cj_a][cj_b][cj_.][cj_a][cj_1][cj_.]x"
