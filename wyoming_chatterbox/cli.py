"""Flags, environment variables and the app's options → Settings."""

from __future__ import annotations

import argparse
import difflib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .app_options import read_options
from .compute_settings import ComputeSettings
from .errors import SettingsError
from .installation import models_command, server_command, voices_command
from .knobs import ENVIRONMENT_PREFIX, UNSUPPORTED, Knob, knobs_of
from .path_checks import check_paths
from .settings import Settings
from .speech_settings import GenerationSettings

PROGRAM = server_command()

_NEAR = 0.7
"""Share of two names that must be equal for one to be a misspelling of the other, as difflib counts; 7 letters of
10."""

_FROM_AN_ORCHESTRATOR = re.compile(r"(SERVICE|PORT)_|PORT=(tcp|udp)://")
"""Kubernetes and old Docker links tell every container of a service wyoming-chatterbox in variables of these names."""


def from_command_line(
    arguments: Sequence[str], environment: Mapping[str, str] | None = None, version: str = "", program: str = PROGRAM
) -> Settings:
    """Settings from flags, environment variables and the options file that one of these names.

    Exits with status 0 after `--help` and `--version`.

    Raises:
        SettingsError: something is not understood; the message names it as it was typed, and the remedy.
    """
    parser = _parser(version, program)
    parsed, rest = parser.parse_known_args(arguments)
    return settings_from(parser, parsed, rest, environment)


def settings_from(
    parser: FlagParser, parsed: argparse.Namespace, rest: Sequence[str], environment: Mapping[str, str] | None
) -> Settings:
    """Settings from flags that a parser with `add_flags()` has read.

    Args:
        rest: what it did not understand.
        environment: None: this process's.

    Raises:
        SettingsError: as `from_command_line()`.
    """
    if rest:
        raise parser.not_understood(rest[0])
    typed: dict[str, str] = {}
    try:
        settings = _settings(parsed, os.environ if environment is None else environment, typed, parser.prog)
        check_paths(settings)
    except SettingsError as error:
        raise _with_name_as_typed(error, typed) from None
    return settings


def as_typed(error: SettingsError, arguments: Sequence[str]) -> SettingsError:
    """Returns an error that the start found later, with the setting's name as the user wrote it."""
    typed: dict[str, str] = {}
    parsed, _ = _parser("", PROGRAM).parse_known_args(arguments)
    _settings(parsed, os.environ, typed, PROGRAM)
    return _with_name_as_typed(error, typed)


def _with_name_as_typed(error: SettingsError, typed: Mapping[str, str]) -> SettingsError:
    name, _, message = str(error).partition(": ")
    return SettingsError(f"{typed[name]}: {message}") if name in typed else error


def _settings(
    parsed: argparse.Namespace, environment: Mapping[str, str], typed: dict[str, str], program: str
) -> Settings:
    """Fills `typed` with how the user wrote each setting, by its name."""
    values = _from_environment(environment, typed, program)
    for knob in knobs_of(Settings):
        flag_value = getattr(parsed, knob.name)
        if flag_value is None:
            continue
        typed[knob.name] = knob.flag
        if knob.kind is bool:
            values[knob.name] = not knob.default
        elif knob.repeatable:
            values[knob.name] = tuple(knob.parse(text) for text in flag_value)
        else:
            values[knob.name] = knob.parse(flag_value)
    if values.get("options_file") is not None:
        values = {**read_options(values["options_file"]), **values}
    generation = {knob.name: values.pop(knob.name) for knob in knobs_of(GenerationSettings) if knob.name in values}
    compute = {knob.name: values.pop(knob.name) for knob in knobs_of(ComputeSettings) if knob.name in values}
    return Settings(generation=GenerationSettings(**generation), compute=ComputeSettings(**compute), **values)


