"""Selects the voice that a request asks for, by name, alias, speaker or language."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from urllib.parse import parse_qsl

from ..errors import WyomingChatterboxError
from ..language_codes import language_tag, same_language
from ..limits import MAX_NAME_SETTINGS
from .names import name_key
from .voice import Voice

_MAX_LISTED = 20
"""Names in an error message; the complete list is available from the server."""


class UnknownVoice(WyomingChatterboxError, LookupError):
    """There is no such voice; the message lists similar names."""


class MalformedName(WyomingChatterboxError, ValueError):
    """The part after the `?` in a voice's name is not a valid list of settings."""


def split_name(name: str | None) -> tuple[str | None, dict[str, str]]:
    """Splits a voice's name as a client sends it: `anna?exaggeration=0.8&seed=3` → ("anna", {…}).

    `?exaggeration=0.8` alone means the default voice, None. The settings themselves are not checked.

    Raises:
        MalformedName: the settings cannot be parsed; the message says why.
    """
    if name is None or "?" not in name:
        return name, {}
    voice, _, query = name.partition("?")
    try:
        pairs = parse_qsl(
            query,
            keep_blank_values=True,
            strict_parsing=bool(query),
            errors="strict",
            max_num_fields=MAX_NAME_SETTINGS,
        )
    except ValueError:
        raise MalformedName(
            f"voice: {name!r} cannot be parsed; write name?setting=value&setting=value, with at most "
            f"{MAX_NAME_SETTINGS} settings"
        ) from None
    settings = dict(pairs)
    if len(settings) < len(pairs):
        keys = [key for key, _ in pairs]
        duplicate = next(key for key in keys if keys.count(key) > 1)
        raise MalformedName(f"{duplicate}: appears twice in {name!r}; remove one of them")
    return voice.strip() or None, settings


def find_voice(
    voices: Sequence[Voice],
    *,
    name: str | None = None,
    language: str | None = None,
    speaker: str | None = None,
    default: str | None = None,
) -> Voice:
    """Returns the voice that a request asks for.

    Args:
        voices: all voices, including hidden ones; the first is the default if `default` is None.
        name: name or alias; takes precedence over the language. Case and Unicode composition are ignored.
        language: "en", "en_US" and "en-US" all find a voice for "en", and "no" finds one for "nb". For a named voice
            with several languages, selects the variant that speaks this language.
        speaker: speaker of the named voice, or of the default voice.
        default: name of the voice for requests that name none.

    Raises:
        UnknownVoice: no voice matches; the message names the request and the available voices.
    """
    if not voices:
        raise UnknownVoice("There are no voices yet; put a clip into the folder of voices (--voices-dir)")
    if name is not None:
        matches = _named(voices, name)
        if not matches:
            raise UnknownVoice(_unknown_name(voices, name))
        same_base = [voice for voice in voices if matches[0].base and voice.base == matches[0].base]
        if language is not None and not _speaks(matches[0], language) and name_key(name) == name_key(matches[0].base):
            matches = _best_match(same_base, language) or matches
        return _select_speaker(matches, speaker)
    preferred = (_named(voices, default) if default is not None else []) or _speakers_of(voices, voices[0])
    if language is None or _speaks(preferred[0], language):
        return _select_speaker(preferred, speaker)
    same_base = [voice for voice in voices if preferred[0].base and voice.base == preferred[0].base]
    listed = [voice for voice in voices if not voice.hidden]
    best = _best_match(same_base, language) or _best_match(listed, language)
    if best:
        return _select_speaker(best, speaker)
    codes = ", ".join(sorted({code for voice in listed for code in voice.languages}))
    raise UnknownVoice(f"No voice speaks {language!r}; available languages: {codes}")


def _named(voices: Sequence[Voice], name: str) -> list[Voice]:
    """Returns the speakers of the voice with a name, or an alias; names take precedence over aliases."""
    key = name_key(name)
    named = [voice for voice in voices if name_key(voice.name) == key]
    return named or [voice for voice in voices if key in (name_key(alias) for alias in voice.aliases)]


def _speakers_of(voices: Sequence[Voice], first: Voice) -> list[Voice]:
    """Returns a voice and the other speakers that share its name."""
    return [first, *(voice for voice in voices if voice is not first and voice.name == first.name)]


def _select_speaker(speakers: Sequence[Voice], speaker: str | None) -> Voice:
    """Returns the requested speaker of a voice, or its first. Raises UnknownVoice if it has no such speaker."""
    if speaker is None:
        return speakers[0]
    name = speakers[0].name
    by_speaker = {name_key(voice.speaker): voice for voice in speakers if voice.speaker is not None}
    if not by_speaker:
        if name_key(speaker) == name_key(name):
            return speakers[0]
        raise UnknownVoice(f"Voice {name!r} has no speaker {speaker!r}; omit the speaker")
    selected = by_speaker.get(name_key(speaker))
    if selected is None:
        available = ", ".join(voice.speaker or "" for voice in by_speaker.values())
        raise UnknownVoice(f"Voice {name!r} has no speaker {speaker!r}; available: {available}")
    return selected


def _unknown_name(voices: Sequence[Voice], name: str) -> str:
    """Returns the error message for a name that no voice has."""
    known: dict[str, str] = {}
    for voice in voices:
        if not voice.hidden:
            for known_name in (voice.name, *voice.aliases):
                known.setdefault(name_key(known_name), known_name)
    similar = difflib.get_close_matches(name_key(name), known, n=3)
    if similar:
        return f"There is no voice {name!r}; similar names: {', '.join(known[key] for key in similar)}"
    names = list(dict.fromkeys(voice.name for voice in voices if not voice.hidden))
    rest = f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
    return f"There is no voice {name!r}; available: {', '.join(names[:_MAX_LISTED])}{rest}"


def _best_match(voices: Iterable[Voice], language: str) -> list[Voice]:
    """Returns the speakers of the first voice for exactly this language tag, else for the same language."""
    voices = list(voices)
    exact = [voice for voice in voices if any(language_tag(code) == language_tag(language) for code in voice.languages)]
    matches = exact or [voice for voice in voices if _speaks(voice, language)]
    return [voice for voice in matches if voice.name == matches[0].name]


def _speaks(voice: Voice, language: str) -> bool:
    return any(same_language(code, language) for code in voice.languages)
