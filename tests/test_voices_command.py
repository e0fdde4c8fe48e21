"""`wyoming-chatterbox voices`, as a user types it."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.test_original_server import PROGRAM
from tests.voices.audio_factory import sound, write
from wyoming_chatterbox.commands.arguments import COMMANDS, parse
from wyoming_chatterbox.knobs import knobs_of
from wyoming_chatterbox.settings import Settings
from wyoming_chatterbox.testing.serving import environment


def voices(
    folder: Path, *arguments: str, program: tuple[str, ...] = (sys.executable, "-m", "wyoming_chatterbox")
) -> Any:
    return subprocess.run(
        [*program, "voices", *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment(WYOMING_CHATTERBOX_DATA_DIR=str(folder / "data")),
        stdin=subprocess.DEVNULL,
        timeout=100,
    )


def test_a_voice_is_added_listed_checked_and_removed(tmp_path: Path) -> None:
    write(tmp_path / "Anna K.wav", sound(3))
    (tmp_path / "manner.yaml").write_text("title: Anna (warm)\nexaggeration: 0.7\naliases: [mum]\n")
    assert "There are no voices in" in voices(tmp_path, "list").stdout
    added = voices(tmp_path, "add", "Anna K.wav", "--name", "anna", "--settings", "manner.yaml")
    assert added.returncode == 0 and "Voice anna is in" in added.stdout and "only 3.0 s of audio" in added.stdout
    assert sorted(path.name for path in (tmp_path / "data/voices").iterdir()) == ["anna.wav", "anna.yaml"]
    listed = voices(tmp_path, "list").stdout
    for word in ("anna", "Anna (warm)", "exaggeration 0.7", "mum", "3.0 s"):
        assert word in listed
    again = voices(tmp_path, "add", "Anna K.wav", "--name", "anna")
    assert again.returncode == 1 and "a voice 'anna' already exists" in again.stderr and not again.stdout
    assert voices(tmp_path, "add", "Anna K.wav", "--name", "anna", "--replace").returncode == 0
    checked = voices(tmp_path, "check")
    assert checked.returncode == 0 and "warning: anna.wav: it has only 3.0 s" in checked.stdout
    removed = voices(tmp_path, "remove", "anna")
    assert removed.returncode == 0 and "Deleted" in removed.stdout
    assert not list((tmp_path / "data/voices").iterdir())
    assert voices(tmp_path, "remove", "anna").returncode == 1


def test_check_looks_at_files_from_anywhere_and_its_status_says_whether_all_are_usable(tmp_path: Path) -> None:
    write(tmp_path / "good.flac")
    (tmp_path / "bad.wav").write_bytes(b"no audio")
    (tmp_path / "data/voices").mkdir(parents=True)
    good = voices(tmp_path, "check", "good.flac")
    assert good.returncode == 0 and "good" in good.stdout
    both = voices(tmp_path, "check", "good.flac", "bad.wav", "--json")
    assert both.returncode == 1
    report = {one["voice"]: one for one in json.loads(both.stdout)["voices"]}
    assert report["good.flac"] == {"voice": "good.flac", "seconds": 6.0, "errors": [], "warnings": []}
    assert report["bad.wav"]["errors"] == ["it cannot be decoded (Format not recognised); use a WAV file"]
    nobody = voices(tmp_path, "check", "nobody")
    assert nobody.returncode == 1 and "there is no voice 'nobody' in" in nobody.stderr


def test_json_is_all_there_is_on_standard_output(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    write(folder / "anna.wav")
    write(folder / "fam" / "dad" / "1.wav")
    write(folder / "ben.wav", 0 * sound())
    listed = voices(tmp_path, "list", "--json", "--voices-dir", str(folder))
    found = json.loads(listed.stdout)
    assert [(one["name"], one["speaker"], one["seconds"]) for one in found["voices"]] == [
        ("anna", None, 6.0),
        ("fam", "dad", 6.0),
    ]
    assert found["problems"] == [
        {"file": "ben.wav", "message": "it is silent; use 5 to 15 s of clear speech", "fatal": True, "voice": "ben"}
    ]
    failed = voices(tmp_path, "add", "nothing.wav", "--json", "--voices-dir", str(folder))
    assert failed.returncode == 1 and "cannot be read: No such file" in json.loads(failed.stdout)["error"]
    assert not failed.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "arguments are required: COMMAND"),
        (["shout"], "invalid choice: 'shout'"),
        (["--voice-dir", "x"], "--voice-dir: unknown flag; did you mean --voices-dir? See "),
        (["add", "x.wav", "--force-it"], "--force-it: unknown flag; see "),
        (["add", "x.wav", "--repalce"], "--repalce: unknown flag; did you mean --replace? See "),
        (["check", "--exaggeration", "7"], "--exaggeration: 7.0 is out of range"),
        (["add"], "arguments are required: FILE"),
        (["list", "--voice-dir", "x"], "--voice-dir: unknown flag; did you mean --voices-dir? See "),
        (["list", "--voices-dir", "/nowhere/at/all"], "--voices-dir: '/nowhere/at/all' is not a directory"),
        (["preview", "anna"], "arguments are required: -o/--output"),
    ],
)
def test_what_is_mistyped_ends_with_status_2_and_one_line(tmp_path: Path, arguments: list[str], message: str) -> None:
    done = voices(tmp_path, *arguments)
    assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1


def test_check_takes_the_folder_on_either_side_of_the_names(tmp_path: Path) -> None:
    write(tmp_path / "mine/voices/anna.wav")
    write(tmp_path / "mine/voices/ben.wav")
    data, folder = ("--data-dir", "mine"), ("--voices-dir", "mine/voices")
    for arguments, names in (
        (["check", *data], ["anna", "ben"]),
        (["check", *folder], ["anna", "ben"]),
        ([*data, "check", "ben"], ["ben"]),
        (["check", "anna", *folder, "ben"], ["anna", "ben"]),
    ):
        checked = voices(tmp_path, *arguments, "--json")
        assert checked.returncode == 0, checked.stderr
        assert [one["voice"] for one in json.loads(checked.stdout)["voices"]] == names


def options_of(command: str) -> list[list[str]]:
    """Every option of a command, the server's flags among them, with a value where it takes one."""
    own = {"add": [["--name", "x"], ["--settings", "y"], ["--replace"]], "remove": [["--yes"]]}
    own["preview"] = [["--output", "c.wav"], ["-o", "c.wav"], ["--text", "check"]]
    found = [["--json"], *own.get(command, [])]
    for knob in knobs_of(Settings):
        if knob.kind is bool:
            found.append([knob.flag])
        elif knob.name not in ("model_dir", "reference_clip", "http_token_file", "options_file"):  # must exist
            value = {"http_uri": "http://localhost:1", "http_cors_origin": "null", "voices_dir": "here"}
            value |= {"uri": "tcp://a:1", "device": "cpu"}
            default = knob.default if knob.default not in (None, (), "") else "list"
            found.append([knob.flag, str(value.get(knob.name, default))])
    return found


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_of_every_command_is_understood_wherever_it_stands(command: str) -> None:
    words = {"check": ["a", "b"], "add": ["f"], "remove": ["n"], "preview": ["n"]}.get(command, [])
    for option in options_of(command):
        needed = ["-o", "o"] if command == "preview" and option[0] not in ("-o", "--output") else []
        plain, settings = parse([command, *words, *needed, *option], {})
        assert plain.command == command
        whole = [command, *words, *needed]
        for position in range(len(whole) + 1):
            if whole[position - 1 : position] == ["-o"]:
                continue  # its value belongs there
            arguments = [*whole[:position], *option, *whole[position:]]
            assert parse(arguments, {}) == (plain, settings), arguments
            if len(option) == 2:
                attached = [*whole[:position], "=".join(option), *whole[position:]]
                assert option[0] == "-o" or parse(attached, {}) == (plain, settings), attached


