"""What the settings ask for of the drawing of tokens; the drawing itself is tested in test_t3.py."""

from __future__ import annotations

from wyoming_chatterbox.engine.chatterbox.t3.sampling import CURRENT, STREAMING, Sampling, sampling_of
from wyoming_chatterbox.speech_settings import GenerationSettings


def test_the_defaults_are_what_chatterboxs_developers_recommend() -> None:
    assert sampling_of(GenerationSettings()) == CURRENT == Sampling(1.2, 0.05, 1.0)


def test_current_is_what_the_settings_say_and_streaming_is_fixed() -> None:
    numbers = {"repetition_penalty": 1.5, "min_p": 0.1, "top_p": 0.9}
    assert sampling_of(GenerationSettings(**numbers)) == Sampling(1.5, 0.1, 0.9)
    assert sampling_of(GenerationSettings(sampling="streaming", **numbers)) == STREAMING == Sampling(2.0, 0.0, 0.8)
