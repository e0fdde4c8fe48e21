"""What lies in a folder of voices: which files make which voice."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..limits import MAX_CLIPS, MAX_SPEAKERS, MAX_VOICES
from .errors import Problem, VoiceError
from .files import CONFIG_SUFFIXES, FORMATS, PICKLES, QUIET_SUFFIXES, SUFFIXES
from .names import check_name, name_key

StatKey = tuple[tuple[str, int, int, int, int, int], ...]
"""(path, device, inode, size in bytes, times in ns at which content and status changed) of every file of a voice: as
long as they stay, the files count as unchanged."""


@dataclass(frozen=True)
class VoiceFiles:
    """The files of one voice; they have not been opened."""

    name: str
    root: Path
    """The folder of voices."""

    path: Path
    """The clip, or the folder with the clips."""

    speakers: tuple[tuple[str | None, tuple[Path, ...]], ...]
    """(name of the speaker or None, clips) for each; at least one, with at least one clip each."""

    configs: tuple[Path, ...]
    """Settings files; more than one is an error."""

    facts: StatKey

    @property
    def clips(self) -> tuple[Path, ...]:
        return tuple(clip for _, clips in self.speakers for clip in clips)

    @property
    def shown(self) -> str:
        """The name of the file or folder, for people."""
        return shown(self.path)


def shown(path: Path) -> str:
    """A file's name for people and their terminals."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in path.name)


def find_entries(root: Path) -> tuple[list[VoiceFiles], list[Problem]]:
    """The voices of a folder, by name, and what is wrong with the rest. No file is opened.

    Raises:
        OSError: the folder cannot be read.
    """
    names = sorted(entry.name for entry in os.scandir(root))
    return _entries(root, [root / name for name in names if not name.startswith(".")])


def clip_entry(clip: Path) -> VoiceFiles:
    """A clip that is named by itself, wherever it lies.

    Raises:
        VoiceError: its name cannot be a voice's.
        OSError: it is not there.
    """
    configs = [path for suffix in CONFIG_SUFFIXES if (path := clip.with_suffix(suffix)).is_file()]
    return _entry(check_name(clip.stem), clip.resolve().parent, clip, ((None, (clip,)),), configs)


def _entries(root: Path, paths: list[Path]) -> tuple[list[VoiceFiles], list[Problem]]:
    entries: list[VoiceFiles] = []
    problems: list[Problem] = []
    taken: dict[str, Path] = {}
    configs = [path for path in paths if path.suffix.lower() in CONFIG_SUFFIXES]
    used: set[Path] = set()
    for path in paths:
        try:
            name, speakers, own = _clips_of(path, problems)
            if not speakers:
                continue
            name = check_name(name)
            beside = [one for one in configs if name_key(one.stem) == name_key(name)]
            used.update(beside)
            if (first := taken.get(name_key(name))) is not None:
                raise VoiceError(f"there is a voice of this name already, {shown(first)}; rename one of them")
            if len(entries) == MAX_VOICES:
                raise VoiceError(f"there are {MAX_VOICES} voices before it, no more are looked at; use another folder")
            entries.append(_entry(name, root, path, speakers, [*beside, *own]))
            taken[name_key(name)] = path
        except VoiceError as error:
            problems.append(Problem(shown(path), str(error), fatal=True))
        except OSError as error:  # it went away meanwhile, or must not be looked at
            if not isinstance(error, FileNotFoundError):
                problems.append(Problem(shown(path), f"it cannot be read: {error.strerror}", fatal=True))
    for path in configs:
        if path not in used:
            problems.append(Problem(shown(path), f"there is no clip {path.stem}.wav beside it", fatal=False))
    return entries, problems


def _entry(
    name: str, root: Path, path: Path, speakers: tuple[tuple[str | None, tuple[Path, ...]], ...], configs: list[Path]
) -> VoiceFiles:
    facts = []
    for file in (*(clip for _, clips in speakers for clip in clips), *configs):
        status = file.stat()
        times = (status.st_mtime_ns, status.st_ctime_ns)
        facts.append((os.fspath(file), status.st_dev, status.st_ino, status.st_size, *times))
    return VoiceFiles(name, root, path, speakers, tuple(configs), tuple(facts))


def _clips_of(
    path: Path, problems: list[Problem]
) -> tuple[str, tuple[tuple[str | None, tuple[Path, ...]], ...], list[Path]]:
    """(name, speakers, settings files inside) of a file or folder; no speakers: it is none of a voice's.

    Raises:
        VoiceError: it looks like a voice, and cannot be one.
    """
    suffix = path.suffix.lower()
    status = path.stat()  # of a link, what it leads to
    if stat.S_ISDIR(status.st_mode):
        if path.is_symlink():
            raise VoiceError("it is a link to a folder, which is not followed; copy the folder instead")
        return path.name, *_speakers_of(path, problems)
    if suffix in PICKLES:
        raise VoiceError(f"{suffix} files are never loaded; give the audio that it was made from")
    if suffix not in SUFFIXES:
        if (unreadable := _unreadable(path, shown(path))) is not None:
            problems.append(unreadable)
        return path.stem, (), []
    if not stat.S_ISREG(status.st_mode):
        raise VoiceError("it is no regular file; give an audio file")
    return path.stem, ((None, (path,)),), []


def _speakers_of(
    folder: Path, problems: list[Problem]
) -> tuple[tuple[tuple[str | None, tuple[Path, ...]], ...], list[Path]]:
    own = list(_audio_files(folder, problems, folder.name))
    folders = [path for path in _visible(folder) if path.is_dir() and not path.is_symlink()]
    speakers: list[tuple[str | None, tuple[Path, ...]]] = []
    for path in folders[:MAX_SPEAKERS]:
        clips = tuple(_audio_files(path, problems, f"{folder.name}/{path.name}"))
        if clips:
            speakers.append((check_name(path.name), clips))
    if own:
        speakers.insert(0, (folder.name if speakers else None, tuple(own)))
    settings = [path for path in _visible(folder) if path.suffix in CONFIG_SUFFIXES]
    configs = [path for path in settings if name_key(path.stem) == name_key(folder.name)]
    return tuple(speakers), configs


def _audio_files(folder: Path, problems: list[Problem], where: str) -> Iterator[Path]:
    found = 0
    for path in _visible(folder):
        if path.suffix.lower() in PICKLES:
            problems.append(Problem(f"{where}/{shown(path)}", f"{path.suffix} files are never loaded", fatal=False))
        if path.is_dir():
            continue
        if path.suffix.lower() not in SUFFIXES:
            if (unreadable := _unreadable(path, f"{where}/{shown(path)}")) is not None:
                problems.append(unreadable)
            continue
        found += 1
        if found > MAX_CLIPS:
            problems.append(Problem(where, f"only its first {MAX_CLIPS} clips are used", fatal=False))
            return
        yield path


def _unreadable(path: Path, where: str) -> Problem | None:
    """Returns what to tell about a file that cannot be a clip; None for one that nobody takes for a voice."""
    suffix = path.suffix.lower()
    if suffix in (*CONFIG_SUFFIXES, *QUIET_SUFFIXES, *PICKLES):
        return None
    kind = f"{suffix} files are" if suffix else "a file without a suffix is"
    return Problem(where, f"{kind} not read as a voice; give {FORMATS}, with the suffix of its format", fatal=False)


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
