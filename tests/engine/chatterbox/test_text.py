"""What upstream's clean-up would spoil reaches the model right, and everything else exactly as upstream's."""

from __future__ import annotations

import pytest

from tests.speech.text.linearity import HOSTILE, assert_linear
from wyoming_chatterbox.engine.chatterbox.text import prepare_text
from wyoming_chatterbox.engine.chatterbox.upstream import load_chatterbox


@pytest.mark.parametrize(
    ("text", "reaches"),
    [
        ("It's 07:05", "It's seven oh five."),
        ("It is 7:00 PM, 12:30 or 00:00.", "It is seven PM, twelve thirty or midnight."),
        ("Ratio 3:1 on host:8123", "Ratio 3 to 1 on host, 8123."),
        ("Wait... what? one; two… three", "Wait, what? one, two, three."),
        ("Really...? (...) ok", "Really?  ok.".replace("  ", " ")),
        ("...and so on", "And so on."),
        ('"Well..." she said', '"Well," she said.'),
        ("It was late—very late — and dark – yes", "It was late, very late, and dark, yes."),
        ("From 10 - 12, and 5 - 3 = 2", "From 10 to 12, and 5 minus 3 = 2."),
        ("Mon–Fri, 5–7 pm", "Mon-Fri, 5-7 pm."),
        ("At ≥ 5", "At at least 5."),
    ],
)
def test_what_reaches_the_model(text: str, reaches: str) -> None:
    assert load_chatterbox().punc_norm(prepare_text(text)) == reaches


@pytest.mark.parametrize(
    "text",
    [
        "The kitchen light is on.",
        "Kitchen: 21.5 degrees, bath: 19 degrees!",
        "well, “quoted” and ‘so’ on - with a dash",
        "I thought so...",
        "A well-known, twenty-one year old U.S. story? Yes (really).",
        "iPhone 15 costs $1,299.99 at 5%",
    ],
)
def test_ordinary_text_is_left_to_upstream(text: str) -> None:
    assert prepare_text(text) == text


@pytest.mark.parametrize("unit", HOSTILE, ids=ascii)
def test_twice_the_text_costs_twice_the_work(unit: str) -> None:
    assert_linear(lambda text: prepare_text("w " + text + " w"), unit)
