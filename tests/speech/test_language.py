"""--language: what a request gets that names neither a voice nor a language, as Home Assistant's often do."""

from __future__ import annotations

import asyncio
import dataclasses
import logging

import pytest
from wyoming.event import Event

from wyoming_chatterbox.testing.engines import ToneEngine, model_of
from wyoming_chatterbox.testing.serving import Running, read_answer, running, synthesize


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
