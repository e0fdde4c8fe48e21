"""Messages name commands that work where the program was installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from wyoming_chatterbox.testing.serving import ROOT

ASK = "from wyoming_chatterbox.installation import *; print(server_command(), voices_command(), sep='|', end='|');"
ASK += "print(installing('http'), installing('http', 'av'), installing('chatterbox', and_then='X'), sep='|')"


def answers(python: Path | str, folder: Path) -> list[str]:
    env = {**os.environ, "PYTHONPATH": str(folder)}
    return (
        subprocess.run([python, "-c", ASK], cwd="/", env=env, capture_output=True, text=True, check=True)
        .stdout.strip()
        .split("|")
    )


def test_each_way_of_installing_has_its_own_commands(tmp_path: Path) -> None:
    folder = tmp_path / "clone"
    shutil.copytree(ROOT / "wyoming_chatterbox", folder / "wyoming_chatterbox")
    elsewhere = [
        "wyoming-chatterbox",
        "wyoming-chatterbox voices",
        "run script/setup --http in a checkout of this program, or there: pip install '.[http]'",
        "run pip install av",
        "run script/setup --chatterbox in a checkout of this program, or there: pip install '.[chatterbox]' and then X",
    ]
    assert answers(sys.executable, folder) == elsewhere
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / ".venv"], check=True)
    python = folder / ".venv/bin/python"
    assert answers(python, folder) == elsewhere, "as in the images, which have no script/voices"
    (folder / "script").mkdir()
    (folder / "script/voices").touch()
    setup = ["run script/setup --http", "run script/setup --http", "run script/setup --chatterbox"]
    assert answers(python, folder) == ["script/run", "script/voices", *setup]
    assert answers(sys.executable, folder) == elsewhere, "another Python, with the checkout on its path"


def test_nothing_names_this_program_as_a_package_of_a_registry() -> None:
    files = [*(ROOT / "wyoming_chatterbox").rglob("*.py"), *(ROOT / "docs").glob("*.md"), ROOT / "README.md"]
    assert not [path for path in files if re.search("pip install .?wyoming-chatterbox", path.read_text())]
