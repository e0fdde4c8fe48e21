"""How this program was installed, so that messages name commands that work here. Standard library only."""

from __future__ import annotations

import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent


def by_scripts() -> bool:
    """Returns True if the program runs in the .venv that `script/run` and `script/setup` make in a checkout."""
    return (_ROOT / "script" / "voices").is_file() and Path(sys.prefix).resolve() == (_ROOT / ".venv").resolve()


def server_command() -> str:
    """Returns the command that starts the server."""
    return "script/run" if by_scripts() else "wyoming-chatterbox"


def voices_command(program: str = "") -> str:
    """Returns the beginning of the command line that lists, adds and removes voices.

    Args:
        program: what starts the server; empty: `server_command()`.
    """
    program = program or server_command()
    return "script/voices" if program == "script/run" else f"{program} voices"


def models_command(program: str = "") -> str:
    """Returns the beginning of the command line that lists and downloads models; `program` as of `voices_command`."""
    program = program or server_command()
    return "script/models" if program == "script/run" else f"{program} models"


def installing(extra: str, package: str = "", and_then: str = "") -> str:
    """Returns how to install what an extra of this program needs.

    Args:
        extra: its name in pyproject.toml; script/setup has a flag of the same name.
        package: the only package of it that is missing, where that is enough.
        and_then: a second command, which script/setup runs by itself.
    """
    if by_scripts():
        return f"run script/setup --{extra}"
    if package:
        return f"run pip install {package}"
    # The program itself is in no package registry.
    second = f" and then {and_then}" if and_then else ""
    return f"run script/setup --{extra} in a checkout of this program, or there: pip install '.[{extra}]'{second}"