def test_on_a_terminal_it_asks_before_it_deletes(tmp_path: Path) -> None:
    write(tmp_path / "data/voices/anna.wav")
    for answer, left in ((b"n\n", True), (b"\x04", True), (b"y\n", False)):
        parent, child = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "wyoming_chatterbox", "voices", "remove", "anna"],
            stdin=child,
            stdout=child,
            stderr=child,
            env=environment(WYOMING_CHATTERBOX_DATA_DIR=str(tmp_path / "data")),
        )
        os.close(child)
        os.write(parent, answer)
        assert process.wait(60) == (1 if left else 0)
        said = os.read(parent, 10_000)
        assert b"Delete the files of voice 'anna'" in said and b"Traceback" not in said
        os.close(parent)
        assert (tmp_path / "data/voices/anna.wav").exists() is left


@pytest.mark.slow
def test_preview_speaks_with_the_model_itself(tiny_checkpoint: Path, tmp_path: Path) -> None:
    write(tmp_path / "data/voices/anna.wav")
    model = ["--model-dir", str(tiny_checkpoint), "--device", "cpu"]
    for name, file in (("anna", "a.wav"), ("anna?seed=3", "b.wav")):
        done = voices(
            tmp_path, "preview", name, "-o", file, "--text", "Hello there.", "--json", *model, program=PROGRAM
        )
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout)
        assert (said["voice"], said["model"], said["file"]) == ("anna", "original", file)
    heard = []
    for file in ("a.wav", "b.wav"):
        with wave.open(str(tmp_path / file)) as saved:
            assert (saved.getframerate(), saved.getnchannels()) == (24_000, 1)
            heard.append(np.frombuffer(saved.readframes(saved.getnframes()), dtype="<i2"))
    assert len(heard[0]) / 24_000 == pytest.approx(1.2, abs=0.05) and not np.array_equal(*heard)
    refused = voices(tmp_path, "preview", "ana", "-o", "c.wav", *model, program=PROGRAM)
    assert refused.returncode == 1 and "There is no voice 'ana'; similar names: anna" in refused.stderr
    nowhere = voices(tmp_path, "preview", "anna", "-o", "no/c.wav", *model)
    assert nowhere.returncode == 1 and "there is no directory no" in nowhere.stderr
    broken = voices(tmp_path, "preview", "anna", "-o", "c.wav", "--model-dir", str(tmp_path), program=PROGRAM)
    assert (
        broken.returncode == 1
        and "model original cannot speak: " in broken.stderr
        and "no ve.safetensors" in broken.stderr
    )
    assert not (tmp_path / "c.wav").exists()


def test_help_is_quick_and_loads_no_model(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom wyoming_chatterbox.__main__ import main\n"
        "try: main(['voices', 'list', '--help'])\nexcept SystemExit: pass\n"
        "print(sorted({'torch', 'wyoming', 'zeroconf', 'onnxruntime', 'av'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment(), timeout=60
    )
    assert "list the voices" in done.stdout and done.stdout.splitlines()[-1] == "[]"
