"""Wyoming events as dataclasses: what clients send, checked field by field, and what they are sent.

`wyoming` has dataclasses of its own, which believe what a client sends. Those of this file that a client sends are
therefore read with `from_event`, which raises a SpeechError that says what is wrong; those that the server sends become
events with `event`. What only `wyoming` has fields for (Info, Pong, SynthesizeStopped) is taken from there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import wyoming.audio
import wyoming.error
from wyoming.event import Event

from ..audio import CHANNELS, SAMPLE_WIDTH
from ..limits import MAX_NAME_CHARS, MAX_QUOTED_CHARS
from ..speech.errors import EmptyText, InvalidEvent, SpeechError, UnsupportedTextFormat
from ..voices.voice import Voice
from .info import PROGRAM_NAME

_JSON_TYPES = {dict: "an object", list: "an array", int: "a number", float: "a number", bool: "a boolean"}


@dataclass(frozen=True)
class VoiceChoice:
    """The `voice` of a request, which may be absent, null or empty."""

    name: str | None = None
    language: str | None = None
    """Ignored when `name` is set."""

    speaker: str | None = None
    """Of a voice that has several."""

    @classmethod
    def from_event(cls, event: Event) -> VoiceChoice:
        """Raises InvalidEvent."""
        voice = event.data.get("voice")
        if voice is None:
            return cls()
        if not isinstance(voice, dict):
            raise InvalidEvent(f"The voice is {truncate(voice)}, not an object")
        chosen: dict[str, str | None] = {}
        for key in ("name", "language", "speaker"):
            value = voice.get(key)
            if value is not None and not isinstance(value, str):
                raise not_a_string(f"voice's {key}", value)
            if value and len(value) > MAX_NAME_CHARS:
                raise InvalidEvent(f"The voice's {key} has {len(value)} characters; at most {MAX_NAME_CHARS} are taken")
            chosen[key] = value or None
        return cls(**chosen)


# Sent by clients


@dataclass(frozen=True)
class Ping:
    """Asks for a `pong`."""

    type: ClassVar = "ping"
    text: str | None = None
    """Comes back in the answer; what is not a string does not."""

    @classmethod
    def from_event(cls, event: Event) -> Ping:
        text = event.data.get("text")
        return cls(text if isinstance(text, str) else None)


@dataclass(frozen=True)
class SelectProgram:
    """Names the program of Info that is to speak, from now on."""

    type: ClassVar = "select-program"
    name: str = PROGRAM_NAME

    @classmethod
    def from_event(cls, event: Event) -> SelectProgram:
        """Raises InvalidEvent."""
        name = event.data.get("name")
        if not isinstance(name, str):
            raise not_a_string("program", name)
        return cls(name)


@dataclass(frozen=True)
class SynthesizeStart:
    """Begins a request whose text follows in `synthesize-chunk` events."""

    type: ClassVar = "synthesize-start"
    voice: VoiceChoice = VoiceChoice()
    ssml: bool = False
    """The text is SSML rather than plain text."""

    @classmethod
    def from_event(cls, event: Event) -> SynthesizeStart:
        """Raises InvalidEvent or UnsupportedTextFormat."""
        return cls(VoiceChoice.from_event(event), _is_ssml(event))


@dataclass(frozen=True)
class Synthesize:
    """A request with its whole text."""

    type: ClassVar = "synthesize"
    text: str
    voice: VoiceChoice = VoiceChoice()
    ssml: bool = False
    """The text is SSML rather than plain text."""

    @classmethod
    def from_event(cls, event: Event) -> Synthesize:
        """Raises InvalidEvent, UnsupportedTextFormat or EmptyText."""
        voice, ssml = VoiceChoice.from_event(event), _is_ssml(event)
        text = event.data.get("text")
        if text is None:
            raise EmptyText("The synthesize event has no text")
        if not isinstance(text, str):
            raise not_a_string("text", text)
        return cls(text, voice, ssml)


@dataclass(frozen=True)
class SynthesizeChunk:
    """More of the text of the request that `synthesize-start` began."""

    type: ClassVar = "synthesize-chunk"
    text: str

    @classmethod
    def from_event(cls, event: Event) -> SynthesizeChunk:
        """Raises InvalidEvent."""
        text = event.data.get("text")
        if not isinstance(text, str):
            raise not_a_string("text", text)
        return cls(text)


DESCRIBE = "describe"
"""Asks for Info; it has no data."""

SYNTHESIZE_STOP = "synthesize-stop"
"""Ends the text of a streaming request; it has no data."""

CLIENT_EVENTS = (Ping, SelectProgram, Synthesize, SynthesizeStart, SynthesizeChunk)
"""The events of clients whose data is read."""


# Sent by the server


@dataclass(frozen=True)
class SpokenBy:
    """Who speaks an answer. Clients skip fields they do not know; script/say shows these."""

    voice: Voice
    fallback: bool
    """The voice is not the one asked for: its model cannot speak now."""


@dataclass(frozen=True)
class AudioStart:
    """The beginning of an answer's audio."""

    rate: int
    """Samples per second."""

    spoken_by: SpokenBy | None = None
    """None: the answer has no audio."""

    def event(self) -> Event:
        start = wyoming.audio.AudioStart(rate=self.rate, width=SAMPLE_WIDTH, channels=CHANNELS, timestamp=0)
        return _with_speaker(start.event(), self.spoken_by)


@dataclass(frozen=True)
class AudioChunk:
    """Some of an answer's audio."""

    rate: int
    pcm: bytes
    """16-bit mono."""

    seconds: float
    """Of audio before it."""

    def event(self) -> Event:
        return wyoming.audio.AudioChunk(
            rate=self.rate, width=SAMPLE_WIDTH, channels=CHANNELS, timestamp=round(self.seconds * 1000), audio=self.pcm
        ).event()


@dataclass(frozen=True)
class AudioStop:
    """The end of an answer's audio."""

    seconds: float
    """Of audio in the answer."""

    spoken_by: SpokenBy | None = None
    """Who spoke last; None: the answer has no audio."""

    def event(self) -> Event:
        return _with_speaker(wyoming.audio.AudioStop(timestamp=round(self.seconds * 1000)).event(), self.spoken_by)


@dataclass(frozen=True)
class Error:
    """Why a request, or the connection, cannot be served."""

    error: SpeechError

    def event(self) -> Event:
        return wyoming.error.Error(text=str(self.error), code=self.error.code).event()


SERVER_EVENTS = (AudioStart, AudioChunk, AudioStop, Error)


def truncate(value: object) -> str:
    """Returns what a client sent, fit for a log line and an error message."""
    text = repr(value)
    return text if len(text) <= MAX_QUOTED_CHARS else text[: MAX_QUOTED_CHARS - 3] + "..."


def not_a_string(what: str, value: Any) -> InvalidEvent:
    """Returns the error for a value that must be a string; it names the type only: the value may be spoken text."""
    return InvalidEvent(f"The {what} is {_JSON_TYPES.get(type(value), type(value).__name__)}, not a string")


def _is_ssml(event: Event) -> bool:
    text_format = event.data.get("text_format")
    if text_format in (None, "text"):
        return False
    if text_format == "ssml":
        return True
    raise UnsupportedTextFormat(f"The text format {truncate(text_format)} is unknown (allowed: text, ssml)")


def _with_speaker(event: Event, spoken_by: SpokenBy | None) -> Event:
    if spoken_by is not None:
        voice = spoken_by.voice
        event.data.update(model=voice.model, voice=voice.name, fallback=spoken_by.fallback)
    return event
