"""Reading files that anybody may have put into a folder of voices."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from .errors import ClipError

SUFFIXES = (
    *(".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".aiff", ".aif"),  # libsndfile reads these
    *(".m4a", ".m4b", ".mp4", ".mov", ".3gp", ".aac", ".webm", ".mka", ".mkv", ".wma", ".amr", ".caf"),  # PyAV
)
"""What a reference clip may be: a recording in one of these, or the sound of a film."""

FORMATS = "WAV, FLAC, MP3, Ogg, Opus, AIFF, M4A, MP4, AAC, WebM or WMA"
"""The usual ones, for people."""

QUIET_SUFFIXES = (
    *(".txt", ".md", ".rst", ".pdf", ".json", ".csv", ".srt", ".jpg", ".jpeg", ".png", ".webp", ".gif"),
    *(".part", ".partial", ".filepart", ".crdownload", ".tmp", ".bak", ".ini", ".db", ".lnk", ".sh", ".py"),
)
"""Files beside clips that nobody takes for a voice: notes, pictures, what a transfer or a desktop leaves."""

CONFIG_SUFFIXES = (".yaml", ".yml")

PICKLES = (".pt", ".pth", ".ckpt", ".bin", ".pkl", ".pickle", ".npy", ".npz", ".safetensors")
"""What other programs call a voice. Nothing here opens one: loading a pickle runs what it says."""


def read_file(path: Path, root: Path, limit: int) -> bytes:
    """The content of a regular file that lies in `root`, links followed.

    Raises:
        ClipError: it lies elsewhere, is no regular file, is larger than `limit` bytes, or cannot be read.
    """
    try:
        real = Path(os.path.realpath(path, strict=True))
        if not real.is_relative_to(os.path.realpath(root)):
            raise ClipError("it is a link out of the folder of voices, which is not followed; copy the file instead")
        # O_NONBLOCK: opening a pipe must not wait for somebody to write into it.
        descriptor = os.open(real, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(descriptor, "rb") as file:
            facts = os.fstat(descriptor)
            if not stat.S_ISREG(facts.st_mode):
                raise ClipError("it is no regular file; give an audio file")
            if facts.st_size > limit:
                raise ClipError(f"it has {megabytes(facts.st_size)}, more than {megabytes(limit)}; give a shorter one")
            content = file.read(limit + 1)
    except OSError as error:
        raise ClipError(f"it cannot be read: {error.strerror}", unfinished=True) from error
    if len(content) > limit:
        raise ClipError(f"it grew beyond {megabytes(limit)} while it was read; give a shorter one")
    return content


def megabytes(size: int) -> str:
    """A size for people."""
    return f"{size / 2**20:.0f} MB" if size >= 2**20 else f"{size / 2**10:.0f} kB"
