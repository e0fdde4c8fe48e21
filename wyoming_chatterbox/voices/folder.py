"""Lists a folder of voices: which files belong to which voice. Opens none of them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..limits import MAX_CLIPS, MAX_SPEAKERS, MAX_VOICES
from .errors import Problem, VoiceError
from .files import CONFIG_SUFFIXES, FORMATS, IGNORED_SUFFIXES, PICKLE_SUFFIXES, SUFFIXES
from .names import check_name, name_key

StatKey = tuple[tuple[str, int, int, int, int, int], ...]
"""(path, device, inode, size in bytes, times in ns at which content and status changed) of every file of a voice: while
these are the same, the files count as unchanged."""

Speakers = tuple[tuple[str | None, tuple[Path, ...]], ...]
"""(name of the speaker, or None if the voice has only one; clips) of every speaker, each with at least one clip."""


@dataclass(frozen=True)
class VoiceFiles:
    """The files of one voice, not opened yet."""

    name: str
    root: Path
    """The folder of voices."""

    path: Path
    """The clip, or the folder with the clips."""

    speakers: Speakers
    """At least one."""

    configs: tuple[Path, ...]
    """Settings files; more than one is an error."""

    stat_key: StatKey

    @property
    def clips(self) -> tuple[Path, ...]:
        return tuple(clip for _, clips in self.speakers for clip in clips)

    @property
    def display_name(self) -> str:
        """The name of the file or folder, safe to print."""
        return display_name(self.path)


def display_name(path: Path) -> str:
    """Returns a file's name with unprintable characters escaped, safe for a terminal."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in path.name)


def list_voices(root: Path) -> tuple[list[VoiceFiles], list[Problem]]:
    """Returns (the voices in a folder, sorted by name; problems with its other files). Opens no file.

    Raises:
        OSError: the folder cannot be read.
    """
    names = sorted(entry.name for entry in os.scandir(root))
    return _group(root, [root / name for name in names if not name.startswith(".")])


def single_clip(clip: Path) -> VoiceFiles:
    """Returns the voice made of one clip from anywhere, with the settings file beside it.

    Raises:
        VoiceError: the file's name cannot be a voice's name.
        OSError: the file does not exist.
    """
    configs = [path for suffix in CONFIG_SUFFIXES if (path := clip.with_suffix(suffix)).is_file()]
    return _voice_files(check_name(clip.stem), clip.resolve().parent, clip, ((None, (clip,)),), configs)


def _group(root: Path, paths: list[Path]) -> tuple[list[VoiceFiles], list[Problem]]:
    voices: list[VoiceFiles] = []
    problems: list[Problem] = []
    path_by_key: dict[str, Path] = {}
    configs = [path for path in paths if path.suffix.lower() in CONFIG_SUFFIXES]
    used: set[Path] = set()
    for path in paths:
        try:
            name, speakers, inside = _clips_of(path, problems)
            if not speakers:
                continue
            name = check_name(name)
            beside = [config for config in configs if name_key(config.stem) == name_key(name)]
            used.update(beside)
            if (first := path_by_key.get(name_key(name))) is not None:
                raise VoiceError(f"a voice with this name already exists: {display_name(first)}; rename one of them")
            if len(voices) == MAX_VOICES:
                raise VoiceError(f"the folder already has {MAX_VOICES} voices; put this one into another folder")
            voices.append(_voice_files(name, root, path, speakers, [*beside, *inside]))
            path_by_key[name_key(name)] = path
        except VoiceError as error:
            problems.append(Problem(display_name(path), str(error), fatal=True))
        except OSError as error:  # it was deleted meanwhile, or must not be read
            if not isinstance(error, FileNotFoundError):
                problems.append(Problem(display_name(path), f"it cannot be read: {error.strerror}", fatal=True))
    for path in configs:
        if path not in used:
            text = f"it has no clip; expected {path.stem}.wav beside it"
            problems.append(Problem(display_name(path), text, fatal=False))
    return voices, problems


def _voice_files(name: str, root: Path, path: Path, speakers: Speakers, configs: list[Path]) -> VoiceFiles:
    stats = []
    for file in (*(clip for _, clips in speakers for clip in clips), *configs):
        status = file.stat()
        times = (status.st_mtime_ns, status.st_ctime_ns)
        stats.append((os.fspath(file), status.st_dev, status.st_ino, status.st_size, *times))
    return VoiceFiles(name, root, path, speakers, tuple(configs), tuple(stats))


def _clips_of(path: Path, problems: list[Problem]) -> tuple[str, Speakers, list[Path]]:
    """Returns (name, speakers, settings files inside) of a file or folder; no speakers if it is not a voice.

    Raises:
        VoiceError: it seems meant as a voice, but cannot be used.
    """
    suffix = path.suffix.lower()
    status = path.stat()  # for a link, its target's
    if stat.S_ISDIR(status.st_mode):
        if path.is_symlink():
            raise VoiceError("it is a link to a folder, which is not followed; copy the folder instead")
        return path.name, *_speakers_in(path, problems)
    if suffix in PICKLE_SUFFIXES:
        raise VoiceError(f"{suffix} files are never loaded; use the audio it was made from")
    if suffix not in SUFFIXES:
        if (unsupported := _unsupported(path, display_name(path))) is not None:
            problems.append(unsupported)
        return path.stem, (), []
    if not stat.S_ISREG(status.st_mode):
        raise VoiceError("it is not a regular file; use an audio file")
    return path.stem, ((None, (path,)),), []


def _speakers_in(folder: Path, problems: list[Problem]) -> tuple[Speakers, list[Path]]:
    direct = list(_audio_files(folder, problems, folder.name))
    subfolders = [path for path in _visible(folder) if path.is_dir() and not path.is_symlink()]
    speakers: list[tuple[str | None, tuple[Path, ...]]] = []
    for path in subfolders[:MAX_SPEAKERS]:
        clips = tuple(_audio_files(path, problems, f"{folder.name}/{path.name}"))
        if clips:
            speakers.append((check_name(path.name), clips))
    if direct:
        speakers.insert(0, (folder.name if speakers else None, tuple(direct)))
    settings = [path for path in _visible(folder) if path.suffix in CONFIG_SUFFIXES]
    configs = [path for path in settings if name_key(path.stem) == name_key(folder.name)]
    return tuple(speakers), configs


def _audio_files(folder: Path, problems: list[Problem], where: str) -> Iterator[Path]:
    count = 0
    for path in _visible(folder):
        name = f"{where}/{display_name(path)}"
        if path.suffix.lower() in PICKLE_SUFFIXES:
            problems.append(Problem(name, f"{path.suffix} files are never loaded", fatal=False))
        if path.is_dir():
            continue
        if path.suffix.lower() not in SUFFIXES:
            if (unsupported := _unsupported(path, name)) is not None:
                problems.append(unsupported)
            continue
        count += 1
        if count > MAX_CLIPS:
            problems.append(Problem(where, f"only the first {MAX_CLIPS} clips are used", fatal=False))
            return
        yield path


def _unsupported(path: Path, where: str) -> Problem | None:
    """Returns a warning about a file that cannot be a clip; None for a file that is clearly not meant as a voice."""
    suffix = path.suffix.lower()
    if suffix in (*CONFIG_SUFFIXES, *IGNORED_SUFFIXES, *PICKLE_SUFFIXES):
        return None
    kind = f"{suffix} files are" if suffix else "a file without a suffix is"
    return Problem(where, f"{kind} not supported as a voice; use {FORMATS}, with the matching suffix", fatal=False)


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
