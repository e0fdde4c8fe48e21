"""What script/setup may not do to what is not its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def _clone(folder: Path) -> None:
    """What script/setup needs of this repository."""
    folder.mkdir()
    for name in ("script", "wyoming_chatterbox"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ROOT.iterdir():
        if file.is_file():
            shutil.copy(file, folder)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["run", "--help"], 0, "usage: script/run [--FLAG [VALUE] ...]"),
        (["run", "--version"], 0, "0."),
        (["run", "--no-such-flag"], 2, "error: --no-such-flag: unknown flag; see script/run --help"),
        (["run", "--exaggeration", "9"], 2, "error: --exaggeration: 9.0 is out of range"),
        (["run", "voices", "list", "--jsn"], 2, "error: --jsn: unknown flag"),
        (["voices", "--help"], 0, "usage: script/voices COMMAND"),
        (["models", "--help"], 0, "usage: script/models {list,download,verify,remove}"),
        (["models", "download"], 2, "download: give the name of a model"),
        (["voices", "preview", "--help"], 0, "usage: script/voices preview"),
        (["voices", "add"], 2, "required: FILE; see script/voices add --help"),
        (["say", ""], 2, "the text is empty"),
        (["ws-say", " ", "-o", "x.wav"], 2, "the text is empty"),
        (["say", "Hello.", "-o", "x.xyz"], 2, "give a name that ends in .wav"),
        (["setup", "--chaterbox"], 2, "unrecognized arguments: --chaterbox"),
    ],
)
def test_nothing_is_installed_for_help_or_for_a_mistake(
    tmp_path: Path, arguments: list[str], status: int, message: str
) -> None:
    folder = tmp_path / "clone"
    _clone(folder)
    program, *rest = arguments
    # -S: nothing but the standard library, as before anything is installed.
    done = subprocess.run(
        [sys.executable, "-S", folder / "script" / program, *rest],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin"},
    )
    assert (done.returncode, message in done.stdout + done.stderr) == (status, True), done.stdout + done.stderr
    assert not (folder / ".venv").exists() and not (tmp_path / "x.wav").exists()


def _checked(folder: Path) -> subprocess.CompletedProcess[str]:
    """Only the check: the rest would install something."""
    program = "import _environment; _environment._check_link(); print('fine')"
    return subprocess.run([sys.executable, "-c", program], cwd=folder / "script", capture_output=True, text=True)


@pytest.mark.parametrize("made_for", [None, "/another/folder\n/usr/bin/python3\n"])
def test_an_environment_that_is_only_linked_is_left_alone(tmp_path: Path, made_for: str | None) -> None:
    folder, other = tmp_path / "clone", tmp_path / "other"
    _clone(folder)
    (other / "bin").mkdir(parents=True)
    (other / "mine").write_text("precious")
    (other / "bin" / "python").symlink_to(sys.executable)
    if made_for is not None:
        (other / "setup-state").mkdir()
        (other / "setup-state" / "made-for").write_text(made_for)
    before = sorted(other.rglob("*"))
    (folder / ".venv").symlink_to(other)
    done = subprocess.run([sys.executable, folder / "script" / "setup"], capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert f".venv is a link to {other}" in done.stderr and "delete the link" in done.stderr
    assert (other / "mine").read_text() == "precious" and sorted(other.rglob("*")) == before
    assert (folder / ".venv").is_symlink()


def test_this_folders_own_environment_may_be_a_link(tmp_path: Path) -> None:
    folder, other = tmp_path / "clone", tmp_path / "other"
    _clone(folder)
    other.mkdir()
    link = folder / ".venv"
    link.symlink_to(other)
    assert _checked(folder).stdout == "fine\n", "it is empty"
    (other / "setup-state").mkdir()
    (other / "setup-state" / "made-for").write_text(f"{folder}\n/a/python/that/was/here\n")
    assert _checked(folder).stdout == "fine\n", "the system's Python became another one"
    link.unlink()
    link.symlink_to(ROOT / "README.md")
    assert "SetupError: .venv is a link to" in _checked(folder).stderr
