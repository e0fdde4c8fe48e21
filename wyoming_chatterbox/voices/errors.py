"""What can be wrong with a voice. Every message names the thing, the value and the remedy."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import WyomingChatterboxError


class VoiceError(WyomingChatterboxError, ValueError):
    """A voice cannot be used, added or removed."""


class ClipError(VoiceError):
    """A file is no reference clip; the message does not name it, who raises it does not know."""

    def __init__(self, message: str, *, unfinished: bool = False) -> None:
        super().__init__(message)
        self.unfinished = unfinished
        """Whether it may be a file that is still being written."""


@dataclass(frozen=True)
class Problem:
    """Something that a user should know about a file among the voices."""

    file: str
    """Its name, relative to the folder of voices."""

    message: str
    fatal: bool
    """Whether there is no voice because of it; else it is a warning."""

    voice: str = ""
    """Name of the voice that the file belongs to, where that is known."""

    def __str__(self) -> str:
        return f"{self.file}: {self.message}"
