"""A text becomes the same sentences however it arrives, none too long, the first one soon."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wyoming_chatterbox.speech.sentences import Sentence, SentenceSplitter


def split(*pieces: str, max_chars: int = 240, first_clause_words: int = 0) -> list[Sentence]:
    splitter = SentenceSplitter(max_chars, first_clause_words)
    found = [sentence for piece in pieces for sentence in splitter.feed(piece)]
    return found + list(splitter.flush())


def texts(*pieces: str, max_chars: int = 240, first_clause_words: int = 0) -> list[str]:
    return [sentence.text for sentence in split(*pieces, max_chars=max_chars, first_clause_words=first_clause_words)]


def test_a_sentence_is_complete_when_the_next_one_begins() -> None:
    splitter = SentenceSplitter(240, 0)
    assert list(splitter.feed("Hello there. ")) == []
    assert list(splitter.feed("H")) == [Sentence("Hello there.")]
    assert list(splitter.feed("ow are you")) == []
    assert list(splitter.flush()) == [Sentence("How are you")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It costs $3.50. That is fair.", ["It costs $3.50.", "That is fair."]),
        ("Dr. Smith is here. He waits.", ["Dr. Smith is here.", "He waits."]),
        ("你好。我是。", ["你好。", "我是。"]),
        ("One\n\nTwo", ["One", "Two"]),
        ("wrapped\nby hand", ["wrapped by hand"]),
        ("List:\n- one\n- two\nand more", ["List:", "- one", "- two", "and more"]),
        ("1. Mix it.\n2. Bake it.", ["1) Mix it.", "2) Bake it."]),
        ("# Title\nText", ["# Title", "Text"]),
        ("```sh\nls\n```\nDone", ["```sh", "ls", "```", "Done"]),
        ("| a | b |\n|---|---|\n| 1 | 2 |", ["| a | b |", "|---|---|", "| 1 | 2 |"]),
        ("**Note.** Then *this*.", ["Note.", "Then this."]),
        ("* one\n* two", ["- one", "- two"]),
        ("3 * 4 is 12", ["3 × 4 is 12"]),
        ("line\r\nfeed", ["line feed"]),
        ("a\rb\fc\vd", ["a b c d"]),
        ("12*3 is 36 and 2**10 (a)*(b)", ["12×3 is 36 and 2^10 (a)×(b)"]),
        ("Milk\nEggs\nBread", ["Milk", "Eggs", "Bread"]),
        ("**Kitchen:** 21.5 °C\n**Bath:** 19 °C", ["Kitchen: 21.5 °C", "Bath: 19 °C"]),
        ("My friend lives in\nLondon and works for\nApple.", ["My friend lives in London and works for Apple."]),
        ("The temperature is\n21 degrees.", ["The temperature is 21 degrees."]),
        ("今天天气很好\n再去吃饭", ["今天天气很好 再去吃饭"]),
        ("with bread,\nAlice and\nothers", ["with bread, Alice and others"]),
        ("A long line that somebody wrapped because it was so very long\nBecause", None),
        ("......... and ======= so on", ["... and === so on"]),
        ("", []),
        ("  \n ", []),
    ],
)
def test_where_sentences_end(text: str, expected: list[str] | None) -> None:
    assert texts(text) == (expected if expected is not None else [text.replace("\n", " ")])


def test_a_blank_line_ends_a_sentence_at_once() -> None:
    splitter = SentenceSplitter(240, 0)
    assert list(splitter.feed("Let me check\n\n")) == [Sentence("Let me check")]


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("Let me check that. ", True),
        ("Let me check that.\nTh", False),
        ("**Done.**", True),
        ("Ask Dr.", False),
        ("Really?", True),
        ('He said "no."', True),
        ("Let me", False),
        ("It costs 3.", False),
        ("J.", False),
        ("", False),
    ],
)
def test_what_looks_like_a_whole_sentence_may_be_given_out_when_the_text_pauses(text: str, whole: bool) -> None:
    splitter = SentenceSplitter(240, 0)
    assert list(splitter.feed("Before. " + text)) in ([], [Sentence("Before.")])
    assert splitter.may_be_complete == (whole or text == "")
    list(splitter.flush())
    assert list(splitter.feed("And more. So")) == [Sentence("And more.")]


ALPHABET = st.sampled_from(list("abcDEF12 .,;:!?\n\r*-#|`~()[]\"'—…。，你é😀_1"))


@given(st.text(ALPHABET, max_size=300), st.data(), st.sampled_from([0, 2, 8]))
@settings(max_examples=300, deadline=None)
def test_the_same_text_gives_the_same_sentences_however_it_is_cut(text: str, data: st.DataObject, words: int) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=20)))
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert split(*pieces, max_chars=60, first_clause_words=words) == split(text, max_chars=60, first_clause_words=words)


@given(st.text(ALPHABET, max_size=600))
@settings(max_examples=200, deadline=None)
def test_no_sentence_is_too_long_and_no_word_is_lost(text: str) -> None:
    found = texts(text, max_chars=50)
    assert all(0 < len(sentence) <= 50 for sentence in found)

    def letters(value: str) -> str:
        return "".join(char for char in value if char.isalnum())

    assert letters("".join(found)) == letters(text)


def test_a_long_sentence_is_cut_at_a_clause_else_at_a_space_else_anywhere() -> None:
    clause = "a word " * 20 + "here, " + "and a word " * 20
    assert texts(clause)[0].endswith("here,")
    assert split(clause)[0].ends_inside and not split(clause)[-1].ends_inside
    assert texts("word " * 100)[0] == ("word " * 48).strip()
    assert [len(part) for part in texts("x" * 500)] == [240, 240, 20]


FIRST = "When the sun has set behind the hills, the lamp in the hall is switched on. Then it is night, you know."


def test_the_first_clause_is_spoken_by_itself_once_it_is_long_enough() -> None:
    assert split(FIRST, first_clause_words=8)[0] == Sentence("When the sun has set behind the hills,", ends_inside=True)
    assert texts(FIRST, first_clause_words=8)[1:] == [
        "the lamp in the hall is switched on.",
        "Then it is night, you know.",
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (FIRST, 0),  # off
        (FIRST, 9),  # the clause has eight words
        ("The lamp in the kitchen was left on, please.", 3),  # too little would be left
        ("It is 1,000,000 of them that I have seen here today.", 2),  # no clause ends inside a number
    ],
)
def test_the_first_sentence_stays_whole(text: str, words: int) -> None:
    first = text.split(". ")[0].rstrip(".") + "."
    assert texts(text, first_clause_words=words)[0] == first


@pytest.mark.parametrize("junk", ["word ", ".", "!?", ". ", "\n", "*", "a. ", "- ", "1. ", "é́", "...?"])
def test_no_text_takes_long(junk: str) -> None:
    text = (junk * 20_000)[:20_000]
    started = time.perf_counter()
    splitter = SentenceSplitter(240, 8)
    for char in text:
        list(splitter.feed(char))
    assert time.perf_counter() - started < 5, "0.2 s when written; quadratic would be minutes"


@pytest.mark.parametrize("text", ["Sure.", "Wait...", "**Bold.**", "好的。", "Yes!"])
def test_a_first_word_that_is_a_whole_sentence_is_seen(text: str) -> None:
    splitter = SentenceSplitter(240, 0)
    list(splitter.feed(text))
    assert splitter.may_be_complete
    assert [sentence.text.strip("*") for sentence in splitter.flush()] == [text.strip("*")]
