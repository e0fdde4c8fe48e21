"""Opens the files of a voice: checks what they contain, and whether they have been written completely."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from ..language_codes import same_language
from ..limits import MAX_CLIP_BYTES, MAX_VOICE_CONFIG_BYTES
from . import clips
from .audio_files import TRUNCATED, is_complete
from .clips import Clip
from .errors import ClipError, Problem, VoiceError
from .files import read_file
from .folder import StatKey, VoiceFiles
from .voice import Voice
from .voice_config import VoiceConfig, parse_voice_config

SETTLE_SECONDS = 0.3
"""A file counts as written once it has not changed for this long."""

_SETTLE_SECONDS_UNBOUNDED = 0.8
"""The same for formats whose files do not state their length."""

_LENGTH_IN_HEADER = (
    *(".wav", ".flac", ".ogg", ".oga", ".opus", ".aiff", ".aif"),
    *(".m4a", ".m4b", ".mp4", ".mov", ".3gp"),
)
"""Suffixes of formats whose files state their length."""

INCOMPLETE_TIMEOUT = 5.0
"""Seconds for which an incomplete file may be one that is still being copied, over a slow link."""


@dataclasses.dataclass(frozen=True)
class Inspection:
    """The result of opening one voice's files."""

    voices: tuple[Voice, ...]
    problems: tuple[Problem, ...]
    seconds: Mapping[Path, float]
    """Audio duration of each clip."""

    complete: bool
    """False if a file seems to be still being written."""


class TrackedVoice:
    """A voice's files over time: their last complete state, and how long ago they last changed."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock`: returns seconds; only differences count."""
        self.files: VoiceFiles | None = None
        self.voices: tuple[Voice, ...] = ()
        self.problems: tuple[Problem, ...] = ()
        self.seconds: Mapping[Path, float] = {}
        self._clock = clock
        self._accepted_key: StatKey | None = None  # of the state in `voices`
        self._seen_key: StatKey = ()
        self._changed_at = 0.0

    def update(self, files: VoiceFiles, inspect: Callable[[VoiceFiles], Inspection], patient: bool) -> bool:
        """Accepts the files' new state if it is complete. Returns False if they must be checked again soon."""
        self.files = files
        if files.stat_key == self._accepted_key:
            self._seen_key = files.stat_key
            return True
        now = self._clock()
        if files.stat_key != self._seen_key:
            self._seen_key, self._changed_at = files.stat_key, now
        unchanged_seconds = now - self._changed_at
        states_length = all(clip.suffix.lower() in _LENGTH_IN_HEADER for clip in files.clips)
        if patient and unchanged_seconds < (SETTLE_SECONDS if states_length else _SETTLE_SECONDS_UNBOUNDED):
            return False
        result = inspect(files)
        if patient and not result.complete and unchanged_seconds < INCOMPLETE_TIMEOUT:
            return False
        self.voices, self.problems, self.seconds = result.voices, result.problems, result.seconds
        self._accepted_key = files.stat_key
        return True


