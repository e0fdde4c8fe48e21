"""`wyoming-chatterbox voices`: list, check, add, remove and hear the voices that can be cloned."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..command_line import from_command_line
from ..settings import Settings, SettingsError
from ..voices import clips
from ..voices.errors import VoiceError
from ..voices.files import MAX_CLIP_BYTES, MAX_MANNER_BYTES, SUFFIXES, read_file
from ..voices.library import VoiceLibrary
from ..voices.voice import Voice
from .shown import Screen

EXIT_PROBLEM = 1
EXIT_USAGE = 2

_TEXT = "Good morning. The kettle is on, and this is how I sound when I read two sentences to you."


def run(arguments: Sequence[str]) -> int:
    """Do what the arguments behind `voices` say; the exit status.

    Raises:
        SettingsError: they cannot be understood.
    """
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    settings = from_command_line(rest)
    screen = Screen(as_json=options.json)
    try:
        command: Callable[[Any, Settings, Screen], int] = options.command
        return command(options, settings, screen)
    except VoiceError as error:
        if options.json:
            print(json.dumps({"error": str(error)}, ensure_ascii=False))
        else:
            print(f"wyoming-chatterbox: {error}", file=sys.stderr)
        return EXIT_PROBLEM


def _list(options: Any, settings: Settings, screen: Screen) -> int:
    library = _scanned(settings, screen)
    screen.voices(library, [_facts(library, voice) for voice in library.voices])
    return 0


def _check(options: Any, settings: Settings, screen: Screen) -> int:
    files = [Path(one) for one in options.what if Path(one).suffix.lower() in SUFFIXES and Path(one).exists()]
    names = [one for one in options.what if Path(one) not in files]
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
        report.update(seconds=round(clip.seconds, 2), warnings=[*clip.warnings, *clips.shortness(clip.seconds)])
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
        own = report(problem.voice or problem.file)
        own["errors" if problem.fatal else "warnings"].append(str(problem))
    if not names:
        return list(by_name.values())
    wanted = {name.casefold() for name in names}
    chosen = {name: one for name, one in by_name.items() if name.casefold() in wanted}
    missing = next((name for name in names if name.casefold() not in {one.casefold() for one in chosen}), None)
    if missing is not None:
        raise VoiceError(
            f"there is no voice {missing!r} in {_folders(library)}; there are: {', '.join(by_name) or 'none'}"
        )
    return list(chosen.values())


def _add(options: Any, settings: Settings, screen: Screen) -> int:
    library = _scanned(settings, screen)
    file = Path(options.file)
    manner = ""
    if options.settings is not None:
        path = Path(options.settings)
        try:
            manner = read_file(path, path.resolve().parent, MAX_MANNER_BYTES).decode("utf-8-sig")
        except (VoiceError, UnicodeDecodeError) as error:
            raise VoiceError(f"{path}: {error}") from None
    with screen.working(f"Looking at {file.name}"):
        try:
            voice, warnings = library.add(options.name or file.stem, file, manner=manner, replace=options.replace)
        except VoiceError as error:
            raise VoiceError(f"{file}: {error}") from None
    screen.added(voice, library.seconds_of(voice), warnings, library.folders[0])
    return 0


def _remove(options: Any, settings: Settings, screen: Screen) -> int:
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


def _preview(options: Any, settings: Settings, screen: Screen) -> int:
    from .preview import preview

    return preview(options.name, Path(options.output), options.text or _TEXT, settings, screen)


def _scanned(settings: Settings, screen: Screen) -> VoiceLibrary:
    library = VoiceLibrary(settings.voice_folders, settings.reference_clip)
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


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        raise SettingsError(f"{message}; see wyoming-chatterbox voices --help")


def _parser() -> argparse.ArgumentParser:
    common = _Parser(add_help=False)
    common.add_argument("--json", action="store_true", help="print JSON")
    parser = _Parser(
        prog="wyoming-chatterbox voices",
        description="The voices that can be cloned.",
        epilog="The server's settings may follow (--voices-dir, --data-dir, …), and its environment variables count.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, function: Callable[[Any, Settings, Screen], int], text: str) -> argparse.ArgumentParser:
        one = commands.add_parser(name, help=text, description=text, parents=[common], allow_abbrev=False)
        one.set_defaults(command=function)
        return one

    command("list", _list, "list the voices, and what is wrong with the others")
    check = command("check", _check, "look at all voices, at some, or at files; status 1 where one is not usable")
    check.add_argument("what", nargs="*", metavar="NAME|FILE", help="a voice, or an audio file from anywhere")
    add = command("add", _add, "copy an audio file into the first folder of voices, if it is a good one")
    add.add_argument("file", metavar="FILE")
    add.add_argument("--name", help="of the voice (default: the file's)")
    add.add_argument("--settings", metavar="YAML", help="a settings file for it")
    add.add_argument("--replace", action="store_true", help="take the place of a voice of this name")
    remove = command("remove", _remove, "delete the files of a voice")
    remove.add_argument("name", metavar="NAME")
    remove.add_argument("--yes", action="store_true", help="do not ask")
    preview = command("preview", _preview, "speak some words in a voice, with the model itself")
    preview.add_argument("name", metavar="NAME", help="may carry settings: anna?exaggeration=0.8")
    preview.add_argument("-o", "--output", required=True, metavar="WAV", help="the file to write")
    preview.add_argument("--text", help="what to say")
    return parser
