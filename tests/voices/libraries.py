"""Libraries of voices in a folder, for tests."""

from __future__ import annotations

from pathlib import Path

from wyoming_chatterbox.engine.registry import create_library
from wyoming_chatterbox.voices.library import VoiceLibrary


def library_of(folder: Path, **options: object) -> VoiceLibrary:
    """Returns the scanned library of a folder."""
    library = create_library((folder,), **options)  # type: ignore[arg-type]
    library.scan(patient=False)
    return library


def names(library: VoiceLibrary) -> list[str]:
    """Returns the names of a library's voices, with their speakers."""
    return [f"{voice.name}/{voice.speaker}" if voice.speaker else voice.name for voice in library.voices]


def problems(library: VoiceLibrary) -> list[str]:
    """Returns a library's problems as they are logged."""
    return [str(problem) for problem in library.problems]
