"""The options of the Home Assistant app → settings.

The Supervisor writes what a user set in the app's form to /data/options.json. `OPTIONS` says what each option is called
there and which setting it is; addon/config.yaml, its translations and addon/DOCS.md hold the same names, and a test
keeps them equal.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .engine.registry import EMBEDDED
from .errors import SettingsError
from .knobs import Knob, knobs_of, unknown_setting
from .settings import Settings


@dataclass(frozen=True)
class Option:
    """One option of the app."""

    name: str
    """In the form and in options.json."""

    default: object
    """What the form begins with. An app runs on a CPU, so it may differ from the setting's default."""

    setting: str = ""
    """The setting it becomes, where that has another name."""

    on: object = None
    """For a switch (true or false) of the app whose setting is none: what the setting is when it is on."""

    @property
    def knob(self) -> Knob:
        return next(knob for knob in knobs_of(Settings) if knob.name == (self.setting or self.name))

    def coerce(self, value: object) -> Any:
        """Returns the setting's value, or None if it keeps its default. Raises SettingsError."""
        if value == "":  # how the form writes a text that was left empty
            return None
        if self.on is not None:
            if not isinstance(value, bool):
                raise SettingsError(f"{self.name}: {value!r} is not a valid value (allowed: true, false)")
            return self.on if value else None
        return self.knob.coerce(value)


OPTIONS = (
    Option("model", EMBEDDED.name),
    Option("voice", ""),
    Option("language", ""),
    Option("profile", "fast"),
    Option("exaggeration", 0.5),
    Option("cfg_weight", 0.5),
    Option("temperature", 0.8),
    Option("sentence_silence", 0.25),
    Option("http", False, setting="http_uri", on="http://0.0.0.0:10201"),
    Option("log_level", "INFO"),
)
"""In the order of the form."""


def read_options(path: Path) -> dict[str, Any]:
    """Returns the settings that an options.json asks for, by their names.

    Raises:
        SettingsError: the file cannot be read, or an option is unknown or has a value that is not allowed; the message
            names the file, the option and the remedy.
    """
    try:
        options = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(f"options_file: {path} cannot be read: {error}") from None
    if not isinstance(options, dict):
        raise SettingsError(f"options_file: {path} holds no JSON object of options")
    try:
        return _settings(options)
    except SettingsError as error:
        raise SettingsError(f"{path}: {error}") from None


def _settings(options: Mapping[str, object]) -> dict[str, Any]:
    known = {option.name: option for option in OPTIONS}
    values: dict[str, Any] = {}
    for name, value in options.items():
        if name not in known:
            raise unknown_setting(name, list(known))
        setting = known[name].coerce(value)
        if setting is not None:
            values[known[name].knob.name] = setting
    return values
