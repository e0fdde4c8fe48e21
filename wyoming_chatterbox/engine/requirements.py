"""Which packages the Chatterbox engine needs, and how to install them. Imports none of them."""

from __future__ import annotations

import importlib.util
import sys

from ..installation import installing

INSTALL_HINT = installing("chatterbox", and_then="pip install --no-deps -r requirements-chatterbox.txt")
"""The command that installs the packages; it ends a message that says what is missing."""

_PACKAGES = ("torch", "torchaudio", "chatterbox", "s3tokenizer", "perth")
"""Top-level modules without which nothing is worth trying."""


def is_installed() -> bool:
    """Returns True if the packages of the Chatterbox engine are installed; imports none of them."""
    return not missing_packages()


def missing_packages() -> list[str]:
    """Returns the names of the packages that are not installed."""
    return [name for name in _PACKAGES if not is_found(name)]


def is_found(name: str) -> bool:
    """Returns True if a top-level module can be found, without importing it."""
    if name in sys.modules:
        return sys.modules[name] is not None
    return importlib.util.find_spec(name) is not None
