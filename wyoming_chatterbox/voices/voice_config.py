"""NAME.yaml beside a clip: the settings of its voice, and what people are told about it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import SettingsError
from ..limits import MAX_VOICE_ALIASES, MAX_VOICE_LANGUAGES, MAX_VOICE_TEXT_CHARS
from ..speech_settings import voice_knobs
from .errors import VoiceError
from .names import check_name

_KNOBS = {knob.name: knob for knob in voice_knobs()}
"""Settings of the server that a voice may change."""

_TAG = re.compile(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8}){0,3}")
"""Language, and perhaps script and region; "en", "en_US", "zh-Hant-TW"."""


@dataclass(frozen=True)
class VoiceConfig:
    """The content of a voice's settings file; the defaults are those of a voice without one."""

    title: str = ""
    languages: tuple[str, ...] = ()
    model: str = ""
    attribution: str = ""
    url: str = ""
    licence: str = ""
    aliases: tuple[str, ...] = ()
    hidden: bool = False
    settings: Mapping[str, object] = field(default_factory=dict)


def parse_voice_config(content: bytes, models: tuple[str, ...]) -> VoiceConfig:
    """Returns the content of a settings file.

    Args:
        content: UTF-8 text in YAML; may be empty.
        models: names of the models that clone.

    Raises:
        VoiceError: something in it is wrong; the message names every such key, its value and what is allowed.
    """
    values = _mapping(content)
    wrong: list[str] = []
    fields: dict[str, Any] = {}
    overrides: dict[str, object] = {}
    for key, value in values.items():
        try:
            if key in _KNOBS:
                overrides[key] = _KNOBS[key].coerce(value)
            elif key in _READERS:
                name, read = _READERS[key]
                if name in fields:
                    raise VoiceError(f"{key}: is given twice, in two spellings; leave one out")
                fields[name] = read(key, value)
            else:
                raise VoiceError(f"{key}: {_unknown(key)}")
        except (SettingsError, VoiceError) as error:
            wrong.append(str(error))
    model = fields.get("model", "")
    if model and model not in models:
        wrong.append(f"model: {model!r} cannot clone a voice (allowed: {', '.join(models)})")
    if wrong:
        raise VoiceError("; ".join(wrong))
    return VoiceConfig(**fields, settings=overrides)


def _mapping(content: bytes) -> dict[str, object]:
    import yaml

    class Loader(yaml.SafeLoader):
        """Plain values only: no tags that construct things, no anchors, no key twice."""

        def compose_node(self, parent: Any, index: Any) -> Any:
            # A few lines of anchors that refer to each other expand to gigabytes.
            if self.check_event(yaml.events.AliasEvent) or getattr(self.peek_event(), "anchor", None):
                raise VoiceError("anchors and aliases (& and *) are not allowed; write the value out")
            return super().compose_node(parent, index)

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            keys = [key.value for key, _ in node.value]
            twice = next((key for key in keys if keys.count(key) > 1), None)
            if twice is not None:
                raise VoiceError(f"{twice}: is given twice; leave one out")
            return super().construct_mapping(node, deep)

    try:
        values = yaml.load(content.decode("utf-8-sig"), Loader)
    except UnicodeDecodeError:
        raise VoiceError("it is not text in UTF-8; save it as UTF-8") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark is not None else ""
        reason = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise VoiceError(f"{where}it is not YAML ({reason}); write lines such as `exaggeration: 0.7`") from None
    except (ValueError, RecursionError) as error:  # a date that does not exist, brackets in brackets
        raise VoiceError(f"it cannot be read ({type(error).__name__}: {error}); write one value in a line") from None
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise VoiceError("it is not a list of settings; write lines such as `exaggeration: 0.7`")
    return values


def _unknown(key: str) -> str:
    known = [*_READERS, *_KNOBS]
    near = difflib.get_close_matches(key, known, n=1)
    return f"unknown key; did you mean {near[0]}?" if near else f"unknown key; known: {', '.join(sorted(known))}"


def _text(key: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise VoiceError(f"{key}: {_shown(value)} is not a line of text; put it in quotes")
    if len(value) > MAX_VOICE_TEXT_CHARS:
        raise VoiceError(f"{key}: has {len(value)} characters (allowed: 1 to {MAX_VOICE_TEXT_CHARS})")
    return value.strip()


def _texts(key: str, value: object, maximum: int) -> tuple[str, ...]:
    values = value if isinstance(value, list) else [value]
    if not 1 <= len(values) <= maximum:
        raise VoiceError(f"{key}: {len(values)} of them (allowed: 1 to {maximum})")
    return tuple(dict.fromkeys(_text(key, text) for text in values))


def _languages(key: str, value: object) -> tuple[str, ...]:
    # In YAML 1.1 the code for Norwegian, `no`, means false.
    values = ["no" if code is False else code for code in (value if isinstance(value, list) else [value])]
    codes = _texts(key, values, MAX_VOICE_LANGUAGES)
    bad = next((code for code in codes if not _TAG.fullmatch(code)), None)
    if bad is not None:
        raise VoiceError(f"{key}: {bad!r} is not a language (allowed: codes such as en, en-US, nb)")
    return codes


def _aliases(key: str, value: object) -> tuple[str, ...]:
    try:
        return tuple(check_name(alias) for alias in _texts(key, value, MAX_VOICE_ALIASES))
    except VoiceError as error:
        raise VoiceError(str(error) if str(error).startswith(key) else f"{key}: {error}") from None


def _url(key: str, value: object) -> str:
    url = _text(key, value)
    if not url.startswith(("https://", "http://")) or " " in url:
        raise VoiceError(f"{key}: {url!r} is not an address (allowed: https://…)")
    return url


def _flag(key: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise VoiceError(f"{key}: {_shown(value)} is not a valid value (allowed: true, false)")
    return value


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 50 else f"{text[:50]}…"


_READERS: dict[str, tuple[str, Callable[[str, object], object]]] = {
    "title": ("title", _text),
    "language": ("languages", _languages),
    "languages": ("languages", _languages),
    "model": ("model", _text),
    "attribution": ("attribution", _text),
    "url": ("url", _url),
    "licence": ("licence", _text),
    "license": ("licence", _text),
    "aliases": ("aliases", _aliases),
    "hidden": ("hidden", _flag),
}
"""By key of the file: (field of VoiceConfig, how its value is read)."""
