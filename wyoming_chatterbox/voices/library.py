"""The voices that there are: a scan of the folders, kept up to date, and the one way to add and remove some."""

from __future__ import annotations

import dataclasses
import logging
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from ..errors import SettingsError
from ..limits import MAX_CLIP_BYTES
from ..private_files import make_folder, remove_stale
from . import clips
from .audio_files import is_whole
from .errors import ClipError, Problem, VoiceError
from .files import SUFFIXES, read_file
from .folder import VoiceFiles, clip_entry, find_entries
from .inspection import CUT_SHORT, SETTLE_SECONDS, TrackedVoice, VoiceInspector
from .names import check_name, name_key
from .storage import delete_voice, write_voice
from .voice import Voice
from .voice_config import parse_voice_config

_LOGGER = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Scan:
    """What a scan found."""

    changed: bool
    """The voices are not those of the scan before."""

    look_again: float | None
    """Seconds after which to scan again, for files that are still being written; None: there are none."""


class VoiceLibrary:
    """Voices in folders. Its methods block (they read files) and may be called from any thread."""

    def __init__(
        self,
        folders: Sequence[Path],
        reference_clip: Path | None = None,
        *,
        models: Mapping[str, tuple[str, ...]],
        reserved_names: Sequence[str] = (),
    ) -> None:
        """
        Args:
            folders: those that win first. What is added goes into the first.
            reference_clip: one more clip, from wherever it lies; its name wins over those in the folders.
            models: those that clone: name → languages. The first one speaks the voices that name none.
            reserved_names: names that no voice of a folder may have.
        """
        self.folders = tuple(folders)
        self.on_change: list[Callable[[], None]] = []
        """Called, in the thread of the scan, when `voices` has changed."""

        self._reference_clip = reference_clip
        self._models = models
        self._reserved = frozenset(map(name_key, reserved_names))
        self._lock = threading.RLock()
        self._is_open = False
        self._voices: tuple[Voice, ...] = ()
        self._problems: tuple[Problem, ...] = ()
        self._looker = VoiceInspector(models)
        self._entries: dict[str, TrackedVoice] = {}  # by the file's or folder's path

    @property
    def voices(self) -> tuple[Voice, ...]:
        """As of the last scan, hidden ones too."""
        return self._voices

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What is wrong with files in the folders, as of the last scan."""
        return self._problems

    @property
    def is_open(self) -> bool:
        """Whether the folders have been looked through."""
        return self._is_open

    def open(self) -> None:
        """Make the folders that are missing, and take what is in them as it is."""
        for folder in self.folders:
            try:
                make_folder(folder)
                remove_stale(folder)
            except OSError as error:
                _LOGGER.warning("The folder of voices %s cannot be made or read: %s", folder, error.strerror)
        self.scan(patient=False)

    def check_reference_clip(self) -> None:
        """Raise SettingsError where the clip that was named by itself is no voice; to be called after a scan."""
        clip = self._reference_clip
        if clip is None or any(clip in voice.clips for voice in self._voices):
            return
        for problem in self._problems:
            if problem.fatal and problem.file == clip.name:
                raise SettingsError(f"reference_clip: {str(clip)!r} cannot be used: {problem.message}")

    def scan(self, *, patient: bool = True, progress: Callable[[int, int], None] | None = None) -> Scan:
        """Inspection at the folders, open what is new or has changed, and take over what is right.

        A voice whose files are being changed stays as it was until they are whole.

        Args:
            patient: wait for files that seem to be still written; else take them as they are.
            progress: told (how many voices were looked at, how many there are).
        """
        with self._lock:
            entries, problems = self._find_entries()
            known, waiting = {}, False
            for number, entry in enumerate(entries, 1):
                one = self._entries.get(os.fspath(entry.path)) or TrackedVoice()
                known[os.fspath(entry.path)] = one
                waiting |= not one.look(entry, self._looker.look, patient)
                if progress is not None:
                    progress(number, len(entries))
            self._entries = known
            self._looker.forget_all_but(entries)
            voices, more = self._offered(entries)
            self._report(tuple(dict.fromkeys([*problems, *more])))
            self._is_open = True
            changed = voices != self._voices
            if changed:
                self._say_changes(voices)
                self._voices = voices
        if changed:
            for tell in self.on_change:
                tell()
        return Scan(changed, SETTLE_SECONDS / 2 if waiting else None)

    def add(
        self, name: str, clip: Path | bytes, suffix: str = ".wav", *, config: str = "", replace: bool = False
    ) -> tuple[Voice, tuple[str, ...]]:
        """Put a clip into the first folder, as a voice.

        Args:
            name: of the voice; its file is named so, and nothing else that is given here becomes part of a path.
            clip: an audio file, or its content.
            suffix: of the file's name, where it is content.
            config: the text of a settings file.
            replace: whether a voice of this name may be there and give way.

        Returns:
            (the voice, warnings about its clip). It is in `voices` by now.

        Raises:
            VoiceError: the message says what is wrong with the name, the clip or the config, and what to do.
        """
        name = check_name(name)
        self._check_free(name, replace)
        content = read_file(clip, clip.parent, MAX_CLIP_BYTES) if isinstance(clip, Path) else clip
        suffix = (clip.suffix if isinstance(clip, Path) else suffix).lower()
        if suffix not in SUFFIXES:
            raise VoiceError(f"{suffix or 'a file without a suffix'} is no audio file (allowed: {', '.join(SUFFIXES)})")
        if len(content) > MAX_CLIP_BYTES:
            raise VoiceError(f"the clip has {len(content)} bytes, more than {MAX_CLIP_BYTES}; give a shorter one")
        if not is_whole(content):
            raise ClipError(CUT_SHORT)
        looked_at = clips.inspect(content, suffix)
        warnings = (*looked_at.warnings, *clips.too_short_warning(looked_at.seconds))
        parse_voice_config(config.encode(), tuple(self._models))
        with self._lock:
            self._check_free(name, replace)
            write_voice(self.folders[0], name, suffix, content, config, self._entry_of(name))
            self.scan(patient=False)
        for voice in self._voices:
            if voice.base == name:
                return voice, warnings
        raise VoiceError(f"voice {name!r} was written, but is not usable: {self._problem_of(name)}")

    def remove(self, name: str) -> tuple[Path, ...]:
        """Delete a voice's files, its settings too; only those that lie in the folders.

        Returns:
            What was deleted.

        Raises:
            VoiceError: there is no such voice, or it cannot be deleted.
        """
        with self._lock:
            entry = self._entry_of(name)
            if entry is None:
                raise VoiceError(f"there is no voice {name!r} in {', '.join(map(str, self.folders))}")
            if not any(entry.root == folder for folder in self.folders) or entry.path == self._reference_clip:
                raise VoiceError(f"voice {name!r} is {entry.path}, given with --reference-clip; it is not deleted")
            try:
                return delete_voice(entry)
            finally:
                self.scan(patient=False)

    def seconds_of(self, voice: Voice) -> float:
        """How much sound there is in a voice's clips."""
        with self._lock:
            return sum(known.seconds.get(clip, 0.0) for known in self._entries.values() for clip in voice.clips)

    # Looking

    def _find_entries(self) -> tuple[list[VoiceFiles], list[Problem]]:
        entries: list[VoiceFiles] = []
        problems: list[Problem] = []
        if self._reference_clip is not None:
            try:
                entries.append(clip_entry(self._reference_clip))
            except (VoiceError, OSError) as error:
                problems.append(Problem(self._reference_clip.name, str(error), fatal=True))
        for folder in self.folders:
            try:
                found, wrong = find_entries(folder)
            except FileNotFoundError:
                continue
            except OSError as error:
                problems.append(Problem(str(folder), f"it cannot be read: {error.strerror}", fatal=True))
                continue
            entries += [entry for entry in found if entry.path != self._reference_clip]
            problems += wrong
        return entries, problems

    def _offered(self, entries: Sequence[VoiceFiles]) -> tuple[tuple[Voice, ...], list[Problem]]:
        """All voices of all folders, names once; and what is wrong with them."""
        voices: list[Voice] = []
        problems: list[Problem] = []
        owners: dict[str, VoiceFiles] = {}
        for entry in entries:
            known = self._entries[os.fspath(entry.path)]
            problems += [dataclasses.replace(problem, voice=entry.name) for problem in known.problems]
            for voice in known.voices:
                name = name_key(voice.name)
                owner = owners.setdefault(name, entry)
                if name in self._reserved:
                    problems.append(
                        Problem(entry.shown, f"the name {voice.name!r} is that of the built-in voice; rename it", True)
                    )
                elif owner is not entry:
                    problems.append(
                        Problem(entry.shown, f"the name {voice.name!r} is taken by {owner.path}; rename one", True)
                    )
                else:
                    voices.append(voice)
        return tuple(_without_taken_aliases(voices, problems, self._reserved)), problems

    def _report(self, problems: tuple[Problem, ...]) -> None:
        """Log what is new."""
        before = set(self._problems)
        for problem in problems:
            if problem not in before:
                if problem.fatal:
                    _LOGGER.error("Voice not usable: %s", problem)
                else:
                    _LOGGER.warning("Voice: %s", problem)
        for problem in before - set(problems):
            _LOGGER.info("Voice: no longer so: %s", problem)
        self._problems = problems

    def _say_changes(self, voices: Sequence[Voice]) -> None:
        before = {(voice.name, voice.speaker): voice for voice in self._voices}
        after = {(voice.name, voice.speaker): voice for voice in voices}
        for what, names in (
            ("new", [key for key in after if key not in before]),
            ("changed", [key for key, voice in after.items() if key in before and before[key] != voice]),
            ("gone", [key for key in before if key not in after]),
        ):
            if names:
                shown = [f"{name} ({speaker})" if speaker else name for name, speaker in names]
                _LOGGER.info("Voices %s: %s", what, ", ".join(shown))

    # Adding and removing

    def _entry_of(self, name: str) -> VoiceFiles | None:
        for known in self._entries.values():
            if known.entry is not None and name_key(known.entry.name) == name_key(name):
                return known.entry
        return None

    def _problem_of(self, name: str) -> str:
        for problem in self._problems:
            if name_key(Path(problem.file).stem) == name_key(name):
                return str(problem)
        return "see the log"

    def _check_free(self, name: str, replace: bool) -> None:
        if name_key(name) in self._reserved:
            raise VoiceError(f"the name {name!r} is that of the built-in voice; choose another one")
        entry = self._entry_of(name)
        if entry is not None and not replace:
            raise VoiceError(f"there is a voice {entry.name!r} already; remove it first, or choose another name")
        if entry is not None and (not self.folders or entry.root != self.folders[0]):
            raise VoiceError(f"voice {entry.name!r} is {entry.path}, which is not replaced; choose another name")
        if not self.folders:
            raise VoiceError("there is no folder of voices; start with --voices-dir")


def built_in(own: Sequence[Voice], cloned: Sequence[Voice]) -> tuple[Voice, ...]:
    """Of a model's own voices those whose names no cloned voice has taken."""
    taken = {name_key(voice.name) for voice in cloned}
    return tuple(voice for voice in own if name_key(voice.name) not in taken)


def _without_taken_aliases(voices: list[Voice], problems: list[Problem], reserved: Iterable[str]) -> list[Voice]:
    taken = {name_key(voice.name): voice.name for voice in reversed(voices)} | {name: name for name in reserved}
    kept = []
    for voice in voices:
        own = [one for one in voice.aliases if taken.setdefault(name_key(one), voice.name) == voice.name]
        for alias in voice.aliases:
            if alias not in own:
                text = f"aliases: {alias!r} is the name of another voice, {taken[name_key(alias)]}; it is left out"
                problems.append(Problem(f"{voice.base}.yaml", text, fatal=False))
        kept.append(dataclasses.replace(voice, aliases=tuple(own)) if len(own) < len(voice.aliases) else voice)
    return kept
