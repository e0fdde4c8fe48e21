"""The value that names a voice everywhere in the program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Voice:
    """One voice of one model. It is a value: an engine derives the conditionals from it for every call."""

    name: str
    """What clients send to choose it."""

    model: str
    """Name of the model that speaks it."""

    description: str
    """What Home Assistant's voice picker shows."""

    languages: tuple[str, ...]
    """Language codes as Wyoming advertises them, e.g. "en" or "en-US". The first is the one it is spoken in."""

    attribution: str
    """Who made the voice."""

    attribution_url: str

    clips: tuple[Path, ...] = ()
    """Audio files the voice is cloned from, in their order; none: it is built into the model."""

    folder: Path | None = None
    """Where its clips lie; they lead nowhere else."""

    settings: Mapping[str, object] = field(default_factory=dict, hash=False)
    """The manner in which it speaks: what it changes of the server's UtteranceSettings."""

    fingerprint: str = ""
    """Of all that makes its sound, apart from `settings`: the content of its clips. Voices of one fingerprint
    sound alike, whatever they and their files are called. Empty without clips."""

    speaker: str | None = None
    """Which of several speakers this is; they have the voice's name in common."""

    base: str = ""
    """The name that the files of the library give it, where `name` also says in which of its languages it speaks."""

    aliases: tuple[str, ...] = ()
    """Other names that it can be chosen by."""

    hidden: bool = False
    """It is not advertised, and can be chosen all the same."""

    licence: str = ""
    """Under which its clips may be used; for people."""
