"""Writes files atomically, readable by the server's user only.

Voices, their conditionals and cached speech are personal: files have mode 0600 and folders created here 0700, whatever
the umask. Existing folders keep their mode.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import time
from pathlib import Path

STALE_SECONDS = 600.0
"""Age after which an unfinished file counts as left over from a process that was killed. The largest file, a clip of
64 MB, is written in a minute at 1 MB/s; a younger one may belong to another server that uses the same folder, perhaps
on another machine, where a lock or a process id would mean nothing."""

_UNFINISHED = re.compile(r"\.[0-9a-f]{16}\.part|(?:[0-9a-f]{64}\.)?\d+\.part")
"""Temporary names that `write_file` uses, and those of version 0.1.0's cache."""


def make_folder(path: Path) -> None:
    """Creates a folder and its missing parents, accessible to this user only. Raises OSError."""
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        if not path.is_dir():
            raise
    except FileNotFoundError:
        if path.parent == path:
            raise
        make_folder(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)


def make_private_folder(path: Path) -> None:
    """Creates a folder that only the server uses; removes other users' access to an existing one.

    Raises:
        OSError: it cannot be created. A folder that belongs to another user stays unchanged.
    """
    make_folder(path)
    with contextlib.suppress(OSError):
        if path.stat().st_mode & 0o077:
            path.chmod(0o700)


def write_file(path: Path, content: bytes | memoryview, *, replace: bool = True, sync: bool = False) -> None:
    """Writes a file atomically, for this user only. Readers see either all of the old or all of the new content.

    Args:
        path: a path in an existing folder.
        replace: allow an existing file to be replaced.
        sync: wait until the content is on the disk, so that it survives a power cut.

    Raises:
        FileExistsError: the file exists, and `replace` is False.
        OSError: the file cannot be written; nothing is left behind.
    """
    unfinished = path.with_name(f".{secrets.token_hex(8)}.part")  # hidden: scans for voices skip it
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    claimed = False
    try:
        with os.fdopen(os.open(unfinished, flags, 0o600), "wb") as file:
            file.write(content)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        if not replace:
            # Unlike a replacement, this fails if another process was faster; so would a hard link, but FAT has none.
            os.close(os.open(path, flags, 0o600))
            claimed = True
        unfinished.replace(path)
    except BaseException:
        for leftover in (unfinished, path) if claimed else (unfinished,):
            with contextlib.suppress(OSError):
                leftover.unlink()
        raise


def remove_stale(folder: Path) -> None:
    """Deletes unfinished files that no process is still writing. Raises OSError if the folder cannot be read."""
    oldest_in_use = time.time() - STALE_SECONDS
    with os.scandir(folder) as entries:
        for entry in entries:
            if _UNFINISHED.fullmatch(entry.name):
                with contextlib.suppress(OSError):
                    if entry.stat(follow_symlinks=False).st_mtime < oldest_in_use:
                        os.unlink(entry)
