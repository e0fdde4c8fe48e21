"""A text becomes the same sentences however it arrives, none too long, the first one soon."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.speech.text.linearity import HOSTILE, assert_linear
from wyoming_chatterbox.speech.text.sentences import Sentence, SentenceSplitter


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
        ("1. Mix it.\n2. Bake it.", ["1. Mix it.", "2. Bake it."]),
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


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It is 9 a.m. Monday. Get up.", ["It is 9 a.m. Monday.", "Get up."]),
        ("Open from 9 a.m. The doors close at 5 p.m. Come.", ["Open from 9 a.m.", "The doors close at 5 p.m. Come."]),
        ("Cats vs. Xerxes, e.g. Apples, i.e. Bananas.", ["Cats vs. Xerxes, e.g. Apples, i.e. Bananas."]),
        ("Capt. Kirk met Prof. Dr. Xu. Then Lt. Uhura came.", ["Capt. Kirk met Prof. Dr. Xu.", "Then Lt. Uhura came."]),
        ("J. R. R. Tolkien wrote it. I read it.", ["J. R. R. Tolkien wrote it.", "I read it."]),
        ("Take vitamin C. It helps.", ["Take vitamin C.", "It helps."]),
        ("The U.S. Army is here. In the U.S. It rains.", ["The U.S. Army is here.", "In the U.S.", "It rains."]),
        ("Acme Inc. Reports say so. At Acme Inc. The end.", ["Acme Inc. Reports say so.", "At Acme Inc.", "The end."]),
        ("I'm in the USA. Fine.", ["I'm in the USA.", "Fine."]),
        ("He sat. The sun set.", ["He sat.", "The sun set."]),
        ("On Wed. Nov. 25 we go. Come.", ["On Wed. Nov. 25 we go.", "Come."]),
        ("No. 5 is alive. So am I.", ["No. 5 is alive.", "So am I."]),
        ("Buy 1. Milk 2. Eggs 3.", ["Buy 1. Milk 2. Eggs 3."]),
        ("Steps: 1. Press start. 2. Wait.", ["Steps: 1. Press start.", "2. Wait."]),
        ("Steps: 1) Press start. 2) Wait.", ["Steps: 1) Press start.", "2) Wait."]),
        ("2. Wait for it.", ["2. Wait for it."]),
        ("It costs $5. Buy it. It costs 3. That is fair.", ["It costs $5.", "Buy it.", "It costs 3.", "That is fair."]),
        ("In 2025. Then came", ["In 2025.", "Then came"]),
        ("1️⃣ Open it\n2️⃣ Close it", ["1️⃣ Open it", "2️⃣ Close it"]),
        ("Yes. The light is on. OK! Good night.", ["Yes. The light is on.", "OK! Good night."]),
        ('He left. "Yes," she said. (She stayed.) Done.', ["He left.", '"Yes," she said.', "(She stayed.)", "Done."]),
        ("Wait… what? Well... Then go.", ["Wait… what?", "Well...", "Then go."]),
        ("Great! 😀 Now we go.", ["Great!", "😀 Now we go."]),
        ("Am 3. Oktober ist frei. Im 19. Jahrhundert nicht.", ["Am 3. Oktober ist frei.", "Im 19. Jahrhundert nicht."]),
        ("3. Oktober: frei.", ["3. Oktober: frei."]),
        ("z.B. Äpfel, d.h. Obst usw. Die Lampe ist an.", ["z.B. Äpfel, d.h. Obst usw.", "Die Lampe ist an."]),
        ("M. Dupont est arrivé. Il attend.", ["M. Dupont est arrivé.", "Il attend."]),
        ("¿Qué tal? ¡Muy bien! El Sr. García está aquí.", ["¿Qué tal?", "¡Muy bien!", "El Sr. García está aquí."]),
        ("مرحبا بكم. كيف حالك؟ أنا بخير.", ["مرحبا بكم.", "كيف حالك؟", "أنا بخير."]),
        ("यह घर है। बत्ती चालू है।", ["यह घर है।", "बत्ती चालू है।"]),
        ("今日は晴れです！元気？「はい。」そう。", ["今日は晴れです！", "元気？", "「はい。」", "そう。"]),
        ("see `1. Aa 2.) B", ["see `1. Aa 2.) B"]),
        ("Done it. 2.\u00a0Wait. 3²) Go.", ["Done it.", "2.\u00a0Wait. 3²) Go."]),
        ("a\u00a0\u00a0 b\u2003c 1\u202f500", ["a\u00a0b c 1\u202f500"]),
    ],
)
def test_a_sentence_is_not_cut_inside(text: str, expected: list[str]) -> None:
    assert texts(text) == expected


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


WORDS = ("a.m. ", "Dr. ", "e.g. ", "The", "Oktober ", "am 3. ", "1. ", "2) ", "Yes. ", "U.S. ", "Inc.", "1️⃣ ", "**")
ALPHABET = st.sampled_from([*"abcDEF12²٣ .,;:!?\n\r*-#|`~()[]\"'—…。，你é😀_1\u00a0\u2028", *WORDS])
TEXTS = st.lists(ALPHABET, max_size=300).map("".join)


@given(TEXTS, st.data(), st.sampled_from([0, 2, 8]))
@settings(max_examples=5000, deadline=None)
def test_the_same_text_gives_the_same_sentences_however_it_is_cut(text: str, data: st.DataObject, words: int) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=20)))
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert split(*pieces, max_chars=60, first_clause_words=words) == split(text, max_chars=60, first_clause_words=words)


@given(TEXTS)
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


@pytest.mark.parametrize("unit", HOSTILE, ids=ascii)
def test_twice_the_text_costs_twice_the_work(unit: str) -> None:
    assert_linear(lambda text: split(text, first_clause_words=8), unit)


@pytest.mark.parametrize("text", ["Sure.", "Wait...", "**Bold.**", "好的。", "Yes!"])
def test_a_first_word_that_is_a_whole_sentence_is_seen(text: str) -> None:
    splitter = SentenceSplitter(240, 0)
    list(splitter.feed(text))
    assert splitter.may_be_complete
    assert [sentence.text.strip("*") for sentence in splitter.flush()] == [text.strip("*")]
