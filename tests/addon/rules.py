"""The rules that an app's files keep, so far as they can be told from the files.

They are those of the Supervisor (2026.11: `supervisor/apps/validate.py`, `options.py`) where breaking one makes it
refuse the app or drop a value, and of the community's linter where keeping one costs nothing: no key that only repeats
its default, nothing that is deprecated.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import jsonschema

ELEMENT = (
    r"^(bool|email|url|port|device(\(subsystem=[a-z]+\))?|(str|password)(\(\d*,\d*\))?|int(\(-?\d*,-?\d*\))?"
    r"|float(\((-?\d*\.?\d+)?,(-?\d*\.?\d+)?\))?|match\(.*\)|list\(.+\))\??$"
)
"""One element of `schema`."""

DEFAULTS: dict[str, object] = {
    "apparmor": True,
    "audio": False,
    "auth_api": False,
    "backup": "hot",
    "boot": "auto",
    "devicetree": False,
    "docker_api": False,
    "full_access": False,
    "gpio": False,
    "hassio_api": False,
    "hassio_role": "default",
    "homeassistant_api": False,
    "host_dbus": False,
    "host_ipc": False,
    "host_network": False,
    "host_pid": False,
    "host_uts": False,
    "ingress": False,
    "ingress_port": 8099,
    "ingress_stream": False,
    "init": True,
    "journald": False,
    "kernel_modules": False,
    "legacy": False,
    "options": {},
    "panel_admin": True,
    "panel_icon": "mdi:puzzle",
    "realtime": False,
    "schema": {},
    "stage": "stable",
    "startup": "application",
    "stdin": False,
    "timeout": 10,
    "tmpfs": False,
    "uart": False,
    "udev": False,
    "ulimits": {},
    "usb": False,
    "video": False,
}
"""What the Supervisor assumes for a key that is left out."""

RETIRED = {
    "advanced": "is ignored since Supervisor 2026.03",
    "auto_uart": "is called uart",
    "codenotary": "is ignored",
    "watchdog": "is replaced by the image's HEALTHCHECK",
}

_TEXT = {"type": "string", "minLength": 1}
_FOLDERS = "share|media|ssl|backup|config|addons|homeassistant_config|addon_config|all_addon_configs|data"

CONFIG: dict[str, Any] = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "type": "object",
    "required": ["name", "version", "slug", "description", "arch"],
    "additionalProperties": False,
    "properties": {
        # A switch is a boolean here, although the Supervisor also takes the word.
        **{key: {"type": "boolean"} for key, value in DEFAULTS.items() if isinstance(value, bool)},
        "name": _TEXT,
        "version": {"type": "string", "pattern": r"^\d+\.\d+\.\d+([.-]?[a-z]+\d*)?$"},
        "slug": {"type": "string", "pattern": "^[-_.a-z0-9]+$"},
        "description": {**_TEXT, "maxLength": 120},
        "url": {"type": "string", "pattern": "^https://"},
        "arch": {
            "type": "array",
            "items": {"enum": ["aarch64", "amd64"]},
            "minItems": 1,
            "uniqueItems": True,
        },
        "image": {
            "type": "string",
            "pattern": r"^[a-z0-9.-]+(:\d+)?(/[a-z0-9._-]+)+$",
            "$comment": "generic: no {arch}, and no tag, which is the version",
        },
        "backup": {"enum": ["hot", "cold"]},
        "backup_exclude": {"type": "array", "items": _TEXT},
        "boot": {"enum": ["auto", "manual", "manual_only"]},
        "breaking_versions": {"type": "array", "items": _TEXT},
        "discovery": {"type": "array", "items": _TEXT},
        "environment": {"type": "object", "additionalProperties": {"type": "string"}},
        "homeassistant": _TEXT,
        "ingress_port": {"type": "integer", "minimum": 0, "maximum": 65535},
        "map": {"type": "array", "items": {"type": "string", "pattern": f"^({_FOLDERS})(:(rw|ro))?$"}},
        "options": {"type": "object"},
        "panel_icon": {"type": "string", "pattern": "^mdi:"},
        "ports": {
            "type": "object",
            "propertyNames": {"pattern": r"^\d{1,5}(/(tcp|udp))?$"},
            "additionalProperties": {
                "anyOf": [{"type": "null"}, {"type": "integer", "minimum": 1, "maximum": 65535}],
            },
        },
        "schema": {"$ref": "#/definitions/elements"},
        "stage": {"enum": ["stable", "experimental", "deprecated"]},
        "startup": {"enum": ["initialize", "system", "services", "application", "once"]},
        "timeout": {"type": "integer", "minimum": 10, "maximum": 300},
        "ulimits": {"type": "object", "additionalProperties": {"type": "integer"}},
    },
    "definitions": {
        "element": {
            "anyOf": [
                {"type": "string", "pattern": ELEMENT},
                {"$ref": "#/definitions/elements"},
                {
                    "type": "array",
                    "minItems": 1,
                    "maxItems": 1,
                    "items": {"anyOf": [{"type": "string", "pattern": ELEMENT}, {"$ref": "#/definitions/elements"}]},
                },
            ]
        },
        "elements": {"type": "object", "additionalProperties": {"$ref": "#/definitions/element"}},
    },
}

TRANSLATION: dict[str, Any] = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "type": "object",
    "required": ["configuration", "network"],
    "additionalProperties": False,
    "properties": {
        "configuration": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "required": ["name", "description"],
                "additionalProperties": False,
                "properties": {"name": {**_TEXT, "maxLength": 50}, "description": {**_TEXT, "maxLength": 350}},
            },
        },
        "network": {"type": "object", "additionalProperties": _TEXT},
    },
}

REPOSITORY: dict[str, Any] = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "type": "object",
    "required": ["name", "url", "maintainer"],
    "additionalProperties": False,
    "properties": {"name": _TEXT, "url": {"type": "string", "pattern": "^https://"}, "maintainer": _TEXT},
}


def broken(config: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with an app's config.yaml, a line for each rule that it breaks."""
    for key in config:
        if key in RETIRED:
            yield f"{key} {RETIRED[key]}"
        elif key in DEFAULTS and config[key] == DEFAULTS[key] and type(config[key]) is type(DEFAULTS[key]):
            yield f"{key} repeats its default"
    kept = {key: value for key, value in config.items() if key not in RETIRED}
    for error in jsonschema.Draft7Validator(CONFIG).iter_errors(kept):
        yield f"{'.'.join(map(str, error.absolute_path)) or 'config'}: {error.message}"
    schema, options = config.get("schema", {}), config.get("options", {})
    if isinstance(schema, dict) and isinstance(options, dict):
        yield from _options_broken(schema, options)


