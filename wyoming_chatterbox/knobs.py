"""What a knob is: name, default, unit, bounds, flag and environment variable of one field of a settings dataclass.

The command line flag is the field's name with dashes, the environment variable is `WYOMING_CHATTERBOX_` and the name in
capitals.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import SettingsError

ENVIRONMENT_PREFIX = "WYOMING_CHATTERBOX_"

UNSUPPORTED = {
    "speed": "does not exist in chatterbox-streaming: generate_stream() has no speaking rate",
    "audio_prompt_path": "is called --reference-clip here, or is a voice in --voices-dir",
}
"""Settings people bring from other Chatterbox servers, and why they are refused rather than ignored."""

_TRUTH = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


def unknown_setting(name: str, known: Sequence[str]) -> SettingsError:
    """Returns the error for a setting that does not exist: the reason, or the nearest name that does exist."""
    if name in UNSUPPORTED:
        return SettingsError(f"{name}: refused, it {UNSUPPORTED[name]}")
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(known))}"
    return SettingsError(f"{name}: unknown setting; {hint}")


@dataclass(frozen=True)
class Knob:
    """What the command line, the environment, the HTTP schema and the docs need to know about one setting."""

    name: str
    kind: type
    default: Any
    help: str
    group: str
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    nonzero_minimum: float | None = None
    """Smallest value apart from 0, for a setting where 0 means "choose automatically"."""

    choices: tuple[str, ...] = ()
    several: bool = False
    """Several of the choices may be given, with commas between them."""

    repeatable: bool = False
    server_only: bool = False
    """A setting of speech that no voice and no request can change."""

    upstream_only: bool = False
    """Has an effect with `--decoder upstream` alone."""

    @property
    def flag(self) -> str:
        """The flag as written; a switch that is on by default is turned off with `--no-…`."""
        name = self.name.replace("_", "-")
        return f"--no-{name}" if self.kind is bool and self.default else f"--{name}"

    @property
    def environment(self) -> str:
        return ENVIRONMENT_PREFIX + self.name.upper()

    @property
    def allowed(self) -> str:
        """The allowed values in words, for messages and docs; empty when anything goes."""
        if self.choices:
            return ", ".join(self.choices)
        if self.kind is bool:
            return "true, false"
        if self.minimum is None and self.maximum is None:
            return ""
        return self._range_from(self.minimum)

    def parse(self, text: str) -> Any:
        """Returns the value that a text means.

        Raises:
            SettingsError: it is none, or not an allowed one; the message names the knob, the text and what is allowed.
        """
        try:
            value: Any
            if self.kind is bool:
                value = _TRUTH[text.strip().lower()]
            elif self.kind is Path:
                value = Path(text).expanduser()
            else:
                value = self.kind(text)
        except (ValueError, KeyError):
            raise self._invalid(text) from None
        self.check(value)
        return value

    def coerce(self, value: object) -> Any:
        """Returns the value that a text or a value of JSON or YAML means. Raises SettingsError as `parse` does."""
        if isinstance(value, str):
            return self.parse(value)
        if self.kind is int and isinstance(value, float) and value.is_integer():
            value = int(value)
        if not (isinstance(value, bool) if self.kind is bool else self._is_number(value)):
            raise self._invalid(value)
        self.check(value)
        return self.kind(value)

    def check(self, value: Any) -> None:
        """Raises SettingsError if a value of the right type is not an allowed one."""
        given = str(value).split(",") if self.several else [value]
        unknown = [one for one in given if one not in self.choices] if self.choices else []
        if unknown:
            raise SettingsError(f"{self.name}: {unknown[0]!r} is unknown{self._remedy()}")
        if self.kind in (int, float) and self.minimum is not None and self.maximum is not None:
            # "not (a <= b <= c)" rather than two comparisons: nan must fail too.
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise SettingsError(f"{self.name}: {value!r} is not a number{self._remedy()}")
            if not (self.minimum <= value <= self.maximum):
                raise SettingsError(f"{self.name}: {value!r} is out of range{self._remedy()}")
            if self.nonzero_minimum is not None and 0 < value < self.nonzero_minimum:
                allowed = f"0, or {self._range_from(self.nonzero_minimum)}"
                raise SettingsError(f"{self.name}: {value} is out of range (allowed: {allowed})")

    def _is_number(self, value: object) -> bool:
        allowed = {int: (int,), float: (int, float)}.get(self.kind, (self.kind,))
        return isinstance(value, allowed) and not isinstance(value, bool)

    def _range_from(self, minimum: float | None) -> str:
        unit = f" {self.unit}" if self.unit else ""
        return f"{_format_number(minimum)} to {_format_number(self.maximum)}{unit}"

    def _invalid(self, value: object) -> SettingsError:
        return SettingsError(f"{self.name}: {value!r} is not a valid value{self._remedy()}")

    def _remedy(self) -> str:
        return f" (allowed: {self.allowed})" if self.allowed else ""


def knob(
    default: Any,
    help: str,
    *,
    unit: str = "",
    bounds: tuple[float, float] | None = None,
    nonzero_minimum: float | None = None,
    choices: tuple[str, ...] = (),
    several: bool = False,
    kind: type | None = None,
    group: str = "",
    repeatable: bool = False,
    server_only: bool = False,
    upstream_only: bool = False,
) -> Any:
    """Declares a dataclass field as a knob. `bounds` are inclusive; `kind` is needed where default is None."""
    minimum, maximum = bounds if bounds is not None else (None, None)
    metadata = {
        "kind": kind or type(default),
        "help": help,
        "unit": unit,
        "minimum": minimum,
        "maximum": maximum,
        "nonzero_minimum": nonzero_minimum,
        "choices": choices,
        "several": several,
        "group": group,
        "repeatable": repeatable,
        "server_only": server_only,
        "upstream_only": upstream_only,
    }
    return field(default=default, metadata=metadata)


def same_knob(cls: type, name: str) -> Any:
    """Declares a dataclass field as the knob that another settings dataclass declares under this name."""
    declared = next(declared for declared in dataclasses.fields(cls) if declared.name == name)
    return field(default=declared.default, metadata=declared.metadata)


def knobs_of(cls: type) -> Iterator[Knob]:
    """Yields the knobs of a settings dataclass, nested ones included, in the order of the source."""
    for declared in dataclasses.fields(cls):
        if declared.metadata:
            yield Knob(name=declared.name, default=declared.default, **declared.metadata)
        else:
            yield from knobs_of(declared.default_factory)  # type: ignore[arg-type]


def check_knobs(settings: Any) -> None:
    """Raises SettingsError for the first value of a settings dataclass that its knob does not allow.

    None is a setting that is left out; the values of repeatable knobs are not checked.
    """
    for declared in dataclasses.fields(settings):
        if declared.metadata and not declared.metadata["repeatable"]:
            value = getattr(settings, declared.name)
            if value is not None:
                Knob(name=declared.name, default=declared.default, **declared.metadata).check(value)


def _format_number(number: float | None) -> str:
    """Returns a bound as a person writes it: 2147483647 rather than 2.14748e+09."""
    return "any" if number is None else str(int(number)) if number == int(number) else str(number)
