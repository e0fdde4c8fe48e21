"""What a client asks for: the fields of its events, looked at before they are believed."""

from __future__ import annotations

from typing import Any

from wyoming.event import Event

from ..speech.errors import InvalidEvent, UnsupportedTextFormat
from .events import shortened

_JSON_TYPES = {dict: "an object", list: "an array", int: "a number", float: "a number", bool: "a boolean"}

MAX_NAME_CHARS = 200
"""Of voices, speakers and languages; looking for near names costs more than a millisecond beyond."""


def chosen_voice(event: Event) -> tuple[str | None, str | None, str | None]:
    """(name, language, speaker) of an event's voice, which may be absent, null or empty. Raises InvalidEvent."""
    voice = event.data.get("voice")
    if voice is None:
        return None, None, None
    if not isinstance(voice, dict):
        raise InvalidEvent(f"The voice is {shortened(voice)}, not an object")
    chosen: list[str | None] = []
    for key in ("name", "language", "speaker"):
        value = voice.get(key)
        if value is not None and not isinstance(value, str):
            raise no_string(f"voice's {key}", value)
        if value and len(value) > MAX_NAME_CHARS:
            raise InvalidEvent(f"The voice's {key} has {len(value)} characters; at most {MAX_NAME_CHARS} are taken")
        chosen.append(value or None)
    return chosen[0], chosen[1], chosen[2]


def is_ssml(event: Event) -> bool:
    """Whether the text is SSML. Raises UnsupportedTextFormat for what is neither that nor plain text."""
    text_format = event.data.get("text_format")
    if text_format in (None, "text"):
        return False
    if text_format == "ssml":
        return True
    raise UnsupportedTextFormat(f"The text format {shortened(text_format)} is unknown (allowed: text, ssml)")


def no_string(what: str, value: Any) -> InvalidEvent:
    """The error for a value that has to be a string; it names the type only, as the value may be spoken text."""
    return InvalidEvent(f"The {what} is {_JSON_TYPES.get(type(value), type(value).__name__)}, not a string")