def _from_environment(environment: Mapping[str, str], typed: dict[str, str], program: str) -> dict[str, Any]:
    by_variable = {knob.environment: knob for knob in knobs_of(Settings)}
    values: dict[str, Any] = {}
    for variable, text in environment.items():
        if not variable.startswith(ENVIRONMENT_PREFIX):
            continue
        if not text or _FROM_AN_ORCHESTRATOR.match(f"{variable.removeprefix(ENVIRONMENT_PREFIX)}={text}"):
            continue
        if variable not in by_variable:
            name = variable.removeprefix(ENVIRONMENT_PREFIX).lower()
            if name in UNSUPPORTED:
                raise SettingsError(f"{variable}: refused, it {UNSUPPORTED[name]}")
            # Compared without what all of them begin with, which makes everything near.
            near = _nearest(name, [knob.name for knob in by_variable.values()])
            hint = f"; did you mean {ENVIRONMENT_PREFIX}{near.upper()}? See" if near else "; see"
            raise SettingsError(f"{variable}: unknown environment variable{hint} {program} --help")
        knob = by_variable[variable]
        typed[knob.name] = variable
        if knob.repeatable:
            # Paths may hold spaces and commas.
            parts = text.split(os.pathsep) if knob.kind is Path else text.replace(",", " ").split()
            values[knob.name] = tuple(knob.parse(part) for part in parts if part)
        else:
            values[knob.name] = knob.parse(text)
    return values


def _nearest(typed: str, known: Sequence[str]) -> str:
    """Returns the name that was probably meant; empty where none is near."""
    return next(iter(difflib.get_close_matches(typed, known, n=1, cutoff=_NEAR)), "")


class FlagParser(argparse.ArgumentParser):
    """A parser that knows the server's flags, and raises SettingsError where argparse would exit."""

    def error(self, message: str) -> Any:
        raise SettingsError(f"{message}; see {self.prog} --help")

    def not_understood(self, word: str) -> SettingsError:
        """Returns the error for a flag that does not exist, or for a word that belongs to none."""
        flag = word.split("=")[0]
        see = f"see {self.prog} --help"
        if not flag.startswith("-"):
            return SettingsError(f"{flag!r}: unexpected argument; {see}")
        name = flag.lstrip("-").replace("-", "_")
        if name in UNSUPPORTED:
            return SettingsError(f"{flag}: refused, it {UNSUPPORTED[name]}")
        switches = {knob.flag for knob in knobs_of(Settings) if knob.kind is bool}
        bare = flag.removeprefix("--").removeprefix("no-")
        if (other := f"--no-{bare}") in switches:
            return SettingsError(f"{flag}: it is on unless {other} turns it off; leave it out")
        if (other := f"--{bare}") in switches:
            return SettingsError(f"{flag}: it is off unless {other} turns it on; leave it out")
        near = _nearest(flag[2:], [option[2:] for action in self._actions for option in action.option_strings])
        return SettingsError(f"{flag}: unknown flag; {f'did you mean --{near}? S' if near else 's'}{see[1:]}")

    def add_flags(self, shown: Sequence[str] | None = None) -> None:
        """Add every setting as a flag.

        Args:
            shown: names of the settings that --help lists; None: all.
        """
        groups: dict[str, Any] = {}
        for knob in knobs_of(Settings):
            is_shown = shown is None or knob.name in shown
            group = groups.get(knob.group) or (self.add_argument_group(knob.group) if is_shown else self)
            if is_shown:
                groups[knob.group] = group
            text = _help_of(knob) if is_shown else argparse.SUPPRESS
            if knob.kind is bool:
                group.add_argument(knob.flag, dest=knob.name, action="store_const", const=True, help=text)
                continue
            group.add_argument(
                knob.flag,
                dest=knob.name,
                action="append" if knob.repeatable else "store",
                metavar="{" + ",".join(knob.choices) + "}" if knob.choices else knob.name.split("_")[-1].upper(),
                help=text,
            )


def _help_of(knob: Knob) -> str:
    text = knob.help.replace("%", "%%")
    if knob.kind is bool:
        return text
    details = [knob.allowed] if knob.allowed and not knob.choices else []
    if knob.default not in (None, ()):
        default = " ".join(knob.default) if knob.repeatable else knob.default
        details.append(f"default: {default}")
    if knob.repeatable:
        details.append("repeatable")
    return text + (f" ({'; '.join(details)})" if details else "")


def _parser(version: str, program: str) -> FlagParser:
    parser = FlagParser(
        prog=program,
        description="Streams Chatterbox speech to Home Assistant over the Wyoming protocol.",
        usage=f"{program} [--FLAG [VALUE] ...]\n"
        f"       {voices_command(program)} {{list,check,add,remove,preview}} ...\n"
        f"       {models_command(program)} {{list,download,verify,remove}} ...",
        epilog=f"Every flag is an environment variable too: --sample-rate is {ENVIRONMENT_PREFIX}SAMPLE_RATE.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=version)
    parser.add_flags()
    return parser
