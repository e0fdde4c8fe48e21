"""Reads untrusted files from a folder of voices, and lists the supported formats."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from .errors import ClipError

SUFFIXES = (
    *(".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".aiff", ".aif"),  # libsndfile reads these
    *(".m4a", ".m4b", ".mp4", ".mov", ".3gp", ".aac", ".webm", ".mka", ".mkv", ".wma", ".amr", ".caf"),  # PyAV
)
"""Suffixes of reference clips: audio, or the audio track of a video."""

FORMATS = "WAV, FLAC, MP3, Ogg, Opus, AIFF, M4A, MP4, AAC, WebM or WMA"
"""The common ones, for messages."""

IGNORED_SUFFIXES = (
    *(".txt", ".md", ".rst", ".pdf", ".json", ".csv", ".srt", ".jpg", ".jpeg", ".png", ".webp", ".gif"),
    *(".part", ".partial", ".filepart", ".crdownload", ".tmp", ".bak", ".ini", ".db", ".lnk", ".sh", ".py"),
)
"""Files that may lie beside clips without a warning: notes, pictures, leftovers of a transfer or a desktop."""

CONFIG_SUFFIXES = (".yaml", ".yml")

PICKLE_SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".pkl", ".pickle", ".npy", ".npz", ".safetensors")
"""Formats in which other programs store voices. They are never opened: loading a pickle runs code."""


def read_file(path: Path, root: Path, limit: int) -> bytes:
    """Returns the content of a regular file in `root`. Follows links that stay inside.

    Raises:
        ClipError: it is outside `root`, not a regular file, larger than `limit` bytes, or cannot be read.
    """
    try:
        real = Path(os.path.realpath(path, strict=True))
        if not real.is_relative_to(os.path.realpath(root)):
            raise ClipError(
                "it is a link to a file outside the folder of voices, which is not followed; copy the file instead"
            )
        # O_NONBLOCK: opening a pipe must not wait for a writer.
        descriptor = os.open(real, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise ClipError("it is not a regular file; use an audio file")
            if status.st_size > limit:
                raise ClipError(
                    f"its size is {megabytes(status.st_size)} (allowed: {megabytes(limit)}); use a smaller file"
                )
            content = file.read(limit + 1)
    except OSError as error:
        raise ClipError(f"it cannot be read: {error.strerror}", unfinished=True) from error
    if len(content) > limit:
        raise ClipError(f"it grew beyond {megabytes(limit)} while it was being read; use a smaller file")
    return content


def megabytes(size: int) -> str:
    """Returns a size in bytes as text, in MB or kB."""
    return f"{size / 2**20:.0f} MB" if size >= 2**20 else f"{size / 2**10:.0f} kB"
