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
    """Language codes as Wyoming advertises them, e.g. "en" or "en-US"."""

    attribution: str
    """Who made the voice."""

    attribution_url: str

    reference_clip: Path | None = None
    """Audio file the voice is cloned from; None is the voice built into the model."""

    settings: Mapping[str, object] = field(default_factory=dict, hash=False)
    """The manner in which it speaks: what it changes of the server's GenerationSettings."""

    fingerprint: str = ""
    """Of all that makes its sound, apart from `settings`: the content of its clips. Voices of one name and fingerprint
    speak alike, whatever their files are called."""
