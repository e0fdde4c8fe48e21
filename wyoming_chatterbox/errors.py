"""The root of every exception that this package raises, and the error of every setting."""

from __future__ import annotations


class WyomingChatterboxError(Exception):
    """Root of all exceptions of this package."""


class SettingsError(WyomingChatterboxError, ValueError):
    """A setting is unknown, malformed or out of its range; the message names it and the remedy."""
