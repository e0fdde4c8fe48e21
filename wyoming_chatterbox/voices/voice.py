"""The value that represents a voice everywhere in the program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Voice:
    """A voice of a model. It is a value: an engine derives the conditionals from it for every call."""

    name: str
    """The name by which clients select it."""

    model: str
    """Name of the model that speaks with it."""

    description: str
    """The title in Home Assistant's voice picker."""

    languages: tuple[str, ...]
    """Language codes as Wyoming advertises them, e.g. "en" or "en-US". The first is the one it speaks."""

    attribution: str
    """Who made the voice."""

    attribution_url: str

    clips: tuple[Path, ...] = ()
    """Audio files from which the voice is cloned, in order; empty for a voice that is built into the model."""

    folder: Path | None = None
    """The folder that its clips must be in, links resolved."""

    settings: Mapping[str, object] = field(default_factory=dict, hash=False)
    """Voice style: settings that override the server's UtteranceSettings."""

    fingerprint: str = ""
    """Hash of everything that determines its sound, apart from `settings`: the content of its clips. Voices with the
    same fingerprint sound alike, whatever they and their files are called. Empty without clips."""

    speaker: str | None = None
    """Name of the speaker, if several share the voice's name."""

    base: str = ""
    """The name of its files in the library; `name` may have a language code appended."""

    aliases: tuple[str, ...] = ()
    """Other names by which clients can select it."""

    hidden: bool = False
    """True if it is not listed. Clients can still select it by name."""

    licence: str = ""
    """Licence of its clips, for display only."""
