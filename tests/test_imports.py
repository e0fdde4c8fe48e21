"""The rules of the house: who may import whom, and what may not be loaded."""

from __future__ import annotations

import ast
import builtins
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from wyoming_chatterbox.testing.serving import ROOT, environment

PACKAGE = ROOT / "wyoming_chatterbox"

ROOMS: dict[str, set[str]] = {
    "knobs": set(),
    "addresses": set(),
    "speech_settings": {"knobs"},
    "compute_settings": {"knobs"},
    "settings": {"engine"},
    "path_checks": {"blocking", "settings"},
    "timeouts": set(),
    "json_limits": set(),
    "faults": set(),
    "logs": set(),
    "blocking": {"timeouts"},
    "private_files": set(),
    "descriptors": set(),
    "audio": set(),
    "sockets": {"blocking"},
    "voices": {"speech_settings", "audio", "timeouts", "blocking", "private_files"},
    "engine": {
        "logs",
        "voices",
        "knobs",
        "speech_settings",
        "compute_settings",
        "audio",
        "timeouts",
        "blocking",
        "faults",
        "private_files",
    },
    "hosting": {"engine", "voices", "speech_settings", "timeouts"},
    "speech": {
        "logs",
        "hosting",
        "engine",
        "voices",
        "audio",
        "settings",
        "timeouts",
        "blocking",
        "faults",
        "private_files",
    },
    "model_choice": {"engine", "settings", "blocking"},
    "model_factory": {"model_choice", "speech", "hosting", "engine", "voices", "settings", "blocking"},
    "commands": {"cli", "engine", "model_factory", "speech", "voices", "audio", "settings", "timeouts", "blocking"},
    "discovery": {"settings", "timeouts", "blocking"},
    "protocol": {
        "logs",
        "speech",
        "voices",
        "audio",
        "settings",
        "timeouts",
        "sockets",
        "blocking",
        "faults",
        "json_limits",
    },
    "http": {
        "logs",
        "hosting",
        "engine",
        "speech",
        "voices",
        "audio",
        "settings",
        "timeouts",
        "sockets",
        "blocking",
        "faults",
        "json_limits",
    },
    "server": {
        "engine",
        "edge",
        "protocol",
        "http",
        "speech",
        "voices",
        "model_factory",
        "discovery",
        "settings",
        "timeouts",
        "blocking",
        "descriptors",
    },
    "edge": set(),
    "api": {"engine", "speech_settings", "compute_settings"},
    "app_options": {"engine", "settings"},
    "cli": {"app_options", "path_checks", "settings"},
    "healthcheck": {"cli", "settings"},
    "__main__": {"logs", "server", "sockets", "settings", "cli", "commands", "blocking"},
}
"""Each room of the package and the rooms it may import. Nothing imports upward."""

SETTINGS = {"knobs", "addresses", "speech_settings", "compute_settings"}
"""What `settings` is made of: open to all that may import it."""

ROOMS["openmp"] = set()
for _room in ("engine", "__main__"):
    ROOMS[_room].add("openmp")
for _rooms in ROOMS.values():
    _rooms.update({"installation", "errors", "limits", "language_codes"})
    if "settings" in _rooms:
        _rooms.update(SETTINGS)
ROOMS["settings"] |= SETTINGS
ROOMS |= {"installation": set(), "errors": set(), "limits": set(), "language_codes": set()}
"""Leaves for all: which command works here, the root of all exceptions, every bound, what a language code means."""

ROOMS["testing"] = set(ROOMS)
"""Nothing of the package imports it."""

TORCH = {"torch", "torchaudio", "chatterbox", "perth", "transformers", "librosa", "safetensors"}
EDGES = {"wyoming", "zeroconf", "socket"}
HTTP = {"fastapi", "starlette", "uvicorn", "pydantic", "h11", "websockets", "prometheus_client"}
"""Packages of the http extra: the light server has none of them."""


def room_of(path: Path) -> str:
    relative = path.relative_to(PACKAGE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def imports_of(path: Path) -> Iterator[str]:
    """Absolute names of everything a module imports, wherever in it."""
    package = [PACKAGE.name, *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])])
            yield name
            yield from (f"{name}.{alias.name}" for alias in node.names)


