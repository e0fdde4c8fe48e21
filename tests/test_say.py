"""`script/say` and `script/ws-say`, run as a user runs them against a real server."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from wyoming_chatterbox.testing.serving import ROOT, Process, environment, spawned

pytestmark = pytest.mark.skipif(sys.prefix != str(ROOT / ".venv"), reason="needs the .venv that script/test makes")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with spawned(tmp_path_factory.mktemp("server"), "--model", "embedded", "--http-uri", "http://:0") as process:
        process.wait_for("Model embedded speaks")
        yield process


def say(server: Process, program: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    http = server.wait_for(r"listens on .*http://127\.0\.0\.1:(\d+)").group(1)
    at = {
        "say": ("--uri", f"tcp://127.0.0.1:{server.port}"),
        "ws-say": ("--url", f"ws://127.0.0.1:{http}/ws/stream/audio"),
    }
    return subprocess.run(
        [sys.executable, ROOT / "script" / program, *arguments, *at[program]],
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("program", "name", "format"),
    [
        ("say", "a.wav", ("WAV", "PCM_16")),
        ("say", "a.mp3", ("MP3", "MPEG_LAYER_III")),
        ("say", "a.FLAC", ("FLAC", "PCM_16")),
        ("say", "a.ogg", ("OGG", "OPUS")),
        ("ws-say", "a.opus", ("OGG", "OPUS")),
        ("ws-say", "a.mp3", ("MP3", "MPEG_LAYER_III")),
    ],
)
def test_a_file_is_what_its_name_says(
    server: Process, tmp_path: Path, program: str, name: str, format: tuple[str, str]
) -> None:
    done = say(server, program, tmp_path, "Good morning to you.", "-o", name)
    assert done.returncode == 0 and f"saved {name}" in done.stdout, done.stderr
    saved = soundfile.info(tmp_path / name)
    assert (saved.format, saved.subtype) == format and saved.samplerate == 24_000
    samples, _ = soundfile.read(tmp_path / name)
    assert 0.8 < len(samples) / 24_000 < 4 and np.abs(samples).max() > 0.1


@pytest.mark.parametrize("program", ["say", "ws-say"])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("", "-o", "a.wav"), "the text is empty: there is nothing to say"),
        ((" \n", "-o", "a.wav"), "the text is empty: there is nothing to say"),
        (("-", "-o", "a.wav"), "the text is empty: there is nothing to say"),
        (("Hello.", "-o", "a.m4a"), "'a.m4a': give a name that ends in .wav, .flac, .mp3, .ogg, .opus"),
        (("Hello.", "-o", "no/a.wav"), "'no/a.wav': there is no such directory"),
    ],
)
def test_what_cannot_be_said_or_saved_leaves_no_file(
    server: Process, tmp_path: Path, program: str, arguments: tuple[str, ...], message: str
) -> None:
    done = say(server, program, tmp_path, *arguments)
    assert done.returncode == 2 and message in done.stderr and "saved" not in done.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("program", ["say", "ws-say"])
def test_an_error_of_the_server_leaves_the_file_of_before(server: Process, tmp_path: Path, program: str) -> None:
    (tmp_path / "a.wav").write_text("precious")
    done = say(server, program, tmp_path, "Hello.", "--voice", "nobody", "-o", "a.wav")
    assert done.returncode == 1 and "There is no voice 'nobody'" in done.stderr
    assert (tmp_path / "a.wav").read_text() == "precious"


def test_a_text_without_a_word_is_an_error_and_no_file(server: Process, tmp_path: Path) -> None:
    done = say(server, "say", tmp_path, "...", "-o", "a.wav")
    if "first audio after" in done.stdout:
        pytest.skip("this server makes a sound of it")
    assert done.returncode == 1 and "nothing to say" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_file_that_cannot_be_written_is_one_line(server: Process, tmp_path: Path) -> None:
    (tmp_path / "a.wav").mkdir()
    done = say(server, "say", tmp_path, "Hello.", "-o", "a.wav")
    assert done.returncode == 1 and "error: a.wav cannot be written" in done.stderr and "Traceback" not in done.stderr
