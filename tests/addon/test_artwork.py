"""The app's two pictures are what script/artwork draws, of the sizes that Home Assistant shows."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

import pytest

from wyoming_chatterbox.testing.serving import ROOT, environment


def size(path: Path) -> tuple[int, int]:
    return struct.unpack(">II", path.read_bytes()[16:24])  # type: ignore[return-value]


@pytest.mark.parametrize(("name", "wanted"), [("icon.png", (128, 128)), ("logo.png", (250, 100))])
def test_sizes(name: str, wanted: tuple[int, int]) -> None:
    path = ROOT / "addon" / name
    assert size(path) == wanted
    assert path.stat().st_size < 10_000


def test_they_are_drawn_by_the_script(tmp_path: Path) -> None:
    if sys.prefix != str(ROOT / ".venv"):
        pytest.skip("needs the .venv that script/test makes")
    done = subprocess.run(
        [sys.executable, ROOT / "script" / "artwork", "--check"], capture_output=True, text=True, env=environment()
    )
    assert (done.returncode, done.stdout) == (0, "up to date\n"), done.stderr


def test_one_other_pixel_is_noticed(tmp_path: Path) -> None:
    """Our reader of pictures sees every pixel: the one that is drawn twice differs from one with a dot on it."""
    program = (
        f"import pathlib, sys; sys.path[:0] = [{str(ROOT / 'script')!r}]\n"
        "from pictures import artwork\n"
        "picture = artwork.icon()\n"
        f"path = pathlib.Path({str(tmp_path / 'x.png')!r})\n"
        "path.write_bytes(artwork.png(picture))\n"
        "print((artwork.read(path) != picture).sum())\n"
        "picture[5, 7, 3] ^= 255\n"
        "print((artwork.read(path) != picture).sum())\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment())
    assert done.stdout == "0\n1\n", done.stderr
