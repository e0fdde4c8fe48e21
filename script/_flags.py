"""Looking at the server's flags before anything is installed: with this Python, and the standard library alone."""

import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

from _environment import ROOT

sys.path.insert(0, str(ROOT))

from wyoming_chatterbox import __version__
from wyoming_chatterbox.cli import from_command_line
from wyoming_chatterbox.commands.arguments import parse
from wyoming_chatterbox.commands.models import parse as parse_models
from wyoming_chatterbox.engine.registry import MODELS
from wyoming_chatterbox.errors import SettingsError
from wyoming_chatterbox.settings import Settings

EXIT_USAGE = 2

_Value = TypeVar("_Value")


def server_settings(arguments: Sequence[str]) -> Settings:
    """Settings of `script/run`. Exits after --help and --version (0), and where something is wrong (2)."""
    return _or_exit(lambda: from_command_line(arguments, version=__version__, program="script/run"))


def voices_command(arguments: Sequence[str]) -> str:
    """Returns the name of the command in the arguments of `script/voices`. Exits as `server_settings()` does."""
    options, _ = _or_exit(lambda: parse(arguments, program="script/voices"))
    return str(options.command)


def check_models_command(arguments: Sequence[str]) -> None:
    """Exits as `server_settings()` does where the arguments of `script/models` say so."""
    _or_exit(lambda: parse_models(arguments, program="script/models"))


def needs_packages(model: str) -> bool:
    """Returns True for a model, by its name, that the light server has no packages for."""
    return model in MODELS and bool(MODELS[model].extra)


def _or_exit(read: Callable[[], _Value]) -> _Value:
    try:
        return read()
    except SettingsError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(EXIT_USAGE)
