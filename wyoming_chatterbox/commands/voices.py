"""`voices` on the command line: list, check, add, remove and hear the voices that can be cloned."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..engine.registry import create_library
from ..limits import MAX_CLIP_BYTES, MAX_VOICE_CONFIG_BYTES
from ..settings import Settings
from ..voices import clips
from ..voices.errors import VoiceError
from ..voices.files import SUFFIXES, read_file
from ..voices.library import VoiceLibrary
from ..voices.names import name_key
from ..voices.voice import Voice
from .arguments import parse
from .output import Output

EXIT_PROBLEM = 1

_TEXT = "Good morning. The kettle is on, and this is how I sound when I read two sentences to you."


def run(arguments: Sequence[str]) -> int:
    """Do what the arguments behind `voices` say; the exit status.

    Raises:
        SettingsError: they cannot be understood.
    """
    options, settings = parse(arguments)
    screen = Output(as_json=options.json)
    try:
        return _COMMANDS[options.command](options, settings, screen)
    except VoiceError as error:
        if options.json:
            print(json.dumps({"error": str(error)}, ensure_ascii=False))
        else:
            print(f"wyoming-chatterbox: {error}", file=sys.stderr)
        return EXIT_PROBLEM


def _list(options: Any, settings: Settings, screen: Output) -> int:
    library = _scanned(settings, screen)
    screen.voices(library, [_facts(library, voice) for voice in library.voices])
    return 0


def _check(options: Any, settings: Settings, screen: Output) -> int:
    files = [Path(word) for word in options.what if Path(word).suffix.lower() in SUFFIXES and Path(word).exists()]
    names = [word for word in options.what if Path(word) not in files]
    reports = [_file_report(file) for file in files]
    if names or not options.what:
        library = _scanned(settings, screen)
        reports += _library_reports(library, names)
    screen.reports(reports)
    return EXIT_PROBLEM if any(report["errors"] for report in reports) else 0


def _file_report(file: Path) -> dict[str, Any]:
    report: dict[str, Any] = {"voice": str(file), "seconds": None, "errors": [], "warnings": []}
    try:
        clip = clips.inspect(read_file(file, file.resolve().parent, MAX_CLIP_BYTES), file.suffix.lower())
    except VoiceError as error:
        report["errors"].append(str(error))
    else:
        report.update(seconds=round(clip.seconds, 2), warnings=[*clip.warnings, *clips.too_short_warning(clip.seconds)])
    return report


def _library_reports(library: VoiceLibrary, names: Sequence[str]) -> list[dict[str, Any]]:
    """One for each voice, and one for each file that is none."""
    by_name: dict[str, dict[str, Any]] = {}

    def report(name: str) -> dict[str, Any]:
        return by_name.setdefault(name, {"voice": name, "seconds": None, "errors": [], "warnings": []})

    for voice in library.voices:
        seconds = library.seconds_of(voice)
        report(voice.base)["seconds"] = round((report(voice.base)["seconds"] or 0.0) + seconds, 2)
    for problem in library.problems:
        about = report(problem.voice or problem.file)
        about["errors" if problem.fatal else "warnings"].append(str(problem))
    if not names:
        return list(by_name.values())
    wanted = {name_key(name) for name in names}
    chosen = {name: voice for name, voice in by_name.items() if name_key(name) in wanted}
    missing = next((name for name in names if name_key(name) not in {name_key(known) for known in chosen}), None)
    if missing is not None:
        raise VoiceError(
            f"there is no voice {missing!r} in {_folders(library)}; there are: {', '.join(by_name) or 'none'}"
        )
    return list(chosen.values())


def _add(options: Any, settings: Settings, screen: Output) -> int:
    library = _scanned(settings, screen)
    file = Path(options.file)
    config = ""
    if options.settings is not None:
        path = Path(options.settings)
        try:
            config = read_file(path, path.resolve().parent, MAX_VOICE_CONFIG_BYTES).decode("utf-8-sig")
        except (VoiceError, UnicodeDecodeError) as error:
            raise VoiceError(f"{path}: {error}") from None
    with screen.working(f"Looking at {file.name}"):
        try:
            voice, warnings = library.add(options.name or file.stem, file, config=config, replace=options.replace)
        except VoiceError as error:
            raise VoiceError(f"{file}: {error}") from None
    screen.added(voice, library.seconds_of(voice), warnings, library.folders[0])
    return 0


def _remove(options: Any, settings: Settings, screen: Output) -> int:
    library = _scanned(settings, screen)
    if not options.yes and sys.stdin.isatty() and not screen.as_json:
        try:
            answer = input(f"Delete the files of voice {options.name!r} in {_folders(library)}? [y/N] ")
        except EOFError:  # Ctrl-D
            answer = ""
            print(file=sys.stderr)
        if answer.strip().lower() not in ("y", "yes"):
            print("Nothing was deleted", file=sys.stderr)
            return EXIT_PROBLEM
    deleted = library.remove(options.name)
    screen.removed(options.name, deleted)
    return 0


def _preview(options: Any, settings: Settings, screen: Output) -> int:
    from .preview import preview

    return preview(options.name, Path(options.output), options.text or _TEXT, settings, screen)


def _scanned(settings: Settings, screen: Output) -> VoiceLibrary:
    library = create_library(settings.voice_folders, settings.reference_clip, settings.models, settings.house_languages)
    with screen.counting("Looking at the voices") as progress:
        library.scan(patient=False, progress=progress)
    return library


def _folders(library: VoiceLibrary) -> str:
    return ", ".join(str(folder) for folder in library.folders)


def _facts(library: VoiceLibrary, voice: Voice) -> dict[str, Any]:
    return {
        "name": voice.name,
        "speaker": voice.speaker,
        "title": voice.description,
        "languages": list(voice.languages),
        "model": voice.model,
        "seconds": round(library.seconds_of(voice), 2),
        "clips": [str(clip) for clip in voice.clips],
        "settings": dict(voice.settings),
        "aliases": list(voice.aliases),
        "hidden": voice.hidden,
        "attribution": voice.attribution,
        "licence": voice.licence,
    }


_COMMANDS: Mapping[str, Callable[[Any, Settings, Output], int]] = {
    "list": _list,
    "check": _check,
    "add": _add,
    "remove": _remove,
    "preview": _preview,
}
