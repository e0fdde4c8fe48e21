"""The library of cloned voices: scans the folders, keeps the list current, adds and removes voices."""

from __future__ import annotations

import dataclasses
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from ..errors import SettingsError
from ..limits import MAX_CLIP_BYTES
from ..private_files import make_folder, remove_stale
from . import clips
from .audio_files import TRUNCATED, is_complete
from .errors import ClipError, Problem, VoiceError
from .files import SUFFIXES, read_file
from .folder import VoiceFiles, list_voices, single_clip
from .inspection import SETTLE_SECONDS, TrackedVoice, VoiceInspector
from .names import check_name, name_key
from .storage import delete_voice, write_voice
from .voice import Voice
from .voice_config import parse_voice_config

_LOGGER = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Scan:
    """The result of a scan."""

    changed: bool
    """True if the voices differ from those of the previous scan."""

    rescan_after: float | None
    """Seconds after which to scan again, for files that are still being written; None if there are none."""


class VoiceLibrary:
    """Voices in folders. Its methods block (they read files) and may be called from any thread."""

    def __init__(
        self,
        folders: Sequence[Path],
        reference_clip: Path | None = None,
        *,
        models: Mapping[str, tuple[str, ...]],
        running: Sequence[str] = (),
        reserved_names: Sequence[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            folders: in order of precedence. New voices are added to the first.
            reference_clip: an additional clip from anywhere; its name takes precedence over those in the folders.
            models: the models that can clone voices: name → languages.
            running: those of them that run, each of which speaks the voices that name no model; none: the first of
                `models` does, and nobody knows which run.
            reserved_names: names that no cloned voice may have.
            clock: returns seconds; only differences count.
        """
        self.folders = tuple(folders)
        self.on_change: list[Callable[[], None]] = []
        """Called, in the thread of the scan, when `voices` has changed."""

        self._reference_clip = reference_clip
        self._models = models
        self._reserved = frozenset(map(name_key, reserved_names))
        self._clock = clock
        self._lock = threading.RLock()
        self._is_open = False
        self._voices: tuple[Voice, ...] = ()
        self._problems: tuple[Problem, ...] = ()
        self._inspector = VoiceInspector(models, running)
        self._tracked: dict[str, TrackedVoice] = {}  # by the path of the clip or folder

    @property
    def voices(self) -> tuple[Voice, ...]:
        """All voices as of the last scan, including hidden ones."""
        return self._voices

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Problems with files in the folders as of the last scan."""
        return self._problems

    @property
    def is_open(self) -> bool:
        """True once the folders have been scanned."""
        return self._is_open

    def open(self) -> None:
        """Creates missing folders and scans them, without waiting for files that are still being written."""
        for folder in self.folders:
            try:
                make_folder(folder)
                remove_stale(folder)
            except OSError as error:
                _LOGGER.warning("The folder of voices %s cannot be created or read: %s", folder, error.strerror)
        self.scan(patient=False)

    def check_reference_clip(self) -> None:
        """Raises SettingsError if the reference clip of the settings is not usable as a voice. Call it after a scan."""
        clip = self._reference_clip
        if clip is None or any(clip in voice.clips for voice in self._voices):
            return
        for problem in self._problems:
            if problem.fatal and problem.file == clip.name:
                raise SettingsError(f"reference_clip: {str(clip)!r} cannot be used: {problem.message}")

    def scan(self, *, patient: bool = True, progress: Callable[[int, int], None] | None = None) -> Scan:
        """Lists the folders, opens new and changed files, and updates `voices`.

        A voice whose files are being changed stays as it was until they are complete.

        Args:
            patient: wait for files that seem to be still being written; otherwise accept them as they are.
            progress: called with (number of voices inspected, number of voices).
        """
        with self._lock:
            voice_files, problems = self._list_voices()
            tracked, waiting = {}, False
            for number, files in enumerate(voice_files, 1):
                voice = self._tracked.get(os.fspath(files.path)) or TrackedVoice(self._clock)
                tracked[os.fspath(files.path)] = voice
                waiting |= not voice.update(files, self._inspector.inspect, patient)
                if progress is not None:
                    progress(number, len(voice_files))
            self._tracked = tracked
            self._inspector.forget_all_but(voice_files)
            voices, conflicts = self._merge(voice_files)
            self._report(tuple(dict.fromkeys([*problems, *conflicts])))
            self._is_open = True
            changed = voices != self._voices
            if changed:
                self._log_changes(voices)
                self._voices = voices
        if changed:
            for notify in self.on_change:
                notify()
        return Scan(changed, SETTLE_SECONDS / 2 if waiting else None)

    def add(
        self, name: str, clip: Path | bytes, suffix: str = ".wav", *, config: str = "", replace: bool = False
    ) -> tuple[Voice, tuple[str, ...]]:
        """Writes a clip into the first folder, as a new voice.

        Args:
            name: name of the voice, which also names its file; no other argument becomes part of a path.
            clip: an audio file, or its content.
            suffix: suffix of the file's name, if `clip` is content.
            config: text of a settings file.
            replace: allow an existing voice with this name to be replaced.

        Returns:
            (the voice, warnings about its clip). The voice is in `voices`.

        Raises:
            VoiceError: the name, the clip or the config is invalid; the message says why, and what to do.
        """
        name = check_name(name)
        self._check_available(name, replace)
        content = read_file(clip, clip.parent, MAX_CLIP_BYTES) if isinstance(clip, Path) else clip
        suffix = (clip.suffix if isinstance(clip, Path) else suffix).lower()
        if suffix not in SUFFIXES:
            kind = suffix or "a file without a suffix"
            raise VoiceError(f"{kind} is not a supported audio format (allowed: {', '.join(SUFFIXES)})")
        if len(content) > MAX_CLIP_BYTES:
            raise VoiceError(f"the clip has {len(content)} bytes (allowed: {MAX_CLIP_BYTES}); use a shorter clip")
        if not is_complete(content):
            raise ClipError(TRUNCATED)
        inspected = clips.inspect(content, suffix)
        warnings = (*inspected.warnings, *clips.too_short_warning(inspected.seconds))
        parse_voice_config(config.encode(), tuple(self._models))
        with self._lock:
            self._check_available(name, replace)
            write_voice(self.folders[0], name, suffix, content, config, self._files_of(name))
            self.scan(patient=False)
        for voice in self._voices:
            if voice.base == name:
                return voice, warnings
        raise VoiceError(f"voice {name!r} was written but is not usable: {self._problem_of(name)}")

    def remove(self, name: str) -> tuple[Path, ...]:
        """Deletes a voice's files, including its settings. Only files in the folders are deleted.

        Returns:
            The deleted files.

        Raises:
            VoiceError: there is no such voice, or it cannot be deleted.
        """
        with self._lock:
            files = self._files_of(name)
            if files is None:
                raise VoiceError(f"there is no voice {name!r} in {', '.join(map(str, self.folders))}")
            if not any(files.root == folder for folder in self.folders) or files.path == self._reference_clip:
                raise VoiceError(f"voice {name!r} is the --reference-clip {files.path}, which is never deleted")
            try:
                return delete_voice(files)
            finally:
                self.scan(patient=False)

    def seconds_of(self, voice: Voice) -> float:
        """Returns the total duration of a voice's clips in seconds."""
        with self._lock:
            return sum(tracked.seconds.get(clip, 0.0) for tracked in self._tracked.values() for clip in voice.clips)

    # Scanning

    def _list_voices(self) -> tuple[list[VoiceFiles], list[Problem]]:
        voice_files: list[VoiceFiles] = []
        problems: list[Problem] = []
        if self._reference_clip is not None:
            try:
                voice_files.append(single_clip(self._reference_clip))
            except (VoiceError, OSError) as error:
                problems.append(Problem(self._reference_clip.name, str(error), fatal=True))
        for folder in self.folders:
            try:
                listed, folder_problems = list_voices(folder)
            except FileNotFoundError:
                continue
            except OSError as error:
                problems.append(Problem(str(folder), f"it cannot be read: {error.strerror}", fatal=True))
                continue
            voice_files += [files for files in listed if files.path != self._reference_clip]
            problems += folder_problems
        return voice_files, problems

    def _merge(self, voice_files: Sequence[VoiceFiles]) -> tuple[tuple[Voice, ...], list[Problem]]:
        """Returns the voices of all folders, without duplicate names, and the problems with them."""
        voices: list[Voice] = []
        problems: list[Problem] = []
        owners: dict[str, VoiceFiles] = {}
        for files in voice_files:
            tracked = self._tracked[os.fspath(files.path)]
            problems += [dataclasses.replace(problem, voice=files.name) for problem in tracked.problems]
            for voice in tracked.voices:
                name = name_key(voice.name)
                owner = owners.setdefault(name, files)
                if name in self._reserved:
                    text = f"the name {voice.name!r} is reserved for the built-in voice; rename it"
                    problems.append(Problem(files.display_name, text, fatal=True))
                elif owner is not files:
                    text = f"the name {voice.name!r} is already used by {owner.path}; rename one of them"
                    problems.append(Problem(files.display_name, text, fatal=True))
                else:
                    voices.append(voice)
        return tuple(_resolve_aliases(voices, problems, self._reserved)), problems

    def _report(self, problems: tuple[Problem, ...]) -> None:
        """Logs the problems that are new, and those that are resolved."""
        previous = set(self._problems)
        for problem in problems:
            if problem not in previous:
                if problem.fatal:
                    _LOGGER.error("Voice not usable: %s", problem)
                else:
                    _LOGGER.warning("Voice: %s", problem)
        for problem in previous - set(problems):
            _LOGGER.info("Voice problem resolved: %s", problem)
        self._problems = problems

    def _log_changes(self, voices: Sequence[Voice]) -> None:
        before = {(voice.name, voice.speaker): voice for voice in self._voices}
        after = {(voice.name, voice.speaker): voice for voice in voices}
        for action, names in (
            ("added", [key for key in after if key not in before]),
            ("changed", [key for key, voice in after.items() if key in before and before[key] != voice]),
            ("removed", [key for key in before if key not in after]),
        ):
            if names:
                labels = [f"{name} ({speaker})" if speaker else name for name, speaker in names]
                _LOGGER.info("Voices %s: %s", action, ", ".join(labels))

    # Adding and removing

    def _files_of(self, name: str) -> VoiceFiles | None:
        for tracked in self._tracked.values():
            if tracked.files is not None and name_key(tracked.files.name) == name_key(name):
                return tracked.files
        return None

    def _problem_of(self, name: str) -> str:
        for problem in self._problems:
            if name_key(Path(problem.file).stem) == name_key(name):
                return str(problem)
        return "see the log"

    def _check_available(self, name: str, replace: bool) -> None:
        """Raises VoiceError unless a voice with this name can be written."""
        if name_key(name) in self._reserved:
            raise VoiceError(f"the name {name!r} is reserved for the built-in voice; choose another name")
        files = self._files_of(name)
        if files is not None and not replace:
            raise VoiceError(f"a voice {files.name!r} already exists; remove it first or choose another name")
        if files is not None and (not self.folders or files.root != self.folders[0]):
            raise VoiceError(f"voice {files.name!r} is {files.path}, which is never replaced; choose another name")
        if not self.folders:
            raise VoiceError("there is no folder of voices; start with --voices-dir")


def built_in(model_voices: Sequence[Voice], cloned: Sequence[Voice]) -> tuple[Voice, ...]:
    """Returns a model's built-in voices, without those whose names a cloned voice has."""
    cloned_names = {name_key(voice.name) for voice in cloned}
    return tuple(voice for voice in model_voices if name_key(voice.name) not in cloned_names)


def _resolve_aliases(voices: list[Voice], problems: list[Problem], reserved: Iterable[str]) -> list[Voice]:
    """Returns the voices without the aliases that another voice already has; adds a problem for each of those."""
    owners = {name_key(voice.name): voice.name for voice in reversed(voices)} | {name: name for name in reserved}
    resolved = []
    for voice in voices:
        unique = [alias for alias in voice.aliases if owners.setdefault(name_key(alias), voice.name) == voice.name]
        for alias in voice.aliases:
            if alias not in unique:
                text = f"aliases: {alias!r} already belongs to another voice, {owners[name_key(alias)]}; it is ignored"
                problems.append(Problem(f"{voice.base}.yaml", text, fatal=False))
        resolved.append(dataclasses.replace(voice, aliases=tuple(unique)))
    return resolved
