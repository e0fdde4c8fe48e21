"""Errors and warnings about voices. Every message names the cause, the value and the remedy."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import WyomingChatterboxError


class VoiceError(WyomingChatterboxError, ValueError):
    """A voice cannot be used, added or removed."""


class ClipError(VoiceError):
    """A file cannot be used as a reference clip. The message does not include the file name; the caller adds it."""

    def __init__(self, message: str, *, unfinished: bool = False) -> None:
        super().__init__(message)
        self.unfinished = unfinished
        """True if the file may be still being written."""


@dataclass(frozen=True)
class Problem:
    """An error or warning about a file in a folder of voices."""

    file: str
    """Its path, relative to the folder of voices."""

    message: str
    fatal: bool
    """True if the voice cannot be used because of it; False for a warning."""

    voice: str = ""
    """Name of the voice that the file belongs to, if known."""

    def __str__(self) -> str:
        return f"{self.file}: {self.message}"
