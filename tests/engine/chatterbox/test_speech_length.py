"""How much speech a text can take."""

from __future__ import annotations

import pytest

from wyoming_chatterbox.engine.chatterbox.speech_length import max_tokens_for, min_tokens_for


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("Hi.", 90), ("$1,234,567", 205), ("", 75), ("a" * 184, 995), ("a" * 185, 1000), ("1" * 5000, 1000)],
)
def test_the_most_tokens_of_a_text(text: str, tokens: int) -> None:
    assert max_tokens_for(text) == tokens


@pytest.mark.parametrize("text", ["±§¶©®™°", "%&@#*/+", "€£¥<>=~", "½²Ⅷ٣十二月", "HTTPS", "\u2030\u2020|^`"])
def test_what_is_read_as_words_has_the_time_that_digits_have(text: str) -> None:
    assert max_tokens_for(text) == 75 + 15 * len(text) == max_tokens_for("7" * len(text))


@pytest.mark.parametrize("text", ["abcdefg", "naïveté", "привет", ".,;:!?…", "\"'“”„«»", "()[]{}-–—", "KITCHEN", "I A"])
def test_letters_and_pauses_have_less(text: str) -> None:
    assert max_tokens_for(text) == 75 + 5 * len(text)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("Hi.", 1),
        ("", 1),
        ("?!", 1),
        ("The kettle is on, and so is the radio.", 14),
        ("1,234,567", 3),
        ("a" * 4000, 1000),
    ],
)
def test_the_least_tokens_of_a_text(text: str, tokens: int) -> None:
    assert min_tokens_for(text) == tokens


@pytest.mark.parametrize("text", ["Hi.", "The kettle is on, and so is the radio.", "1", "a" * 3000, "IEEE 1588"])
def test_there_is_room_between_the_bounds(text: str) -> None:
    assert min_tokens_for(text) * 2 <= max_tokens_for(text) or max_tokens_for(text) == 1000
