"""Checks the files and folders named in the settings, once at startup."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

from .errors import SettingsError
from .limits import PATH_SECONDS
from .settings import Settings


def check_paths(settings: Settings) -> None:
    """Raises SettingsError if a file or folder of the settings is missing; the message names it and the remedy.

    A share that hangs passes the check: it may be back when it is needed, and until then the server works without it.
    """
    if settings.model_dir is not None and not _passes(settings.model_dir.is_dir):
        raise SettingsError(
            f"model_dir: {str(settings.model_dir)!r} is not a directory; name the directory with the weights"
        )
    if settings.reference_clip is not None and not _passes(settings.reference_clip.is_file):
        raise SettingsError(f"reference_clip: {str(settings.reference_clip)!r} is not a file; name an audio file")
    if settings.http_token_file is not None and not _passes(settings.http_token_file.is_file):
        raise SettingsError(
            f"http_token_file: {str(settings.http_token_file)!r} is not a file; create it and write a token of at "
            "least 16 characters into it"
        )
    for folder in settings.voices_dir:
        if not _passes(functools.partial(_may_be_folder, folder)):
            raise SettingsError(f"voices_dir: {str(folder)!r} is not a directory; create it, or name another")


def _may_be_folder(path: Path) -> bool:
    """Returns True for a folder, and for a missing folder whose parent exists: it can still be created."""
    return (path.is_dir() or path.absolute().parent.is_dir()) and not path.is_file()


def _passes(check: Callable[[], bool]) -> bool:
    from .blocking import call_within  # here, as it imports asyncio

    try:
        return call_within(PATH_SECONDS, check)
    except TimeoutError:
        return True