MODULES = sorted(PACKAGE.rglob("*.py"))

CHATTERBOX = PACKAGE / "engine" / "chatterbox"
"""The only folder whose modules import torch, and do so at their top."""


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_what_its_room_may(path: Path) -> None:
    room = room_of(path)
    if room == "__init__":
        return
    assert room in ROOMS, f"{path.name} is a new room: say in this table what it may import"
    for name in imports_of(path):
        parts = name.split(".")
        if parts[0] == PACKAGE.name and len(parts) > 1 and parts[1] in ROOMS:
            assert parts[1] == room or parts[1] in ROOMS[room], f"{room} may not import {parts[1]}"
        if parts[0] in TORCH:
            assert CHATTERBOX in path.parents or room == "testing", f"{room} may not import {parts[0]}"
        if parts[0] in HTTP:
            assert room == "http", f"{room} may not import {parts[0]}"
        if parts[0] in EDGES:
            assert room not in ("engine", "hosting", "voices", "speech", "audio", "settings"), (
                f"{room} may not import {parts[0]}"
            )


@pytest.mark.parametrize("path", sorted((PACKAGE / "speech").rglob("*.py")), ids=lambda path: path.name)
def test_speech_holds_hosts_and_never_engines(path: Path) -> None:
    """Of the engines it may know the errors and values of their interface alone."""
    modules = {".".join(name.split(".")[:3]) for name in imports_of(path)}
    allowed = {"wyoming_chatterbox.engine.base", "wyoming_chatterbox.hosting.base"}
    assert {name for name in modules if name.split(".")[1:2] in (["engine"], ["hosting"])} <= allowed


def test_the_rules_can_fail() -> None:
    """The walk above sees relative imports: the edge really imports speech, and not the other way round."""
    seen = set(imports_of(PACKAGE / "protocol" / "connection.py"))
    assert "wyoming_chatterbox.speech.service" in seen
    assert "wyoming_chatterbox.settings" in seen


def test_every_exception_of_the_package_has_one_root() -> None:
    """Whoever embeds the server can catch what it raises by one name, and tell it from what a library raises."""
    bases = {
        node.name: {base.id for base in node.bases if isinstance(base, ast.Name)}
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
    }
    built_in = {name for name, value in vars(builtins).items() if isinstance(value, type)}
    exceptions = {name for name in built_in if issubclass(getattr(builtins, name), BaseException)}
    roots = {name for name, above in bases.items() if above & exceptions and "WyomingChatterboxError" not in above}
    assert roots == {"WyomingChatterboxError"}


def test_importing_every_module_of_the_package_imports_no_torch() -> None:
    light = [path for path in MODULES if CHATTERBOX not in path.parents and path.name != "api.py"]
    modules = [".".join([PACKAGE.name, *path.relative_to(PACKAGE).with_suffix("").parts]) for path in light]
    program = (
        "import importlib, json, sys\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        f"print(json.dumps(sorted({TORCH!r} & {{name.split('.')[0] for name in sys.modules}})))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment(), timeout=60
    )
    assert json.loads(answer.stdout) == []


def test_the_package_offers_the_python_interface_and_loads_it_when_it_is_used() -> None:
    program = (
        "import sys, wyoming_chatterbox\n"
        "print(sorted({'torch', 'numpy', 'wyoming_chatterbox.engine'} & set(sys.modules)))\n"
        "from wyoming_chatterbox import ChatterboxTTS\n"
        "print(ChatterboxTTS.__name__, hasattr(ChatterboxTTS, 'generate_stream'), hasattr(wyoming_chatterbox, 'TTS'))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment(), timeout=60
    )
    assert answer.stdout.splitlines() == ["[]", "ChatterboxTTS True False"]


def test_version_loads_neither_the_edge_nor_the_voice() -> None:
    program = (
        "import sys\n"
        "from wyoming_chatterbox.__main__ import main\n"
        "try: main(['--version'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'numpy', 'wyoming', 'zeroconf', 'onnxruntime', 'regex', 'rich', 'yaml'} & set(sys.modules)))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment(), timeout=60
    )
    assert answer.stdout.splitlines()[-1] == "[]"
