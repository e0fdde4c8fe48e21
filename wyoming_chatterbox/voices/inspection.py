"""Opening the files of a voice: what they hold, and whether they are whole."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from ..limits import MAX_CLIP_BYTES, MAX_VOICE_CONFIG_BYTES
from . import clips
from .audio_files import is_whole
from .clips import Clip
from .errors import ClipError, Problem, VoiceError
from .files import read_file
from .folder import StatKey, VoiceFiles
from .selection import same_language
from .voice import Voice
from .voice_config import VoiceConfig, parse_voice_config

SETTLE_SECONDS = 0.3
"""A file counts as written when it did not change for so long."""

_SETTLE_SECONDS_OPEN = 0.8
"""The same for a file in which nothing says where it ends."""

_SAY_THEIR_END = (".wav", ".flac", ".ogg", ".oga", ".opus", ".aiff", ".aif", ".m4a", ".m4b", ".mp4", ".mov", ".3gp")
"""Suffixes of formats whose files say how long they are."""

PATIENCE_SECONDS = 5.0
"""For so long a file that is not whole may be one that is still copied, slowly."""

CUT_SHORT = "it ends before its end: it is damaged, or was not copied to its end"


@dataclasses.dataclass(frozen=True)
class Inspection:
    """What an entry's files hold."""

    voices: tuple[Voice, ...]
    problems: tuple[Problem, ...]
    seconds: Mapping[Path, float]
    """Of sound, by clip."""

    whole: bool
    """No file seems to be still written."""


class TrackedVoice:
    """An entry over time: what it was when it was last whole, and since when it has been changing."""

    def __init__(self) -> None:
        self.entry: VoiceFiles | None = None
        self.voices: tuple[Voice, ...] = ()
        self.problems: tuple[Problem, ...] = ()
        self.seconds: Mapping[Path, float] = {}
        self._facts: StatKey | None = None  # of what was taken over
        self._seen: StatKey = ()
        self._since = 0.0

    def look(self, entry: VoiceFiles, open_files: Callable[[VoiceFiles], Inspection], patient: bool) -> bool:
        """Take over what the files hold, if they are whole; False when they are to be looked at again soon."""
        self.entry = entry
        if entry.facts == self._facts:
            self._seen = entry.facts
            return True
        now = time.monotonic()
        if entry.facts != self._seen:
            self._seen, self._since = entry.facts, now
        quiet = now - self._since
        is_open = any(clip.suffix.lower() not in _SAY_THEIR_END for clip in entry.clips)
        if patient and quiet < (_SETTLE_SECONDS_OPEN if is_open else SETTLE_SECONDS):
            return False
        look = open_files(entry)
        if patient and not look.whole and quiet < PATIENCE_SECONDS:
            return False
        self.voices, self.problems, self.seconds, self._facts = look.voices, look.problems, look.seconds, entry.facts
        return True


class VoiceInspector:
    """Opens what has not been opened yet."""

    def __init__(self, models: Mapping[str, tuple[str, ...]]) -> None:
        """`models`: those that clone: name → languages."""
        self._models = models
        self._clips: dict[tuple[StatKey, str], Clip | ClipError] = {}

    def look(self, entry: VoiceFiles) -> Inspection:
        """Open an entry's files. Raises nothing of theirs."""
        problems: list[Problem] = []
        whole = True
        config = VoiceConfig()
        try:
            if len(entry.configs) > 1:
                raise VoiceError(f"there are {len(entry.configs)} settings files for {entry.shown}; leave one")
            for path in entry.configs:
                config = parse_voice_config(read_file(path, entry.root, MAX_VOICE_CONFIG_BYTES), tuple(self._models))
        except VoiceError as error:
            problems.append(Problem(entry.configs[0].name, str(error), fatal=True))
        found: dict[Path, Clip] = {}
        for path in entry.clips:
            try:
                found[path], complete = self._clip(path, entry)
                whole &= complete
            except ClipError as error:
                whole &= not error.unfinished
                problems.append(Problem(_relative(path, entry), str(error), fatal=True))
        warnings = [
            Problem(_relative(path, entry), one, False) for path, clip in found.items() for one in clip.warnings
        ]
        for speaker, paths in () if problems else entry.speakers:
            short = clips.too_short_warning(sum(found[path].seconds for path in paths))
            where = _relative(paths[0], entry) if len(paths) == 1 else f"{entry.shown}/{speaker or ''}".rstrip("/")
            warnings += [Problem(where, one, fatal=False) for one in short]
        voices = () if problems else self._voices_of(entry, config, found)
        if not problems:
            problems += self._languages_unknown(entry, config)
        return Inspection(voices, (*problems, *warnings), {path: clip.seconds for path, clip in found.items()}, whole)

    def _clip(self, path: Path, entry: VoiceFiles) -> tuple[Clip, bool]:
        facts = tuple(one for one in entry.facts if one[0] == os.fspath(path))
        key = (facts, os.fspath(path))
        known = self._clips.get(key)
        if known is None:
            try:
                content = read_file(path, entry.root, MAX_CLIP_BYTES)
                known = clips.inspect(content, path.suffix.lower())
                if not is_whole(content):
                    # Not kept: it is opened again while it may be growing.
                    return dataclasses.replace(known, warnings=(*known.warnings, CUT_SHORT)), False
            except ClipError as error:
                if error.unfinished:
                    raise
                known = error
            self._clips[key] = known
        if isinstance(known, ClipError):
            raise known
        return known, True

    def forget_all_but(self, entries: Iterable[VoiceFiles]) -> None:
        """Forget files that are gone, or have changed."""
        facts = {(fact,) for entry in entries for fact in entry.facts}
        self._clips = {key: clip for key, clip in self._clips.items() if key[0] in facts}

    def _voices_of(self, entry: VoiceFiles, config: VoiceConfig, found: Mapping[Path, Clip]) -> tuple[Voice, ...]:
        model = config.model or next(iter(self._models))
        spoken = self._models[model]
        languages = config.languages or spoken[:1]
        title = config.title or entry.name
        # Home Assistant never says a language: a model of several must be told by the voice's name.
        variants = [languages] if len(spoken) == 1 or len(languages) == 1 else [(one,) for one in languages]
        return tuple(
            Voice(
                name=entry.name if number == 0 else f"{entry.name}-{variant[0]}",
                model=model,
                description=title if len(variants) == 1 else f"{title} ({variant[0]})",
                languages=variant,
                attribution=config.attribution or "Resemble AI",
                attribution_url=config.url or "https://github.com/resemble-ai/chatterbox",
                clips=paths,
                folder=entry.root,
                settings=config.settings,
                fingerprint=clips.fingerprint([found[path].fingerprint for path in paths]),
                speaker=speaker,
                base=entry.name,
                aliases=config.aliases if number == 0 else (),
                hidden=config.hidden,
                licence=config.licence,
            )
            for number, variant in enumerate(variants)
            for speaker, paths in entry.speakers
        )

    def _languages_unknown(self, entry: VoiceFiles, config: VoiceConfig) -> list[Problem]:
        model = config.model or next(iter(self._models))
        foreign = [
            code for code in config.languages if not any(same_language(code, one) for one in self._models[model])
        ]
        if not foreign:
            return []
        speaks = ", ".join(self._models[model])
        text = (
            f"language: model {model} speaks {speaks} only; the voice is listed for {', '.join(foreign)} all the same"
        )
        return [Problem(entry.configs[0].name, text, fatal=False)]


def _relative(path: Path, entry: VoiceFiles) -> str:
    try:
        return str(path.relative_to(entry.path.parent))
    except ValueError:
        return path.name
