"""Putting a voice's files into a folder, and taking them away."""

from __future__ import annotations

import shutil
from pathlib import Path

from ..private_files import make_folder, write_file
from .errors import VoiceError
from .folder import VoiceFiles


def write_voice(folder: Path, name: str, suffix: str, content: bytes, config: str, old: VoiceFiles | None) -> None:
    """Write a clip, and a settings file where there is something in it.

    Args:
        name: of the voice, checked.
        old: the voice in the same folder whose place it takes; None: there must be none.

    Raises:
        VoiceError: it cannot be written.
    """
    target = folder / f"{name}{suffix}"
    settings = folder / f"{name}.yaml"
    try:
        make_folder(folder)
        free = shutil.disk_usage(folder).free
        if free < len(content):
            raise VoiceError(f"{folder} has {free} bytes free, the clip takes {len(content)}; make room")
        write_file(target, content, replace=old is not None, sync=True)
        if config.strip():
            write_file(settings, config.encode(), sync=True)
        if old is not None:
            new = {target, settings} if config.strip() else {target}
            for path in {*old.clips, *old.configs} - new:
                path.unlink(missing_ok=True)
            if old.path != target:
                _remove_empty(old.path)
    except FileExistsError:
        raise VoiceError(f"{target.name} is in {folder} already; remove it first, or choose another name") from None
    except OSError as error:
        raise VoiceError(f"{target.name} cannot be written into {folder}: {error.strerror}") from error


def delete_voice(entry: VoiceFiles) -> tuple[Path, ...]:
    """Delete a voice's files, and its folder if nothing else is in it; links are deleted, not what they lead to.

    Raises:
        VoiceError: a file cannot be deleted.
    """
    deleted = (*entry.clips, *entry.configs)
    try:
        for path in deleted:
            path.unlink(missing_ok=True)
        _remove_empty(entry.path)
    except OSError as error:
        raise VoiceError(f"voice {entry.name!r} cannot be deleted: {error}") from error
    return deleted


def _remove_empty(path: Path) -> None:
    """A voice's folder, if nothing is left in it."""
    if path.is_dir() and not path.is_symlink():
        for folder in [*(one for one in path.iterdir() if one.is_dir()), path]:
            if not any(folder.iterdir()):
                folder.rmdir()
