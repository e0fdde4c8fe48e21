"""What is left of markdown, markup and emoji is what can be spoken."""

from __future__ import annotations

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from tests.speech.text.linearity import HOSTILE, assert_linear
from wyoming_chatterbox.speech.text.cleaning import clean


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
        ("1️⃣ first", "1, first"),
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
        ("21 ℃, ≥ 5", "21 °C, ≥ 5"),
        ("Use ```turn off the lights``` please.", "Use turn off the lights please."),
        ("Edit __init__.py now", "Edit __init__.py now"),
        ("<ul><li>One</li></ul><a href='x'>two</a><h1>three</h1>", "One two three"),
        ("Is it https://a.com/x? Yes", "Is it a.com? Yes"),
        ("https://en.wikipedia.org/wiki/A_(b).", "en.wikipedia.org."),
        ("(see https://example.org/x)", "(see example.org)"),
        ("light.kitchen is on at 7:30", "light.kitchen is on at 7:30"),
        ("mail me@example.org", "mail me@example.org"),
        ("$1,299.99", "$1,299.99"),
        ("Press 1️⃣ now, then 🔟.", "Press 1 now, then 10."),
        ("3️⃣", "3"),
        ("see www.example.org/path?x=1.", "see example.org."),
        ("WWW.Example.org, ftp://files.example.org/a", "Example.org, files.example.org"),
        ("homeassistant://config/x", "config"),
        ("<me@example.org> wrote", "me@example.org wrote"),
        ("<answer>It is on.</answer>", "It is on."),
        ("<response lang='en' n=1>Yes, it is</response><br />", "Yes, it is"),
        ("</think>It is on.<|im_end|>", "It is on."),
        ("a <!-- hidden --> b", "a b"),
        ("a < b and 3 <5 and c<d", "a < b and 3 <5 and c<d"),
        ("if a <y and c> d", "if a <y and c> d"),
        ("I <3 you", "I <3 you"),
        ("- 3 °C", "-3 °C"),
        ("– 3,5 °C outside", "-3,5 °C outside"),
        ("It is - 3 degrees.", "It is -3 degrees."),
        ("Outside: - 3 °C", "Outside: -3 °C"),
        ("Es sind - 3 Grad.", "Es sind -3 Grad."),
        ("- 3 eggs", "3 eggs"),
        ("- 3 % off", "3 % off"),
        ("Kitchen - 21 °C", "Kitchen - 21 °C"),
        ("from 2 - 5 °C", "from 2 - 5 °C"),
        ("- Kitchen: 21 °C", "Kitchen: 21 °C"),
        ("21ºC, 21 ˚F, el 1º de mayo", "21°C, 21 °F, el 1º de mayo"),
        ("5 \u2126 and 5 \u03a9", "5 \u03a9 and 5 \u03a9"),
        ("12\u202f345\u00a0678 and 1\u00a02, 3\u00a0500", "12345678 and 1 2, 3500"),
        ("3. Oktober ist frei.", "3. Oktober ist frei."),
        ("3. Eggs", "3, Eggs"),
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
    "text",
    [
        "Morgen, am 3. Oktober, sind es 21,5 °C – und um 7:05 Uhr geht’s los: „Übermäßig“ groß!",
        "Die Heizung läuft z. B. seit 6 Uhr (ca. 45,90 € pro Tag), größer ≥ 5 %.",
        "L’été, c’est « génial » : il fait 30 °C aujourd’hui, n’est-ce pas ?",
        "¿Qué tal, señora? ¡Muy bien! La 1.ª planta está a 21,5 °C; el niño duerme.",
        "今日の気温は21.5℃です。「窓を閉めて」と言いました。ー～・",
        "你好，今天是11月25日，气温21.5度……真的吗？",
        "درجة الحرارة ٢١٫٥ مئوية، هل تريد إطفاء الضوء؟ نعم!",
        "نمی\u200cخواهم",
        "कमरे का तापमान २१ डिग्री है। क्‍षमा कीजिए, बत्ती जला दूँ?",
        "Température : 21,5 °C ; humidité : 45 %",
        "Ё, ё, й: температура −3,5 °C — холодно…",
        "บ้านอุณหภูมิ 21 องศา",
        "오늘은 21.5도입니다. 불을 켤까요?",
    ],
)
def test_other_languages_are_left_as_they_are(text: str) -> None:
    # Only the spaces that French puts before marks go, and signs that engines do not know are written as others.
    expected = text.replace("℃", "°C").replace("−", "-").replace("……", "…")
    assert clean(text) == regex.sub(r" ([?;:])(?=\s|$)", r"\1", expected)


@pytest.mark.parametrize("unit", HOSTILE, ids=ascii)
def test_twice_the_text_costs_twice_the_work(unit: str) -> None:
    assert_linear(lambda text: clean("w " + text + " w"), unit)
