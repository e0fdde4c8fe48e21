"""What a user sets in the app's form becomes settings; what cannot be is refused by name."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from wyoming_chatterbox.app_options import OPTIONS, read_options
from wyoming_chatterbox.cli import from_command_line
from wyoming_chatterbox.errors import SettingsError
from wyoming_chatterbox.knobs import knobs_of
from wyoming_chatterbox.settings import Settings
from wyoming_chatterbox.testing.serving import environment

DEFAULTS: dict[str, object] = {option.name: option.default for option in OPTIONS}


def load(tmp_path: Path, *arguments: str, env: dict[str, str] | None = None, **options: object) -> Settings:
    """The settings of a server whose options.json is the form's defaults with some changes."""
    return from_command_line(["--options-file", str(written(tmp_path, {**DEFAULTS, **options})), *arguments], env or {})


def written(tmp_path: Path, content: object) -> Path:
    path = tmp_path / "options.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def flat(settings: Settings) -> dict[str, Any]:
    """Every knob's value, by its name."""
    parts = (settings, settings.generation, settings.compute)
    return {
        knob.name: next(getattr(part, knob.name) for part in parts if hasattr(part, knob.name))
        for knob in knobs_of(Settings)
    }


CHANGES = [
    ("model", "original", {"model": "original"}),
    ("voice", "anna", {"voice": "anna"}),
    ("language", "en", {"language": "en"}),
    ("profile", "exact", {"profile": "exact"}),
    ("profile", "balanced", {"profile": "balanced"}),
    ("exaggeration", 1.2, {"exaggeration": 1.2}),
    ("exaggeration", 2, {"exaggeration": 2.0}),
    ("cfg_weight", 0, {"cfg_weight": 0.0}),
    ("temperature", 0.05, {"temperature": 0.05}),
    ("sentence_silence", 1.5, {"sentence_silence": 1.5}),
    ("http", True, {"http_uri": "http://0.0.0.0:10201"}),
    ("log_level", "DEBUG", {"log_level": "DEBUG"}),
]
"""An option, what the user sets, and the settings that change by it."""


def test_every_option_is_changed_below() -> None:
    assert {name for name, _, _ in CHANGES} == set(DEFAULTS)


@pytest.mark.parametrize(("name", "value", "changed"), CHANGES)
def test_one_option_changes_one_setting(tmp_path: Path, name: str, value: object, changed: dict[str, Any]) -> None:
    before, after = flat(load(tmp_path)), flat(load(tmp_path, **{name: value}))
    assert {key: after[key] for key in after if after[key] != before[key]} == changed


def test_the_forms_defaults_are_the_settings_that_suit_an_app(tmp_path: Path) -> None:
    settings = load(tmp_path)
    assert (settings.model, settings.compute.profile, settings.voice) == ("embedded", "fast", None)
    changed = {"model", "profile", "options_file"}
    assert {name for name, value in flat(settings).items() if value != flat(Settings())[name]} == changed


def test_flags_and_variables_win_over_options(tmp_path: Path) -> None:
    assert load(tmp_path, exaggeration=0.9).generation.exaggeration == 0.9
    assert load(tmp_path, "--exaggeration", "0.3", exaggeration=0.9).generation.exaggeration == 0.3
    env = {"WYOMING_CHATTERBOX_EXAGGERATION": "0.4"}
    assert load(tmp_path, env=env, exaggeration=0.9).generation.exaggeration == 0.4


def test_the_variable_names_the_file_too(tmp_path: Path) -> None:
    path = written(tmp_path, {"log_level": "ERROR"})
    assert from_command_line([], {"WYOMING_CHATTERBOX_OPTIONS_FILE": str(path)}).log_level == "ERROR"


BAD = [
    ({"exagerration": 1}, "exagerration: unknown setting; did you mean exaggeration?"),
    ({"speed": 1.2}, "speed: refused, it does not exist in chatterbox-streaming"),
    ({"uri": "tcp://0.0.0.0:1"}, "uri: unknown setting"),
    ({"exaggeration": 5}, "exaggeration: 5 is out of range (allowed: 0 to 2)"),
    ({"exaggeration": "loud"}, "exaggeration: 'loud' is not a valid value (allowed: 0 to 2)"),
    ({"cfg_weight": True}, "cfg_weight: True is not a valid value"),
    ({"temperature": None}, "temperature: None is not a valid value"),
    ({"temperature": 0}, "temperature: 0 is out of range"),
    ({"profile": "quick"}, "profile: 'quick' is unknown (allowed: auto, exact, balanced, fast)"),
    ({"model": "piper"}, "model: 'piper' is unknown (allowed: auto, original, "),
    ({"voice": 7}, "voice: 7 is not a valid value"),
    ({"voice": ["anna"]}, "voice: ['anna'] is not a valid value"),
    ({"http": "http://0.0.0.0:80"}, "http: 'http://0.0.0.0:80' is not a valid value (allowed: true, false)"),
    ({"log_level": "chatty"}, "log_level: 'chatty' is unknown"),
    ([], "holds no JSON object of options"),
    ("{", "cannot be read: Expecting property name"),
]


@pytest.mark.parametrize(("content", "message"), BAD, ids=lambda one: str(one)[:30])
def test_what_cannot_be_is_refused_by_name_in_one_line(tmp_path: Path, content: object, message: str) -> None:
    path = written(tmp_path, content)
    with pytest.raises(SettingsError) as refused:
        read_options(path)
    assert message in str(refused.value)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_program_ends_with_status_2_and_the_line(tmp_path: Path) -> None:
    path = written(tmp_path, {**DEFAULTS, "exagerration": 1})
    done = subprocess.run(
        [sys.executable, "-m", "wyoming_chatterbox"],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(WYOMING_CHATTERBOX_OPTIONS_FILE=str(path), WYOMING_CHATTERBOX_ZEROCONF="false"),
    )
    assert done.returncode == 2
    assert done.stderr == (f"wyoming-chatterbox: {path}: exagerration: unknown setting; did you mean exaggeration?\n")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"options_file: \S*/none\.json cannot be read: .*No such file"):
        read_options(tmp_path / "none.json")
