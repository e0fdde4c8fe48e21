"""Writes the files of a voice into a folder, and deletes them."""

from __future__ import annotations

import shutil
from pathlib import Path

from ..private_files import make_folder, write_file
from .errors import VoiceError
from .folder import VoiceFiles


def write_voice(folder: Path, name: str, suffix: str, content: bytes, config: str, old: VoiceFiles | None) -> None:
    """Writes a clip, and a settings file unless `config` is blank.

    Args:
        name: name of the voice, already checked.
        old: the voice in the same folder that this one replaces; None: no such voice may exist.

    Raises:
        VoiceError: the files cannot be written.
    """
    target = folder / f"{name}{suffix}"
    settings = folder / f"{name}.yaml"
    try:
        make_folder(folder)
        free = shutil.disk_usage(folder).free
        if free < len(content):
            raise VoiceError(f"{folder} has {free} bytes free, but the clip needs {len(content)}; free some space")
        write_file(target, content, replace=old is not None, sync=True)
        if config.strip():
            write_file(settings, config.encode(), sync=True)
        if old is not None:
            new = {target, settings} if config.strip() else {target}
            for path in {*old.clips, *old.configs} - new:
                path.unlink(missing_ok=True)
            if old.path != target:
                _remove_if_empty(old.path)
    except FileExistsError:
        raise VoiceError(f"{target.name} already exists in {folder}; remove it first or choose another name") from None
    except OSError as error:
        raise VoiceError(f"{target.name} cannot be written to {folder}: {error.strerror}") from error


def delete_voice(files: VoiceFiles) -> tuple[Path, ...]:
    """Deletes a voice's files, and its folder if nothing else is in it. Deletes links, not their targets.

    Returns:
        The deleted files.

    Raises:
        VoiceError: a file cannot be deleted.
    """
    deleted = (*files.clips, *files.configs)
    try:
        for path in deleted:
            path.unlink(missing_ok=True)
        _remove_if_empty(files.path)
    except OSError as error:
        raise VoiceError(f"voice {files.name!r} cannot be deleted: {error}") from error
    return deleted


def _remove_if_empty(path: Path) -> None:
    """Removes a voice's folder and its subfolders, those that are empty."""
    if path.is_dir() and not path.is_symlink():
        for folder in [*(entry for entry in path.iterdir() if entry.is_dir()), path]:
            if not any(folder.iterdir()):
                folder.rmdir()
