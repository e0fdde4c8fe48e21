"""Parses NAME.yaml beside a clip: the voice's settings and its description."""

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
"""Settings of the server that a voice may override."""

_TAG = re.compile(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8}){0,3}")
"""A language with optional script and region: "en", "en_US", "zh-Hant-TW"."""


@dataclass(frozen=True)
class VoiceConfig:
    """The content of a voice's settings file; the defaults are those of a voice without one."""

    title: str = ""
    languages: tuple[str, ...] = ()
    clip_language: str = ""
    """Code of the language that is spoken in the clips; empty: unknown."""

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
        models: names of the models that can clone voices.

    Raises:
        VoiceError: the content is invalid; the message names every invalid key, its value and what is allowed.
    """
    values = _mapping(content)
    invalid: list[str] = []
    fields: dict[str, Any] = {}
    overrides: dict[str, object] = {}
    for key, value in values.items():
        try:
            if key in _KNOBS:
                overrides[key] = _KNOBS[key].coerce(value)
            elif key in _READERS:
                name, read = _READERS[key]
                if name in fields:
                    raise VoiceError(f"{key}: appears twice, in two spellings; remove one of them")
                fields[name] = read(key, value)
            else:
                raise VoiceError(f"{key}: {_unknown(key)}")
        except (SettingsError, VoiceError) as error:
            invalid.append(str(error))
    model = fields.get("model", "")
    if model and model not in models:
        invalid.append(f"model: {model!r} cannot clone a voice (allowed: {', '.join(models)})")
    if invalid:
        raise VoiceError("; ".join(invalid))
    return VoiceConfig(**fields, settings=overrides)


def _mapping(content: bytes) -> dict[str, object]:
    import yaml

    class Loader(yaml.SafeLoader):
        """Plain values only: no tags that construct objects, no anchors, no duplicate keys."""

        def compose_node(self, parent: Any, index: Any) -> Any:
            # A few lines of nested anchors expand to gigabytes.
            if self.check_event(yaml.events.AliasEvent) or getattr(self.peek_event(), "anchor", None):
                raise VoiceError("anchors and aliases (& and *) are not allowed; repeat the value instead")
            return super().compose_node(parent, index)

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            keys = [key.value for key, _ in node.value]
            duplicate = next((key for key in keys if keys.count(key) > 1), None)
            if duplicate is not None:
                raise VoiceError(f"{duplicate}: appears twice; remove one of them")
            return super().construct_mapping(node, deep)

    try:
        values = yaml.load(content.decode("utf-8-sig"), Loader)
    except UnicodeDecodeError:
        raise VoiceError("it is not UTF-8 text; save it as UTF-8") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark is not None else ""
        reason = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise VoiceError(f"{where}it is not YAML ({reason}); write lines such as `exaggeration: 0.7`") from None
    except (ValueError, RecursionError) as error:  # an invalid date, deeply nested brackets
        raise VoiceError(f"it cannot be read ({type(error).__name__}: {error}); write one value per line") from None
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
        raise VoiceError(f"{key}: {_truncated(value)} is not a single line of text; put it in quotes")
    if len(value) > MAX_VOICE_TEXT_CHARS:
        raise VoiceError(f"{key}: has {len(value)} characters (allowed: 1 to {MAX_VOICE_TEXT_CHARS})")
    return value.strip()


def _texts(key: str, value: object, maximum: int) -> tuple[str, ...]:
    values = value if isinstance(value, list) else [value]
    if not 1 <= len(values) <= maximum:
        raise VoiceError(f"{key}: has {len(values)} entries (allowed: 1 to {maximum})")
    return tuple(dict.fromkeys(_text(key, text) for text in values))


def _languages(key: str, value: object) -> tuple[str, ...]:
    # In YAML 1.1 the code for Norwegian, `no`, means false.
    values = ["no" if code is False else code for code in (value if isinstance(value, list) else [value])]
    codes = _texts(key, values, MAX_VOICE_LANGUAGES)
    bad = next((code for code in codes if not _TAG.fullmatch(code)), None)
    if bad is not None:
        raise VoiceError(f"{key}: {bad!r} is not a language code (allowed: codes such as en, en-US, nb)")
    return codes


def _one_language(key: str, value: object) -> str:
    codes = _languages(key, value)
    if len(codes) > 1:
        raise VoiceError(f"{key}: has {len(codes)} entries (allowed: 1); give a clip of one language")
    return codes[0]


def _aliases(key: str, value: object) -> tuple[str, ...]:
    try:
        return tuple(check_name(alias) for alias in _texts(key, value, MAX_VOICE_ALIASES))
    except VoiceError as error:
        raise VoiceError(str(error) if str(error).startswith(key) else f"{key}: {error}") from None


def _url(key: str, value: object) -> str:
    url = _text(key, value)
    if not url.startswith(("https://", "http://")) or " " in url:
        raise VoiceError(f"{key}: {url!r} is not a URL (allowed: https://…)")
    return url


def _flag(key: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise VoiceError(f"{key}: {_truncated(value)} is not a valid value (allowed: true, false)")
    return value


def _truncated(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 50 else f"{text[:50]}…"


_READERS: dict[str, tuple[str, Callable[[str, object], object]]] = {
    "title": ("title", _text),
    "language": ("languages", _languages),
    "languages": ("languages", _languages),
    "clip_language": ("clip_language", _one_language),
    "model": ("model", _text),
    "attribution": ("attribution", _text),
    "url": ("url", _url),
    "licence": ("licence", _text),
    "license": ("licence", _text),
    "aliases": ("aliases", _aliases),
    "hidden": ("hidden", _flag),
}
"""By key in the file: (field of VoiceConfig, function that parses its value)."""
