"""The dataclasses of events: `wyoming`'s own read and write the same, and what makes no sense is refused."""

from __future__ import annotations

from typing import Any

import pytest
import wyoming.audio
import wyoming.error
import wyoming.ping
import wyoming.tts
from wyoming.event import Event

from wyoming_chatterbox.audio import CHANNELS, SAMPLE_WIDTH
from wyoming_chatterbox.protocol import events
from wyoming_chatterbox.protocol.info import PROGRAM_NAME
from wyoming_chatterbox.protocol.reader import HANDLED
from wyoming_chatterbox.speech.errors import (
    EmptyText,
    InvalidEvent,
    ProgramNotFound,
    SpeechError,
    UnsupportedTextFormat,
)
from wyoming_chatterbox.testing.engines import ToneEngine

VOICE = wyoming.tts.SynthesizeVoice(name="ada", speaker="low")
CHOICE = events.VoiceChoice(name="ada", speaker="low")
LONG = "x" * (events.MAX_NAME_CHARS + 1)
SPOKEN_BY = events.SpokenBy(ToneEngine().voices[0], fallback=True)

FROM_CLIENTS: list[tuple[Event, Any]] = [
    (wyoming.ping.Ping(text="hello").event(), events.Ping("hello")),
    (wyoming.ping.Ping().event(), events.Ping()),
    (Event("ping", {"text": ["hello"]}), events.Ping()),
    (Event("select-program", {"name": PROGRAM_NAME}), events.SelectProgram()),
    (wyoming.tts.Synthesize("Hello.").event(), events.Synthesize("Hello.")),
    (wyoming.tts.Synthesize("Hello.", voice=VOICE).event(), events.Synthesize("Hello.", CHOICE)),
    (Event("synthesize", {"text": "", "text_format": "ssml"}), events.Synthesize("", ssml=True)),
    (Event("synthesize", {"text": "a", "text_format": "text", "voice": {"name": ""}}), events.Synthesize("a")),
    (wyoming.tts.SynthesizeStart().event(), events.SynthesizeStart()),
    (wyoming.tts.SynthesizeStart(voice=VOICE).event(), events.SynthesizeStart(CHOICE)),
    (
        Event("synthesize-start", {"voice": {"language": "de"}, "text_format": "ssml"}),
        events.SynthesizeStart(events.VoiceChoice(language="de"), ssml=True),
    ),
    (wyoming.tts.SynthesizeChunk("Hel").event(), events.SynthesizeChunk("Hel")),
]

REFUSED: list[tuple[type[Any], dict[str, Any], type[SpeechError], str]] = [
    (events.SelectProgram, {}, InvalidEvent, "The program is NoneType, not a string"),
    (events.SelectProgram, {"name": 7}, InvalidEvent, "The program is a number, not a string"),
    (events.Synthesize, {}, EmptyText, "The synthesize event has no text"),
    (events.Synthesize, {"text": 7}, InvalidEvent, "The text is a number, not a string"),
    (events.Synthesize, {"text": "a", "text_format": 1}, UnsupportedTextFormat, "The text format 1 is unknown"),
    (events.SynthesizeStart, {"text_format": "md"}, UnsupportedTextFormat, "The text format 'md' is unknown"),
    (events.SynthesizeStart, {"voice": "ada"}, InvalidEvent, "The voice is 'ada', not an object"),
    (events.SynthesizeStart, {"voice": {"name": ["ada"]}}, InvalidEvent, "The voice's name is an array"),
    (events.SynthesizeStart, {"voice": {"language": {}}}, InvalidEvent, "The voice's language is an object"),
    (events.SynthesizeStart, {"voice": {"speaker": True}}, InvalidEvent, "The voice's speaker is a boolean"),
    (events.SynthesizeStart, {"voice": {"name": LONG}}, InvalidEvent, "at most 200 are taken"),
    (events.SynthesizeChunk, {}, InvalidEvent, "The text is NoneType, not a string"),
    (events.SynthesizeChunk, {"text": 1.5}, InvalidEvent, "The text is a number, not a string"),
]

TO_CLIENTS: list[tuple[Any, Any]] = [
    (events.AudioStart(24000), wyoming.audio.AudioStart(24000, SAMPLE_WIDTH, CHANNELS, timestamp=0)),
    (events.AudioStart(16000, SPOKEN_BY), wyoming.audio.AudioStart(16000, SAMPLE_WIDTH, CHANNELS, timestamp=0)),
    (
        events.AudioChunk(24000, b"\x01\x00\x02\x00", 0.1234),
        wyoming.audio.AudioChunk(24000, SAMPLE_WIDTH, CHANNELS, b"\x01\x00\x02\x00", timestamp=123),
    ),
    (events.AudioStop(1.5, SPOKEN_BY), wyoming.audio.AudioStop(timestamp=1500)),
    (events.Error(ProgramNotFound("none")), wyoming.error.Error("none", "program-not-found")),
]


@pytest.mark.parametrize(("event", "expected"), FROM_CLIENTS, ids=lambda value: getattr(value, "type", ""))
def test_what_a_client_sends_is_read(event: Event, expected: Any) -> None:
    assert event.type == type(expected).type
    assert type(expected).from_event(event) == expected


@pytest.mark.parametrize(("kind", "data", "error", "message"), REFUSED)
def test_what_makes_no_sense_is_refused(
    kind: type[Any], data: dict[str, Any], error: type[SpeechError], message: str
) -> None:
    with pytest.raises(error) as refused:
        kind.from_event(Event(kind.type, data))
    assert type(refused.value) is error and message in str(refused.value)


@pytest.mark.parametrize(("event", "expected"), TO_CLIENTS, ids=lambda value: type(value).__name__)
def test_what_the_server_sends_is_what_wyoming_reads(event: Any, expected: Any) -> None:
    assert type(expected).from_event(event.event()) == expected


@pytest.mark.parametrize("event", [events.AudioStart(24000, SPOKEN_BY), events.AudioStop(1.0, SPOKEN_BY)])
def test_who_speaks_stands_in_the_event(event: Any) -> None:
    data = event.event().data
    assert (data["model"], data["voice"], data["fallback"]) == ("tone", "tone", True)


def test_every_event_is_tested_and_those_with_data_are_read() -> None:
    assert {type(expected) for _, expected in FROM_CLIENTS} == set(events.CLIENT_EVENTS)
    assert {type(event) for event, _ in TO_CLIENTS} == set(events.SERVER_EVENTS)
    assert {event.type for event in events.CLIENT_EVENTS} == HANDLED


def test_a_value_of_a_client_is_truncated_for_the_log() -> None:
    assert events.truncate("short") == "'short'"
    assert len(events.truncate("x" * 1000)) == events.MAX_QUOTED_CHARS
