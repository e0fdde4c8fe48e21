"""Which voices there are, and which one a request means."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

from .voice import Voice

CHATTERBOX_DEFAULT = Voice(
    name="default",
    model="original",
    description="Chatterbox (built-in voice)",
    languages=("en",),
    attribution="Resemble AI",
    attribution_url="https://github.com/resemble-ai/chatterbox",
)
"""The voice inside the checkpoint (conds.pt)."""


class UnknownVoice(LookupError):
    """No such voice; the message lists what is near."""


def clip_voice(reference_clip: Path) -> Voice:
    """The voice cloned from a clip, named like the file."""
    return Voice(
        name=reference_clip.stem,
        model="original",
        description=f"{reference_clip.stem} (cloned)",
        languages=("en",),
        attribution="Resemble AI",
        attribution_url="https://github.com/resemble-ai/chatterbox",
        reference_clip=reference_clip,
    )


def original_voices(reference_clip: Path | None) -> tuple[Voice, ...]:
    """What the original model speaks as long as nobody has looked into its checkpoint."""
    if reference_clip is None:
        return (CHATTERBOX_DEFAULT,)
    cloned = clip_voice(reference_clip)
    # A clip called default.wav takes the built-in voice's place: names are unique.
    return (cloned,) if cloned.name.casefold() == CHATTERBOX_DEFAULT.name else (cloned, CHATTERBOX_DEFAULT)


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
        voices: what is offered; the first one is the default where `default` is None.
        name: wins over the language. Capitals do not matter.
        language: "en", "en_US" and "en-US" all find a voice for "en".
        speaker: of the named voice; no voice has several yet.
        default: name of the voice for requests that choose none.

    Raises:
        UnknownVoice: nothing fits; the message names what was asked for and what there is.
    """
    by_name = {voice.name.casefold(): voice for voice in reversed(voices)}
    if name is not None:
        found = by_name.get(name.casefold())
        if found is None:
            near = difflib.get_close_matches(name.casefold(), by_name, n=3)
            offered = ", ".join(by_name[one].name for one in near) or ", ".join(voice.name for voice in voices)
            raise UnknownVoice(f"There is no voice {name!r}; {'near names' if near else 'there are'}: {offered}")
        if speaker is not None and speaker.casefold() != found.name.casefold():
            raise UnknownVoice(f"Voice {found.name!r} has no speaker {speaker!r}; leave the speaker out")
        return found
    preferred = by_name[default.casefold()] if default is not None and default.casefold() in by_name else voices[0]
    if language is None or _speaks(preferred, language):
        return preferred
    for voice in voices:
        if _speaks(voice, language):
            return voice
    offered = ", ".join(sorted({code for voice in voices for code in voice.languages}))
    raise UnknownVoice(f"No voice speaks {language!r}; there are voices for: {offered}")


def _speaks(voice: Voice, language: str) -> bool:
    wanted = _primary(language)
    return any(_primary(code) == wanted for code in voice.languages)


def _primary(language: str) -> str:
    return language.replace("_", "-").split("-")[0].casefold()
