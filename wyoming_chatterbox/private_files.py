"""Files for the server's own user only, each written whole or not at all.

Voices, what is computed of them and cached speech are personal: files are 0600 and folders that are made here 0700,
whatever the umask. A folder that exists already stays as its owner set it.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import time
from pathlib import Path

STALE_SECONDS = 600.0
"""Age after which an unfinished file counts as left behind by a process that was killed. The largest, a clip of 64 MB,
is written in a minute at 1 MB/s; a younger one may belong to another server on the same folder, perhaps on another
machine, where a lock or a process number would say nothing."""

_UNFINISHED = re.compile(r"\.[0-9a-f]{16}\.part|(?:[0-9a-f]{64}\.)?\d+\.part")
"""Names of `write_file`, and of version 0.1.0's cache."""


def make_folder(path: Path) -> None:
    """Make a folder and its missing parents, for this user only. Raises OSError."""
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


def make_own_folder(path: Path) -> None:
    """Make a folder that only the server writes to; one that an earlier version made is closed to other users.

    Raises:
        OSError: it cannot be made. One that belongs to somebody else stays as it is.
    """
    make_folder(path)
    with contextlib.suppress(OSError):
        if path.stat().st_mode & 0o077:
            path.chmod(0o700)


def write_file(path: Path, content: bytes | memoryview, *, replace: bool = True, sync: bool = False) -> None:
    """Write a file for this user only. Whoever reads it meanwhile has all of the old or all of the new one.

    Args:
        path: in a folder that exists.
        replace: whether a file of this name gives way.
        sync: wait until the disk has it, so that it survives a power cut.

    Raises:
        FileExistsError: the file is there, and `replace` is false.
        OSError: it cannot be written; nothing is left behind.
    """
    unfinished = path.with_name(f".{secrets.token_hex(8)}.part")  # a dot: no scan takes it for a voice
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    claimed = False
    try:
        with os.fdopen(os.open(unfinished, flags, 0o600), "wb") as file:
            file.write(content)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        if not replace:
            # Unlike a replacement this fails where somebody was faster; a hard link would too, but FAT has none.
            os.close(os.open(path, flags, 0o600))
            claimed = True
        unfinished.replace(path)
    except BaseException:
        for left in (unfinished, path) if claimed else (unfinished,):
            with contextlib.suppress(OSError):
                left.unlink()
        raise


def remove_stale(folder: Path) -> None:
    """Delete unfinished files in a folder that no process is still writing. Raises OSError for the folder's own."""
    newest = time.time() - STALE_SECONDS
    with os.scandir(folder) as entries:
        for entry in entries:
            if _UNFINISHED.fullmatch(entry.name):
                with contextlib.suppress(OSError):
                    if entry.stat(follow_symlinks=False).st_mtime < newest:
                        os.unlink(entry)
