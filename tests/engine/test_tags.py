"""Sounds in brackets are performed by models that have them, and read aloud by none."""

from __future__ import annotations

import numpy as np
import pytest

from wyoming_chatterbox.engine.base import CancelToken, NothingToSay
from wyoming_chatterbox.engine.built_in_voices import HEART
from wyoming_chatterbox.engine.embedded import HibariEngine
from wyoming_chatterbox.engine.registry import MODELS
from wyoming_chatterbox.engine.tags import TURBO_SOUNDS, TURBO_STYLES, keep_tags
from wyoming_chatterbox.speech.text.cleaning import clean
from wyoming_chatterbox.speech_settings import GenerationSettings

SOUNDS = ("laugh", "clear throat")


@pytest.mark.parametrize(
    ("text", "performed", "silent"),
    [
        ("[laugh] Hello.", "[laugh] Hello.", "Hello."),
        ("Well [Clear Throat], so it is! [LAUGH]", "Well [clear throat], so it is! [laugh]", "Well, so it is!"),
        ("It works [whispering] here.", "It works here.", "It works here."),
        (
            "Footnote [1], [note] and [laughter].",
            "Footnote [1], [note] and [laughter].",
            "Footnote [1], [note] and [laughter].",
        ),
        ("[laugh]", "[laugh]", ""),
    ],
)
def test_tags_stay_where_the_model_has_them(text: str, performed: str, silent: str) -> None:
    assert keep_tags(text, SOUNDS) == performed
    assert keep_tags(text, ()) == silent


def test_cleaning_leaves_them_alone() -> None:
    for tag in TURBO_SOUNDS + TURBO_STYLES:
        assert clean(f"Well [{tag}], so it is!") == f"Well [{tag}], so it is!"


def test_turbo_and_nano_say_which_sounds_they_make() -> None:
    assert MODELS["turbo"].tags == MODELS["nano"].tags == TURBO_SOUNDS
    assert MODELS["original"].tags == MODELS["multilingual"].tags == MODELS["embedded"].tags == ()


def test_the_embedded_voice_reads_no_tag_aloud() -> None:
    engine = HibariEngine()

    def speak(text: str) -> np.ndarray:
        chunks = engine.generate_stream(text, HEART, GenerationSettings(), CancelToken())
        return np.concatenate([samples for samples, _ in chunks])

    assert np.array_equal(speak("[laugh] Hello there. [sigh]"), speak("Hello there."))
    with pytest.raises(NothingToSay):
        speak("[chuckle]")
