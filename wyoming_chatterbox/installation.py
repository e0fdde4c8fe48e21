"""How this program was installed, so that messages name commands that work here. Standard library only."""

from __future__ import annotations

import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent


def by_scripts() -> bool:
    """Returns True if the program runs in the .venv that `script/run` and `script/setup` make in a checkout."""
    return (_ROOT / "script" / "voices").is_file() and Path(sys.prefix).resolve() == (_ROOT / ".venv").resolve()


def voices_command() -> str:
    """Returns the beginning of the command line that lists, adds and removes voices."""
    return "script/voices" if by_scripts() else "wyoming-chatterbox voices"


def installing(extra: str, package: str = "") -> str:
    """Returns the command that installs what an extra of this program needs.

    Args:
        extra: its name in pyproject.toml; script/setup has a flag of the same name.
        package: the only package of it that is missing, where that is enough.
    """
    if by_scripts():
        return f"script/setup --{extra}"
    # The program is in no package registry: what can be installed from one is the package alone.
    return f"pip install {package}" if package else f"in a checkout of this program: pip install '.[{extra}]'"