class VoiceInspector:
    """Opens the files of voices. Remembers the result for each clip until the clip changes."""

    def __init__(self, models: Mapping[str, tuple[str, ...]], running: Sequence[str] = ()) -> None:
        """
        Args:
            models: the models that can clone voices: name → languages.
            running: see `VoiceLibrary`.
        """
        self._models = models
        self._running = tuple(running)
        self._clips: dict[tuple[StatKey, str], Clip | ClipError] = {}

    def inspect(self, files: VoiceFiles) -> Inspection:
        """Returns the contents of a voice's files. Invalid files become problems in the result, not exceptions."""
        problems: list[Problem] = []
        complete = True
        config = VoiceConfig()
        try:
            if len(files.configs) > 1:
                raise VoiceError(f"there are {len(files.configs)} settings files for {files.display_name}; keep one")
            for path in files.configs:
                config = parse_voice_config(read_file(path, files.root, MAX_VOICE_CONFIG_BYTES), tuple(self._models))
        except VoiceError as error:
            problems.append(Problem(files.configs[0].name, str(error), fatal=True))
        by_path: dict[Path, Clip] = {}
        for path in files.clips:
            try:
                by_path[path], clip_complete = self._clip(path, files)
                complete &= clip_complete
            except ClipError as error:
                complete &= not error.unfinished
                problems.append(Problem(_relative(path, files), str(error), fatal=True))
        warnings = [
            Problem(_relative(path, files), warning, fatal=False)
            for path, clip in by_path.items()
            for warning in clip.warnings
        ]
        for speaker, paths in () if problems else files.speakers:
            too_short = clips.too_short_warning(sum(by_path[path].seconds for path in paths))
            name = f"{files.display_name}/{speaker or ''}".rstrip("/")
            where = _relative(paths[0], files) if len(paths) == 1 else name
            warnings += [Problem(where, warning, fatal=False) for warning in too_short]
        voices = () if problems else self._voices_of(files, config, by_path)
        if not problems:
            problems += [*self._unsupported_languages(files, config), *self._absent_model(files, config)]
        seconds = {path: clip.seconds for path, clip in by_path.items()}
        return Inspection(voices, (*problems, *warnings), seconds, complete)

    def forget_all_but(self, voice_files: Iterable[VoiceFiles]) -> None:
        """Drops the results for clips that are gone or have changed."""
        current = {(key,) for files in voice_files for key in files.stat_key}
        self._clips = {key: clip for key, clip in self._clips.items() if key[0] in current}

    def _clip(self, path: Path, files: VoiceFiles) -> tuple[Clip, bool]:
        """Returns (the clip, True if its file is complete). Raises ClipError if it cannot be used."""
        stat_key = tuple(stat for stat in files.stat_key if stat[0] == os.fspath(path))
        key = (stat_key, os.fspath(path))
        known = self._clips.get(key)
        if known is None:
            try:
                content = read_file(path, files.root, MAX_CLIP_BYTES)
                known = clips.inspect(content, path.suffix.lower())
                if not is_complete(content):
                    # Not cached: it is opened again while it may be growing.
                    return dataclasses.replace(known, warnings=(*known.warnings, TRUNCATED)), False
            except ClipError as error:
                if error.unfinished:
                    raise
                known = error
            self._clips[key] = known
        if isinstance(known, ClipError):
            raise known
        return known, True

    def _voices_of(self, files: VoiceFiles, config: VoiceConfig, by_path: Mapping[Path, Clip]) -> tuple[Voice, ...]:
        title = config.title or files.name
        variants = self._variants_of(files.name, config)
        return tuple(
            Voice(
                name=name,
                model=model,
                description=title if len(variants) == 1 else f"{title} ({self._label(name, files, model, languages)})",
                languages=languages,
                attribution=config.attribution or "Resemble AI",
                attribution_url=config.url or "https://github.com/resemble-ai/chatterbox",
                clips=paths,
                folder=files.root,
                settings=_settings(config, languages[0]) if len(self._models[model]) > 1 else config.settings,
                fingerprint=clips.fingerprint([by_path[path].fingerprint for path in paths]),
                speaker=speaker,
                base=files.name,
                aliases=config.aliases if number == 0 else (),
                hidden=config.hidden,
                licence=config.licence,
            )
            for number, (name, model, languages) in enumerate(variants)
            for speaker, paths in files.speakers
        )

    def _models_of(self, config: VoiceConfig) -> tuple[str, ...]:
        """Returns the models that speak a voice, the primary one first."""
        return (config.model,) if config.model else self._running or (next(iter(self._models)),)

    def _variants_of(self, name: str, config: VoiceConfig) -> list[tuple[str, str, tuple[str, ...]]]:
        """Returns (name, model, languages) of each voice that a voice's files are: Home Assistant never sends a
        language or a model, so the name must select them."""
        variants: list[tuple[str, str, tuple[str, ...]]] = []
        for model in self._models_of(config):
            known = self._models[model]
            earlier = [code for _, _, languages in variants for code in languages]
            languages = config.languages or known
            if variants:
                languages = tuple(code for code in languages if _among(code, known))
            together = len(known) == 1 or len(languages) == 1
            for part in [languages] if together and languages else [(code,) for code in languages]:
                labels: tuple[str, ...] = (part[0],)
                if not variants:
                    labels = ()
                elif len(known) == 1:
                    labels = (model,)
                elif _among(part[0], earlier):
                    labels = (model, part[0])
                variants.append(("-".join((name, *labels)), model, part))
        return variants

    def _label(self, name: str, files: VoiceFiles, model: str, languages: tuple[str, ...]) -> str:
        """Returns what tells a variant from the others, for people: its language, its model, or both."""
        if name != files.name:
            return name[len(files.name) + 1 :]
        return model if len(self._models[model]) == 1 else languages[0]

    def _absent_model(self, files: VoiceFiles, config: VoiceConfig) -> list[Problem]:
        if not config.model or not self._running or config.model in self._running:
            return []
        text = (
            f"model: {config.model} does not run here, so that the voice is not offered; remove the line, or start "
            f"with --model {','.join((*self._running, config.model))}"
        )
        return [Problem(files.configs[0].name, text, fatal=False)]

    def _unsupported_languages(self, files: VoiceFiles, config: VoiceConfig) -> list[Problem]:
        models = self._models_of(config)
        spoken = tuple(dict.fromkeys(code for model in models for code in self._models[model]))
        unsupported = [code for code in config.languages if not _among(code, spoken)]
        if not unsupported:
            return []
        supported, model = ", ".join(spoken), " and ".join(models)
        text = (
            f"language: model {model} only speaks {supported}; the voice is listed for {', '.join(unsupported)} anyway"
        )
        return [Problem(files.configs[0].name, text, fatal=False)]


def _among(code: str, languages: Iterable[str]) -> bool:
    return any(same_language(code, other) for other in languages)


def _settings(config: VoiceConfig, language: str) -> Mapping[str, object]:
    """Returns a voice's settings for texts in a language. Where its clip is in another one they are without guidance,
    as upstream advises, so that the clip's accent does not come along (resemble-ai/chatterbox, README)."""
    if not config.clip_language or same_language(config.clip_language, language):
        return config.settings
    return {"cfg_weight": 0.0, **config.settings}


def _relative(path: Path, files: VoiceFiles) -> str:
    try:
        return str(path.relative_to(files.path.parent))
    except ValueError:
        return path.name
