"""Which voice a request means."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from urllib.parse import parse_qsl

from ..errors import WyomingChatterboxError
from ..limits import MAX_NAME_SETTINGS
from .names import name_key
from .voice import Voice

_MAX_OFFERED = 20
"""Names in a message; who has more voices than that looks into the list."""

_SAME_LANGUAGE = {"nb": "no", "nn": "no", "iw": "he", "in": "id", "ji": "yi", "fil": "tl", "cmn": "zh"}
"""Codes that mean a language which models know by another one: Bokmål is what is meant by Norwegian, the others are
former or narrower codes."""


class UnknownVoice(WyomingChatterboxError, LookupError):
    """No such voice; the message lists what is near."""


class MalformedName(WyomingChatterboxError, ValueError):
    """What follows the `?` in a voice's name cannot be read as settings."""


def split_name(name: str | None) -> tuple[str | None, dict[str, str]]:
    """A voice's name as a client sends it: `anna?exaggeration=0.8&seed=3` → ("anna", {…}).

    `?exaggeration=0.8` alone is the default voice, None. What the settings are is not looked at.

    Raises:
        MalformedName: the message says what is wrong.
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
            f"voice: {name!r} cannot be read; write name?setting=value&setting=value, {MAX_NAME_SETTINGS} settings "
            "at most"
        ) from None
    settings = dict(pairs)
    if len(settings) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise MalformedName(f"{twice}: is given twice in {name!r}; leave one out")
    return voice.strip() or None, settings


def find_voice(
    voices: Sequence[Voice],
    *,
    name: str | None = None,
    language: str | None = None,
    speaker: str | None = None,
    default: str | None = None,
) -> Voice:
    """The voice a request means.

    Args:
        voices: what is offered, hidden ones too; the first one is the default where `default` is None.
        name: or an alias; wins over the language. Neither capitals nor how Unicode composes its letters matter.
        language: "en", "en_US" and "en-US" all find a voice for "en", "no" one for "nb". Of a named voice with several
            languages it chooses the one that it speaks.
        speaker: of the named voice, or of the default one.
        default: name of the voice for requests that choose none.

    Raises:
        UnknownVoice: nothing fits; the message names what was asked for and what there is.
    """
    if not voices:
        raise UnknownVoice("There is no voice yet; put a clip into the folder of voices (--voices-dir)")
    if name is not None:
        found = _named(voices, name)
        if not found:
            raise UnknownVoice(_no_such_name(voices, name))
        same_base = [voice for voice in voices if found[0].base and voice.base == found[0].base]
        if language is not None and not _speaks(found[0], language) and name_key(name) == name_key(found[0].base):
            found = _best(same_base, language) or found
        return _spoken_by(found, speaker)
    preferred = (_named(voices, default) if default is not None else []) or [voices[0], *_others_of(voices, voices[0])]
    if language is None or _speaks(preferred[0], language):
        return _spoken_by(preferred, speaker)
    same_base = [voice for voice in voices if preferred[0].base and voice.base == preferred[0].base]
    offered = [voice for voice in voices if not voice.hidden]
    best = _best(same_base, language) or _best(offered, language)
    if best:
        return _spoken_by(best, speaker)
    codes = ", ".join(sorted({code for voice in offered for code in voice.languages}))
    raise UnknownVoice(f"No voice speaks {language!r}; there are voices for: {codes}")


def same_language(one: str, other: str) -> bool:
    """Whether two codes mean one language, whatever script or region they name."""
    return _primary(one) == _primary(other)


def _named(voices: Sequence[Voice], name: str) -> list[Voice]:
    """The speakers of the voice of a name; names win over aliases."""
    wanted = name_key(name)
    named = [voice for voice in voices if name_key(voice.name) == wanted]
    return named or [voice for voice in voices if wanted in (name_key(alias) for alias in voice.aliases)]


def _others_of(voices: Sequence[Voice], first: Voice) -> list[Voice]:
    return [voice for voice in voices if voice is not first and voice.name == first.name]


def _spoken_by(found: Sequence[Voice], speaker: str | None) -> Voice:
    """Of one voice's speakers the one that is asked for, or the first."""
    if speaker is None:
        return found[0]
    name = found[0].name
    by_speaker = {name_key(voice.speaker): voice for voice in found if voice.speaker is not None}
    if not by_speaker:
        if name_key(speaker) == name_key(name):
            return found[0]
        raise UnknownVoice(f"Voice {name!r} has no speaker {speaker!r}; leave the speaker out")
    chosen = by_speaker.get(name_key(speaker))
    if chosen is None:
        there_are = ", ".join(voice.speaker or "" for voice in by_speaker.values())
        raise UnknownVoice(f"Voice {name!r} has no speaker {speaker!r}; there are: {there_are}")
    return chosen


def _no_such_name(voices: Sequence[Voice], name: str) -> str:
    shown: dict[str, str] = {}
    for voice in voices:
        if not voice.hidden:
            for one in (voice.name, *voice.aliases):
                shown.setdefault(name_key(one), one)
    near = difflib.get_close_matches(name_key(name), shown, n=3)
    if near:
        return f"There is no voice {name!r}; near names: {', '.join(shown[one] for one in near)}"
    names = list(dict.fromkeys(voice.name for voice in voices if not voice.hidden))
    more = f" and {len(names) - _MAX_OFFERED} more" if len(names) > _MAX_OFFERED else ""
    return f"There is no voice {name!r}; there are: {', '.join(names[:_MAX_OFFERED])}{more}"


def _best(voices: Iterable[Voice], language: str) -> list[Voice]:
    """The speakers of the first voice that speaks exactly this language, or at least the same one elsewhere."""
    voices = list(voices)
    exact = [voice for voice in voices if any(_tag(code) == _tag(language) for code in voice.languages)]
    found = exact or [voice for voice in voices if _speaks(voice, language)]
    return [voice for voice in found if voice.name == found[0].name]


def _speaks(voice: Voice, language: str) -> bool:
    return any(same_language(code, language) for code in voice.languages)


def _tag(language: str) -> str:
    return language.replace("_", "-").casefold()


def _primary(language: str) -> str:
    primary = _tag(language).split("-")[0]
    return _SAME_LANGUAGE.get(primary, primary)
