"""What may stand behind `voices` on the command line. Standard library only: script/voices reads it before anything
is installed."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable, Mapping, Sequence

from ..cli import FlagParser, settings_from
from ..errors import SettingsError
from ..installation import voices_command
from ..settings import Settings

_SHOWN = ("voices_dir", "data_dir", "reference_clip")
"""The server's flags that --help lists; all others are understood too."""


def _check(parser: FlagParser) -> None:
    parser.add_argument("what", nargs="*", metavar="NAME|FILE", help="a voice, or an audio file from anywhere")


def _add(parser: FlagParser) -> None:
    parser.add_argument("file", metavar="FILE")
    parser.add_argument("--name", help="of the voice (default: the file's)")
    parser.add_argument("--settings", metavar="YAML", help="a settings file for it")
    parser.add_argument("--replace", action="store_true", help="take the place of a voice of this name")


def _remove(parser: FlagParser) -> None:
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("--yes", action="store_true", help="do not ask")


def _preview(parser: FlagParser) -> None:
    parser.add_argument("name", metavar="NAME", help="may carry settings: anna?exaggeration=0.8")
    parser.add_argument("-o", "--output", required=True, metavar="WAV", help="the file to write")
    parser.add_argument("--text", help="what to say")


COMMANDS: Mapping[str, tuple[str, Callable[[FlagParser], None]]] = {
    "list": ("list the voices, and what is wrong with the others", lambda parser: None),
    "check": ("look at all voices, at some, or at files; status 1 where one is not usable", _check),
    "add": ("copy an audio file into the first folder of voices, if it is a good one", _add),
    "remove": ("delete the files of a voice", _remove),
    "preview": ("speak some words in a voice, with the model itself", _preview),
}
"""By name: (what it does, a function that adds its arguments to a parser)."""


def parse(
    arguments: Sequence[str], environment: Mapping[str, str] | None = None, program: str = ""
) -> tuple[argparse.Namespace, Settings]:
    """Reads the arguments behind `voices`. Options and the server's flags may stand anywhere among them.

    Exits with status 0 after `--help`.

    Args:
        environment: None: this process's.
        program: how the user started it; empty: what works here.

    Returns:
        (the command's options, with its name as `command`; the server's settings).

    Raises:
        SettingsError: something is not understood; the message names it as it was typed, and the remedy.
    """
    program = program or voices_command()
    name, rest = _command_of(arguments)
    if name is None and {"-h", "--help"}.intersection(rest):
        print(_help(program))
        raise SystemExit(0)
    if name not in COMMANDS:
        parser = _parser("list", program)
        parsed, unknown = parser.parse_known_args(rest)
        # A flag that is mistyped comes first: the word may be its value.
        settings_from(parser, parsed, [word for word in unknown if word.startswith("-")], environment)
    if name is None:
        raise SettingsError(f"the following arguments are required: COMMAND; see {program} --help")
    if name not in COMMANDS:
        raise SettingsError(
            f"invalid choice: {name!r} is no command (choose from {', '.join(COMMANDS)}); see {program} --help"
        )
    parser = _parser(name, f"{program} {name}")
    parsed, unknown = parser.parse_known_intermixed_args(rest)
    parsed.command = name
    return parsed, settings_from(parser, parsed, unknown, environment)


def _parser(name: str, program: str) -> FlagParser:
    text, add_arguments = COMMANDS[name]
    parser = FlagParser(
        prog=program,
        description=text,
        epilog="The server's other flags are understood too, and its environment variables count.",
        allow_abbrev=False,
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_arguments(parser)
    parser.add_flags(_SHOWN)
    return parser


def _command_of(arguments: Sequence[str]) -> tuple[str | None, list[str]]:
    """Returns (the first word that is no option and no option's value, the arguments without it)."""
    with_value = _options_with_value()
    position = 0
    while position < len(arguments):
        word = arguments[position]
        if not word.startswith("-") or word == "-":
            return word, [*arguments[:position], *arguments[position + 1 :]]
        position += 2 if word in with_value else 1
    return None, list(arguments)


@functools.cache
def _options_with_value() -> frozenset[str]:
    parsers = [_parser(name, "") for name in COMMANDS]
    return frozenset(
        flag
        for parser in parsers
        for action in parser._actions
        if action.nargs is None
        for flag in action.option_strings
    )


def _help(program: str) -> str:
    lines = [f"  {name:10}{text}" for name, (text, _) in COMMANDS.items()]
    return "\n".join(
        [
            f"usage: {program} COMMAND [--json] [--FLAG [VALUE] ...]",
            "",
            "The voices that can be cloned.",
            "",
            *lines,
            "",
            f"{program} COMMAND --help says more. The server's flags (--voices-dir, --data-dir, …) may stand anywhere,",
            "and its environment variables count.",
        ]
    )
