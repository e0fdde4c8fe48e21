"""What a language model thinks is dropped, in pieces of any size."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.speech.text.linearity import HOSTILE, assert_linear
from wyoming_chatterbox.speech.text import thoughts
from wyoming_chatterbox.speech.text.thoughts import ThoughtFilter
from wyoming_chatterbox.testing.engines import ToneEngine, model_of
from wyoming_chatterbox.testing.serving import running, stream, synthesize


def strip(*pieces: str) -> str:
    stripper = ThoughtFilter()
    return "".join(stripper.strip(piece) for piece in pieces) + stripper.finish()


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("<think>\nThe user wants light.\n</think>\n\nThe light is on.", "The light is on."),
        ("Well. <thinking>a < b, <b>so</b></thinking> Yes.", "Well. Yes."),
        ("<THINK>x</Think>y<reasoning>z</reasoning>", "y"),
        ('<tool_call>{"name": "light"}</tool_call>Done.', "Done."),
        ("<think>never closed. And on.", ""),
        ("<think>a</thinking>b</think>c", "c"),
        ("the end of a thought</think>Answer", "the end of a thought</think>Answer"),
        ("I <thin", "I <thin"),
        ("<thinker>x</thinker> a < b <3 <<b>", "<thinker>x</thinker> a < b <3 <<b>"),
    ],
)
def test_thoughts_are_dropped_whole(text: str, spoken: str) -> None:
    assert " ".join(strip(text).split()) == spoken
    assert strip(*text) == strip(text)


PARTS = st.sampled_from(["<think>", "</think>", "<thinking>", "<thi", "<", ">", "nk>", "a", " ", "</", "12345"])


@given(st.lists(PARTS, max_size=40).map("".join), st.data())
@settings(max_examples=300, deadline=None)
def test_it_may_arrive_in_pieces(text: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=20)))
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    limit, thoughts.MAX_THOUGHT_CHARS = thoughts.MAX_THOUGHT_CHARS, 25
    try:
        assert strip(*pieces) == strip(text)
    finally:
        thoughts.MAX_THOUGHT_CHARS = limit


@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_an_endless_thought_does_not_swallow_everything(size: int) -> None:
    text = "<think>" + "x" * thoughts.MAX_THOUGHT_CHARS + "The answer, at last."
    assert strip(*(text[start : start + size] for start in range(0, len(text), size))) == " The answer, at last."
    closed = "<think>" + "x" * thoughts.MAX_THOUGHT_CHARS + "</think>Answer."
    assert strip(closed).strip() == "Answer."


@pytest.mark.parametrize("unit", HOSTILE, ids=ascii)
def test_twice_the_text_costs_twice_the_work(unit: str) -> None:
    assert_linear(lambda text: strip(*text), unit)


async def test_the_server_speaks_the_answer_alone() -> None:
    engine = ToneEngine()
    async with running(model_of(engine)) as server, server.client() as client:
        await stream(
            client, ["<thi", "nk>The user wants", " light. </th", "ink>\n\nThe light", " is on. ", "Good night."]
        )
        await synthesize(client, "<think>Hm. Let me see.")
        await synthesize(client, "<speak>I <think>really</think> do.</speak>", text_format="ssml")
    assert engine.texts == ["The light is on.", "Good night.", "I really do."]
