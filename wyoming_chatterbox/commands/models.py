"""`models` on the command line: list the models, download, verify and remove their weights.

Importing it needs the standard library only: script/models reads the arguments before anything is installed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..cli import FlagParser, settings_from
from ..engine.errors import EngineError, EngineUnavailable
from ..engine.registry import MODELS, ModelSpec
from ..engine.weights.progress import size_text
from ..errors import SettingsError
from ..installation import models_command
from ..settings import Settings

EXIT_PROBLEM = 1

_SHOWN = ("download_dir", "local_files_only")
"""The server's flags that --help lists; all others are understood too."""

COMMANDS: Mapping[str, str] = {
    "list": "list the models, and which of them are on the disk",
    "download": "download the weights of a model; what came is kept when it is interrupted",
    "verify": "compare the weights on the disk with those that were published; status 1 where they differ",
    "remove": "delete the weights of a model",
}
"""By name: what it does."""


def run(arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> int:
    """Do what the arguments behind `models` say; the exit status.

    Raises:
        SettingsError: they cannot be understood.
    """
    options, settings = parse(arguments, environment)
    try:
        return _RUN[options.command](options, settings)
    except (EngineError, OSError) as error:
        print(f"wyoming-chatterbox: {error}", file=sys.stderr)
        return EXIT_PROBLEM


def parse(
    arguments: Sequence[str], environment: Mapping[str, str] | None = None, program: str = ""
) -> tuple[argparse.Namespace, Settings]:
    """Reads the arguments behind `models`; see `arguments.parse`."""
    program = program or models_command()
    listed = "\n".join(f"  {name:10}{text}" for name, text in COMMANDS.items())
    parser = FlagParser(
        prog=program,
        usage=f"{program} {{{','.join(COMMANDS)}}} [NAME] [--json] [--yes] [--FLAG [VALUE] ...]",
        description=f"The models and their weights.\n\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("command", metavar="COMMAND", choices=tuple(COMMANDS))
    parser.add_argument(
        "name", nargs="?", metavar="NAME", help="of a model; verify takes all that are there without it"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--yes", action="store_true", help="do not ask before weights are deleted")
    parser.add_flags(_SHOWN)
    options, unknown = parser.parse_known_intermixed_args(arguments)
    settings = settings_from(parser, options, unknown, environment)
    downloaded = [name for name, spec in MODELS.items() if spec.repository is not None]
    if options.name is None and options.command in ("download", "remove"):
        raise SettingsError(f"{options.command}: give the name of a model ({', '.join(downloaded)})")
    if options.name is not None and options.name not in downloaded:
        raise SettingsError(
            f"{options.name!r}: no model of this name is downloaded (there are: {', '.join(downloaded)})"
        )
    return options, settings


def _list(options: argparse.Namespace, settings: Settings) -> int:
    rows = [_facts(spec, settings) for spec in MODELS.values()]
    if options.json:
        print(json.dumps({"models": rows}, indent=2))
        return 0
    from rich.console import Console
    from rich.table import Table

    table = Table("Model", "Languages", "Licence", "Size", "On the disk")
    for row in rows:
        languages = row["languages"]
        shown = ", ".join(languages) if len(languages) < 3 else f"{len(languages)} languages"
        size = size_text(row["bytes"]) if row["bytes"] else ""
        table.add_row(row["name"], shown, row["licence"], size, row["state"])
    console = Console(highlight=False)
    (console if console.is_terminal else Console(highlight=False, width=120)).print(table)
    return 0


def _facts(spec: ModelSpec, settings: Settings) -> dict[str, Any]:
    return {
        "name": spec.name,
        "languages": list(spec.languages),
        "licence": spec.licence,
        "bytes": spec.download_bytes,
        "state": _state(spec, settings),
        "tags": list(spec.tags),
    }


def _state(spec: ModelSpec, settings: Settings) -> str:
    if spec.repository is None:
        return "inside the installation"
    from ..engine.weights.cache import RepositoryCache

    try:
        present = RepositoryCache(spec.repository, settings.download_dir).present()
    except EngineUnavailable:
        return "no: Chatterbox's packages are not installed"
    total = len(spec.files)
    return "yes" if len(present) == total else "no" if not present else f"{len(present)} of {total} files"


def _download(options: argparse.Namespace, settings: Settings) -> int:
    from ..engine.weights.download import download

    repository = MODELS[options.name].repository
    assert repository is not None
    folder = download(repository, cache_dir=settings.download_dir, local_files_only=settings.local_files_only)
    if options.json:
        print(json.dumps({"downloaded": options.name, "folder": str(folder)}))
    else:
        print(f"Model {options.name} is in {folder}")
    return 0


def _verify(options: argparse.Namespace, settings: Settings) -> int:
    from ..engine.weights.cache import RepositoryCache

    reports: list[dict[str, str]] = []
    for spec in MODELS.values():
        if spec.repository is None or options.name not in (None, spec.name):
            continue
        cache = RepositoryCache(spec.repository, settings.download_dir)
        if options.name is None and not cache.present():
            continue
        for file, wrong in cache.check():
            reports.append({"model": spec.name, "file": file.name, "wrong": wrong})
            if not options.json:
                print(f"{spec.name} {file.name}: {wrong or 'as it was published'}")
    if options.json:
        print(json.dumps({"files": reports}, indent=2))
    elif not reports:
        print("No weights are on the disk")
    return EXIT_PROBLEM if any(report["wrong"] for report in reports) else 0


def _remove(options: argparse.Namespace, settings: Settings) -> int:
    from ..engine.weights.cache import RepositoryCache

    repository = MODELS[options.name].repository
    assert repository is not None
    cache = RepositoryCache(repository, settings.download_dir)
    if not options.yes and sys.stdin.isatty() and not options.json:
        answer = input(f"Delete the weights of model {options.name} in {cache.folder}? [y/N] ")
        if answer.strip().lower() not in ("y", "yes"):
            print("Nothing was deleted", file=sys.stderr)
            return EXIT_PROBLEM
    freed = cache.remove(_files_of_others(options.name, settings))
    if options.json:
        print(json.dumps({"removed": options.name, "bytes": freed}))
    else:
        print(f"Model {options.name} is deleted: {size_text(freed)} are free again")
    return 0


def _files_of_others(name: str, settings: Settings) -> frozenset[str]:
    """Returns the names of the files that models which are whole on the disk read from the same revision."""
    from ..engine.weights.cache import RepositoryCache

    ours = MODELS[name].repository
    assert ours is not None
    shared: set[str] = set()
    for spec in MODELS.values():
        theirs = spec.repository
        if spec.name == name or theirs is None or (theirs.id, theirs.revision) != (ours.id, ours.revision):
            continue
        if len(RepositoryCache(theirs, settings.download_dir).present()) == len(theirs.files):
            shared |= {file.name for file in theirs.files}
    return frozenset(shared)


_RUN: Mapping[str, Callable[[argparse.Namespace, Settings], int]] = {
    "list": _list,
    "download": _download,
    "verify": _verify,
    "remove": _remove,
}
