"""--language and --languages: what a request gets that names neither a voice nor a language, as Home Assistant's do."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from typing import Any

import pytest
from wyoming.event import Event

from wyoming_chatterbox.testing.engines import ToneEngine, model_of
from wyoming_chatterbox.testing.serving import Running, read_answer, running, stream, synthesize


def engine() -> ToneEngine:
    """A model with an English, a German and a Norwegian voice, in this order."""
    made = ToneEngine()
    english = made.voices[0]
    made.voices = tuple(
        dataclasses.replace(english, name=name, languages=(language,))
        for name, language in (("ann", "en"), ("bea", "de"), ("cai", "nb"))
    )
    return made


async def spoken_by(server: Running, voice: str | None = None, language: str | None = None) -> str:
    async with server.client() as client:
        if language is None:
            answer = await synthesize(client, "Hello.", voice)
        else:
            await client.write_event(Event("synthesize", {"text": "Hello.", "voice": {"language": language}}))
            answer = await read_answer(client, "audio-stop")
    return str(answer.start["voice"])


async def test_a_request_without_voice_and_language_gets_the_language_of_the_settings() -> None:
    async with running(model_of(engine()), language="de_AT") as server:
        assert await spoken_by(server) == "bea"
        assert server.server.service.default_voice is not None
        assert server.server.service.default_voice.name == "bea"
        assert await spoken_by(server, voice="ann") == "ann"
        assert await spoken_by(server, language="en") == "ann"


async def test_the_default_voice_wins_where_it_speaks_the_language() -> None:
    async with running(model_of(engine()), language="de", voice="cai") as server:
        assert await spoken_by(server) == "bea"
    async with running(model_of(engine()), language="nb", voice="cai") as server:
        assert await spoken_by(server) == "cai"


async def test_without_a_voice_for_it_the_default_voice_speaks_and_the_log_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        async with running(model_of(engine()), language="fr", voice="cai") as server:
            assert await spoken_by(server) == "cai"
            await asyncio.sleep(0)
    assert "--language has no effect: No voice speaks 'fr'" in caplog.text


MIXED = "Das Licht im Wohnzimmer ist an. The washing machine has finished. Es sind 21 Grad draußen."
"""Two German sentences around an English one."""


def house(**settings: Any) -> tuple[ToneEngine, Any]:
    """The server of a German and English house, and its engine; ann is the English voice, bea the German."""
    made = engine()
    return made, running(model_of(made), languages=("de,en",), first_clause_words=0, **settings)


@pytest.mark.parametrize("streamed", [False, True])
async def test_each_sentence_is_spoken_in_the_language_it_is_written_in(streamed: bool) -> None:
    made, serving = house(voice="bea")
    async with serving as server, server.client() as client:
        answer = await (stream(client, list(MIXED)) if streamed else synthesize(client, MIXED))
    assert made.spoken_by == ["bea", "ann", "bea"]
    assert answer.types.count("audio-start") == 1 and answer.start["voice"] == "bea"


async def test_an_utterance_begins_in_the_language_of_its_first_sentence() -> None:
    made, serving = house(voice="bea")
    async with serving as server, server.client() as client:
        answer = await synthesize(client, "The washing machine has finished. OK.")
    assert made.spoken_by == ["ann", "ann"] and answer.start["voice"] == "ann"


@pytest.mark.parametrize(
    ("settings", "request_voice", "speaker"),
    [
        ({"detect_language": False}, {}, "bea"),
        ({"language": "de"}, {}, "bea"),
        ({}, {"name": "bea"}, "bea"),
        ({}, {"name": "cai"}, "cai"),
        ({}, {"language": "de"}, "bea"),
        ({}, {"name": "bea?seed=3"}, "bea"),
    ],
)
async def test_who_names_a_language_or_a_voice_gets_it(
    settings: dict[str, Any], request_voice: dict[str, str], speaker: str
) -> None:
    made, serving = house(voice="bea", **settings)
    async with serving as server, server.client() as client:
        await client.write_event(Event("synthesize", {"text": MIXED, "voice": request_voice}))
        await read_answer(client, "audio-stop")
    assert made.spoken_by == [speaker] * 3


async def test_settings_without_a_voice_leave_the_language_to_the_text() -> None:
    made, serving = house(voice="bea")
    async with serving as server, server.client() as client:
        await client.write_event(Event("synthesize", {"text": MIXED, "voice": {"name": "?seed=3"}}))
        await read_answer(client, "audio-stop")
    assert made.spoken_by == ["bea", "ann", "bea"]
    assert {settings.seed for settings in made.settings} == {3}


async def test_a_house_of_one_language_loads_nothing() -> None:
    for languages in ((), ("de",), ("de,fr",)):
        async with running(model_of(engine()), languages=languages) as server:
            assert server.server.service._detector is None
