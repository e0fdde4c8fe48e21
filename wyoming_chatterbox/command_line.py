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
from .settings import (
    ENVIRONMENT_PREFIX,
    ComputeSettings,
    GenerationSettings,
    Settings,
    SettingsError,
    knobs_of,
    unknown_setting,
)

_FROM_AN_ORCHESTRATOR = re.compile(r"(SERVICE|PORT)_|PORT=(tcp|udp)://")
"""Kubernetes and old Docker links tell every container of a service wyoming-chatterbox in variables of these names."""


def from_command_line(
    arguments: Sequence[str], environment: Mapping[str, str] | None = None, version: str = ""
) -> Settings:
    """Settings from flags, environment variables and the options file that one of these names.

    Exits with status 0 after `--help` and `--version`. Raises SettingsError for anything not understood.
    """
    parser = _parser(version)
    parsed, rest = parser.parse_known_args(arguments)
    known = [one.name for one in knobs_of(Settings)]
    if rest:
        name = rest[0].split("=")[0]
        if name.startswith("--"):
            raise unknown_setting(name[2:].replace("-", "_"), known)
        raise SettingsError(f"{name!r}: unexpected argument; see --help")
    values = _from_environment(os.environ if environment is None else environment)
    for one in knobs_of(Settings):
        given = getattr(parsed, one.name)
        if given is None:
            continue
        if one.kind is bool:
            values[one.name] = not one.default
        elif one.repeatable:
            values[one.name] = tuple(one.parse(text) for text in given)
        else:
            values[one.name] = one.parse(given)
    if values.get("options_file") is not None:
        values = {**read_options(values["options_file"]), **values}
    generation = {one.name: values.pop(one.name) for one in knobs_of(GenerationSettings) if one.name in values}
    compute = {one.name: values.pop(one.name) for one in knobs_of(ComputeSettings) if one.name in values}
    return Settings(generation=GenerationSettings(**generation), compute=ComputeSettings(**compute), **values)


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    by_variable = {one.environment: one for one in knobs_of(Settings)}
    values: dict[str, Any] = {}
    for variable, text in environment.items():
        if not variable.startswith(ENVIRONMENT_PREFIX):
            continue
        if not text or _FROM_AN_ORCHESTRATOR.match(f"{variable.removeprefix(ENVIRONMENT_PREFIX)}={text}"):
            continue
        if variable not in by_variable:
            near = difflib.get_close_matches(variable, by_variable, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise SettingsError(f"{variable}: unknown environment variable{hint}")
        one = by_variable[variable]
        if one.repeatable:
            # Paths may hold spaces and commas.
            parts = text.split(os.pathsep) if one.kind is Path else text.replace(",", " ").split()
            values[one.name] = tuple(one.parse(part) for part in parts if part)
        else:
            values[one.name] = one.parse(text)
    return values


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        raise SettingsError(f"{message}; see --help")


def _parser(version: str) -> argparse.ArgumentParser:
    parser = _Parser(
        prog="wyoming-chatterbox",
        description="Streams Chatterbox speech to Home Assistant over the Wyoming protocol.",
        usage="wyoming-chatterbox [--FLAG [VALUE] ...]\n"
        "       wyoming-chatterbox voices {list,check,add,remove,preview} ...",
        epilog=f"Every flag is an environment variable too: --sample-rate is {ENVIRONMENT_PREFIX}SAMPLE_RATE.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=version)
    groups: dict[str, Any] = {}
    for one in knobs_of(Settings):
        group = groups.setdefault(one.group, None) or parser.add_argument_group(one.group)
        groups[one.group] = group
        text = one.help.replace("%", "%%")
        if one.kind is bool:
            group.add_argument(one.flag, dest=one.name, action="store_const", const=True, help=text)
            continue
        details = [one.allowed] if one.allowed and not one.choices else []
        if one.default not in (None, ()):
            default = " ".join(one.default) if one.repeatable else one.default
            details.append(f"default: {default}")
        if one.repeatable:
            details.append("repeatable")
        group.add_argument(
            one.flag,
            dest=one.name,
            action="append" if one.repeatable else "store",
            metavar="{" + ",".join(one.choices) + "}" if one.choices else one.name.split("_")[-1].upper(),
            help=text + (f" ({'; '.join(details)})" if details else ""),
        )
    return parser
