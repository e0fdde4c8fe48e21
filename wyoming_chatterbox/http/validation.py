"""What pydantic finds wrong, in the words of the settings."""

from __future__ import annotations

from typing import Any

from ..errors import SettingsError
from ..knobs import unknown_setting
from ..limits import MAX_QUOTED_CHARS
from ..settings import Settings
from ..speech.errors import InvalidSetting, SpeechError
from .errors import InvalidRequest
from .schemas import KNOBS, SpeechBody

_DEFAULTS = Settings().utterance

_SPOKEN_FIELDS = frozenset({"text", "input", "instructions"})
"""Their values are what people say: no message, and so no log line, repeats them."""


def to_speech_error(errors: list[Any]) -> tuple[SpeechError, str | None]:
    """Returns the error for the first thing that is wrong, with field, value and what is allowed; and the field."""
    first = errors[0]
    if first["type"] == "json_invalid":
        return InvalidRequest(f"The body is not JSON: {first['ctx']['error']}"), None
    where, path = first["loc"][:1], [str(part) for part in first["loc"][1:]]  # where: the body, or a message's type
    field = path[0] if path else None
    if field is None:
        remedy = "; send a JSON object with Content-Type: application/json" if where == ("body",) else ""
        return InvalidRequest(first["msg"] + remedy), None
    if field in KNOBS:
        try:
            _DEFAULTS.with_overrides({field: first["input"]})
        except SettingsError as error:
            return InvalidSetting(str(error)), field
        return InvalidSetting(f"{field}: {_shortened(first['input'])} is not of the right type"), field
    if first["type"] == "extra_forbidden" and len(path) == 1:
        known = SpeechBody.model_fields if where == ("body",) else KNOBS
        return InvalidSetting(str(unknown_setting(field, list(known)))), field
    received = "" if field in _SPOKEN_FIELDS or first["type"] == "missing" else f", not {_shortened(first['input'])}"
    return InvalidRequest(f"{field}: {first['msg']}{received}"), field


def _shortened(value: object) -> str:
    """Returns the value for an error message; of objects and arrays the type alone, since any field of theirs may be a
    text."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "an array"
    text = repr(value)
    return text if len(text) <= MAX_QUOTED_CHARS else text[: MAX_QUOTED_CHARS - 3] + "..."
