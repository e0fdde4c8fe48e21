"""SSML is spoken without its tags, in pieces of any size."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wyoming_chatterbox.speech.ssml import SSMLStripper


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