def _options_broken(schema: Mapping[str, Any], options: Mapping[str, Any]) -> Iterator[str]:
    for name, element in schema.items():
        optional = isinstance(element, str) and element.endswith("?")
        if name not in options and not optional:
            yield f"options.{name} is missing: the Supervisor does not start an app that lacks a required option"
    for name, value in options.items():
        if name not in schema:
            yield f"options.{name} is not in the schema: the Supervisor removes it"
        elif isinstance(schema[name], str) and not allows(schema[name], value):
            yield f"options.{name}: {value!r} is not what {schema[name]} allows"


def allows(element: str, value: object) -> bool:
    """Whether the Supervisor takes a value for an element of the schema."""
    found = re.match(r"(\w+)(?:\((.*)\))?\??$", element)
    if found is None or re.match(ELEMENT, element) is None:
        return False
    kind, limits = found.group(1), found.group(2) or ""
    if kind == "bool":
        return isinstance(value, bool)
    if kind in ("int", "float"):
        low, _, high = limits.partition(",")
        number = isinstance(value, (int, float) if kind == "float" else int) and not isinstance(value, bool)
        return number and float(low or "-inf") <= float(str(value)) <= float(high or "inf")
    if kind == "list":
        return str(value) in limits.split("|")
    if kind == "match":
        return isinstance(value, str) and re.match(limits, value) is not None
    return isinstance(value, str)
