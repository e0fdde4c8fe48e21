"""SSML is spoken without its tags, in pieces of any size."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wyoming_chatterbox.speech.text.ssml import SSMLStripper


def strip(*pieces: str) -> str:
    stripper = SSMLStripper()
    return ("".join(stripper.strip(piece) for piece in pieces) + stripper.finish()).strip()


@pytest.mark.parametrize(
    ("ssml", "text"),
    [
        ("<speak>Hello</speak>", "Hello"),
        ("no tags &lt; &#65; &amp; &eacute;", "no tags < A & é"),
        ('<prosody rate="slow">slow\nly</prosody>', "slow ly"),
        ('<sub alias="Doctor">Dr.</sub> No', "Doctor No"),
        ("<sub>Dr.</sub> No", "Dr. No"),
        ("a<metadata>hidden</metadata>b", "ab"),
        ('one<break time="1s"/>two', "one\n\ntwo"),
        ("<p><s>One.</s><s>Two.</s></p>", "One.\n\n\n\nTwo."),
        ("<speak>unclosed <emphasis>tag", "unclosed tag"),
        ("<!DOCTYPE x [<!ENTITY e SYSTEM 'file:///etc/passwd'>]>&e;", None),
    ],
)
def test_strip(ssml: str, text: str | None) -> None:
    assert "root:" not in strip(ssml)
    if text is not None:
        assert strip(ssml) == text


@given(st.lists(st.integers(0, 80), max_size=10))
def test_it_may_arrive_in_pieces(cuts: list[int]) -> None:
    ssml = '<speak>Hi <sub alias="World Wide Web">WWW</sub> &amp; all.<break/>Bye &#33;</speak>'
    cuts = sorted(min(cut, len(ssml)) for cut in cuts)
    pieces = [ssml[start:end] for start, end in zip([0, *cuts], [*cuts, len(ssml)], strict=True)]
    assert strip(*pieces) == "Hi World Wide Web & all.\n\nBye !"


@pytest.mark.parametrize(
    "junk", ["<a ", '<a b="', "<!--", "<![CDATA[", "&", "<", "<?", "<sub>", "</", "<a>", '<a b=">', ">"]
)
def test_no_markup_takes_long(junk: str) -> None:
    deep = "<sub alias='x'>" * 1000
    ssml = '<a b="' * (junk == ">") + (junk * 20_000)[:20_000]
    started = time.perf_counter()
    strip(deep + ssml)
    assert time.perf_counter() - started < 0.5


@pytest.mark.parametrize(
    ("ssml", "text"),
    [
        ('<lookup ref="x">Some words</lookup> end', "Some words end"),
        ('a <meta name="x" content="y">b', "a b"),
        ("<![CDATA[Tom & <Jerry>]]> end", "Tom & <Jerry> end"),
        ("<![CDATA[a]b]]c]]>d", "a]b]]cd"),
        ("a <!-- x > y --> b", "a  b"),
        ('<voice name="a>b">c</voice>', "c"),
        ("5 < 6 & 7", "5 < 6 & 7"),
        ("AT&T & you &nosuch; &lt", "AT&T & you &nosuch; <"),
        ("<a " + "x" * 5000 + ">text", "text"),
        ("<metadata " + "x" * 5000 + ">secret</metadata>text", "text"),
        ("I <love it", "I <love it"),
        ("a <b don't stop now", "a <b don't stop now"),
        ('<emphasis level="strong>Hello</emphasis> world', "Hello world"),
        ("<script>if(a<b){'x'}</script>hi", "hi"),
        ("x <<b>y</b>", "x <y"),
        ("<&amp; y", "<& y"),
        ("<sub alias='a'>b<sub alias='c'>d</sub>e</sub>f", "af"),
        ("<p title='it is'>don't</p>", "don't"),
    ],
)
def test_what_is_text_and_what_is_not(ssml: str, text: str) -> None:
    assert strip(ssml) == text
    assert strip(*ssml) == text
