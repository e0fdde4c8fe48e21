"""The rules for an app's config.yaml are kept by ours, and would notice each of these mistakes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest
import yaml

from tests.addon.rules import REPOSITORY, TRANSLATION, allows, broken
from wyoming_chatterbox.testing.serving import ROOT

ADDON = ROOT / "addon"
CONFIG: dict[str, Any] = yaml.safe_load((ADDON / "config.yaml").read_text())


def test_our_config_keeps_the_rules() -> None:
    assert list(broken(CONFIG)) == []


def put(key: str, value: object) -> Callable[[dict[str, Any]], None]:
    """Set `a.b` to a value."""

    def change(config: dict[str, Any]) -> None:
        *parents, last = key.split("/")
        for parent in parents:
            config = config[parent]
        config[last] = value

    return change


def drop(key: str) -> Callable[[dict[str, Any]], None]:
    def change(config: dict[str, Any]) -> None:
        *parents, last = key.split("/")
        for parent in parents:
            config = config[parent]
        del config[last]

    return change


MISTAKES = [
    (drop("version"), "'version' is a required property"),
    (drop("arch"), "'arch' is a required property"),
    (put("version", 0.1), "version: 0.1 is not of type 'string'"),
    (put("version", "latest"), "version: 'latest' does not match"),
    (put("arch", ["amd64", "armv7"]), "'armv7' is not one of"),
    (put("arch", []), "arch: []"),
    (put("slug", "Wyoming Chatterbox"), "slug: "),
    (put("image", "ghcr.io/x/{arch}-app"), "image: "),
    (put("image", "ghcr.io/x/app:0.1.0"), "image: "),
    (put("boot", "auto"), "boot repeats its default"),
    (put("startup", "application"), "startup repeats its default"),
    (put("host_network", False), "host_network repeats its default"),
    (put("init", True), "init repeats its default"),
    (put("stage", "stable"), "stage repeats its default"),
    (put("watchdog", "tcp://[HOST]:10200"), "watchdog is replaced by the image's HEALTHCHECK"),
    (put("advanced", True), "advanced is ignored"),
    (put("build_from", "debian"), "'build_from' was unexpected"),
    (put("init", "no"), "init: 'no' is not of type 'boolean'"),
    (put("map", ["share:rx"]), "map.0: "),
    (put("map", ["home"]), "map.0: "),
    (put("ports", {"10200": 0}), "ports.10200: "),
    (put("ports", {"wyoming/tcp": None}), "'wyoming/tcp' does not match"),
    (put("timeout", 5), "timeout: 5 is less than the minimum"),
    (put("schema/model", "choice(a|b)"), "schema.model: "),
    (put("schema/temperature", "float(0.05;5)"), "schema.temperature: "),
    (put("schema/voice", "str"), None),
    (put("schema/new", "bool"), "options.new is missing"),
    (put("schema/new", "bool?"), None),
    (drop("options/model"), "options.model is missing"),
    (put("options/new", 1), "options.new is not in the schema"),
    (put("options/exaggeration", 3), "options.exaggeration: 3 is not what float(0,2) allows"),
    (put("options/exaggeration", "0.5"), "options.exaggeration: '0.5' is not what"),
    (put("options/profile", "quick"), "options.profile: 'quick' is not what"),
    (put("options/log_level", "info"), "options.log_level: 'info' is not what"),
]


@pytest.mark.parametrize(("change", "message"), MISTAKES, ids=[str(words or "allowed")[:40] for _, words in MISTAKES])
def test_a_mistake_is_noticed(change: Callable[[dict[str, Any]], None], message: str | None) -> None:
    config = copy.deepcopy(CONFIG)
    change(config)
    found = list(broken(config))
    if message is None:
        assert found == []
    else:
        assert any(message in line for line in found), found


@pytest.mark.parametrize("language", ["en", "de", "fr", "es", "nl"])
def test_translations_keep_the_rules(language: str) -> None:
    translation = yaml.safe_load((ADDON / "translations" / f"{language}.yaml").read_text())
    jsonschema.validate(translation, TRANSLATION)
    del translation["configuration"]["model"]["name"]
    with pytest.raises(jsonschema.ValidationError, match="'name' is a required property"):
        jsonschema.validate(translation, TRANSLATION)


def test_the_repository_keeps_the_rules() -> None:
    repository = yaml.safe_load((ROOT / "repository.yaml").read_text())
    jsonschema.validate(repository, REPOSITORY)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**repository, "url": "github"}, REPOSITORY)


@pytest.mark.parametrize(
    ("element", "value", "allowed"),
    [
        ("float(0.05,5)", 0.05, True),
        ("float(0.05,5)", 0.04, False),
        ("float", 1, True),
        ("float", True, False),
        ("int(,5)", 5, True),
        ("int(,5)", 5.5, False),
        ("list(a|b)?", "b", True),
        ("list(a|b)", "a|b", False),
        ("match(^x+$)", "xx", True),
        ("match(^x+$)", "y", False),
        ("str?", "", True),
        ("str", 1, False),
        ("bool", "true", False),
        ("none of them", "x", False),
    ],
)
def test_the_supervisors_elements(element: str, value: object, allowed: bool) -> None:
    assert allows(element, value) is allowed
