"""What is left of markdown, markup and emoji is what can be spoken."""

from __future__ import annotations

import time

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from wyoming_chatterbox.speech.cleaning import clean


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("Hello.", "Hello."),
        ("**bold** and *it* and __under__ and _line_", "bold and it and under and line"),
        ("snake_case_name stays", "snake_case_name stays"),
        ("`code` and ~~gone~~", "code and gone"),
        ("[the docs](https://example.org/a_(b)) here", "the docs here"),
        ("[the docs](https://example.org/a 'Title') here", "the docs here"),
        ("![a cat](cat.png)", "a cat"),
        ("see https://www.example.org/path?x=1.", "see example.org."),
        ("<https://example.org>", "example.org"),
        ("# Heading", "Heading"),
        ("- item", "item"),
        ("- [x] done", "done"),
        ("1) first", "1, first"),
        ("> quoted", "quoted"),
        ("| a | b |", "a, b"),
        ("---", ""),
        ("|---|:--|", ""),
        ("```python", ""),
        ("<b>bold</b><br/>next", "bold next"),
        ("Tom &amp; Jerry", "Tom & Jerry"),
        ("5 < 6 and 7 > 2", "5 < 6 and 7 > 2"),
        ("😀 Hi 👍🏽 there 👨‍👩‍👧 🇩🇪!", "Hi there!"),
        ("1️⃣ first", "first"),
        ("5 stars, #1 and 3*", "5 stars, #1 and 3"),
        ("It is 21 °C ☀️ outside", "It is 21 °C outside"),
        ("soft\u00adhyphen zero\u200bwidth \u202ebidi\u0007", "softhyphen zerowidth bidi"),
        ("\ud800 lone", "lone"),
        ("نمی\u200cخواهم", "نمی\u200cخواهم"),
        ("What?!?!?! No!!! Why??", "What?! No! Why?"),
        ("wait.......... ok", "wait... ok"),
        ("a,,, b;;; c -- d", "a, b; c — d"),
        ("=====", ""),
        ("non\u00a0breaking   space\n", "non breaking space"),
        ("word , word .", "word, word."),
        (", and so on", "and so on"),
        ("-5 degrees", "-5 degrees"),
        ("...", ""),
        ("😀", ""),
        ("\\*not bold\\*", "not bold"),
        ("[laugh] That is funny", "[laugh] That is funny"),
        ("你好！！！", "你好！"),
        ("It is −5 °C.", "It is -5 °C."),
        ("–5 °C tonight.", "-5 °C tonight."),
        ("−.5 and −$5 and 10−5 = 5", "-.5 and -$5 and 10-5 = 5"),
        ("I like C++ and g++", "I like C++ and g++"),
        ("https://user:secret@host.de/x", "host.de"),
        ("from 5–7 pm", "from 5–7 pm"),
        ("100%%% sure", "100% sure"),
        ("21 ℃, ≥ 5", "21 °C, at least 5"),
        ("Use ```turn off the lights``` please.", "Use turn off the lights please."),
        ("Edit __init__.py now", "Edit __init__.py now"),
        ("<ul><li>One</li></ul><a href='x'>two</a><h1>three</h1>", "One two three"),
        ("Is it https://a.com/x? Yes", "Is it a.com? Yes"),
        ("https://en.wikipedia.org/wiki/A_(b).", "en.wikipedia.org."),
        ("(see https://example.org/x)", "(see example.org)"),
        ("light.kitchen is on at 7:30", "light.kitchen is on at 7:30"),
        ("mail me@example.org", "mail me@example.org"),
        ("$1,299.99", "$1,299.99"),
    ],
)
def test_clean(text: str, spoken: str) -> None:
    assert clean(text) == spoken


@given(st.text(max_size=200))
def test_any_text_can_be_cleaned_encoded_and_cleaned_again(text: str) -> None:
    spoken = clean(text)
    spoken.encode("utf-8")
    assert spoken == spoken.strip()
    assert not spoken or regex.search(r"[\p{L}\p{N}]", spoken)


@pytest.mark.parametrize(
    "junk",
    [
        "*" * 20_000,
        "[" * 20_000,
        "](" * 10_000,
        "_a" * 10_000,
        "| " * 10_000,
        "<" * 20_000,
        "~~" * 10_000,
        "&#" * 10_000,
        "http://" * 3_000,
        "!?" * 10_000,
        "- " * 10_000,
        " ." * 10_000,
    ],
)
def test_no_text_takes_long(junk: str) -> None:
    started = time.perf_counter()
    clean(junk[:1000])  # sentences are 1000 characters at most (--max-sentence-chars)
    assert time.perf_counter() - started < 0.1
