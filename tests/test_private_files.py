"""Voices and what is computed of them: for the server's own user alone, whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from tests.voices.audio_factory import audio, sound
from wyoming_chatterbox.engine.chatterbox import conditionals_store
from wyoming_chatterbox.engine.chatterbox.conditionals_store import ConditionalsCache
from wyoming_chatterbox.engine.registry import create_library
from wyoming_chatterbox.private_files import write_file
from wyoming_chatterbox.testing.serving import environment
from wyoming_chatterbox.voices import clips
from wyoming_chatterbox.voices.errors import ClipError


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_voices_that_are_added_are_nobody_elses_to_read_and_a_users_folder_stays_as_it_is(tmp_path: Path) -> None:
    new, old = tmp_path / "data" / "voices", tmp_path / "mine"
    old.mkdir()
    old.chmod(0o755)
    for folder, expected in ((new, 0o700), (old, 0o755)):
        library = create_library((folder,))
        library.open()
        library.add("anna", audio(sound(6)), config="gain: 1\n")
        assert (mode(folder), mode(folder / "anna.wav"), mode(folder / "anna.yaml")) == (expected, 0o600, 0o600)
    assert mode(new.parent) == 0o700


def test_what_is_computed_of_a_voice_is_nobody_elses_to_read(tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    folder = tmp_path / "conditionals"
    folder.mkdir()
    folder.chmod(0o755)  # as version 0.1.0 made it
    ConditionalsCache(folder).put({"a": np.zeros(3)}, "clip")
    (file,) = folder.iterdir()
    assert (mode(folder), mode(file)) == (0o700, 0o600)


@pytest.mark.parametrize("replace", [True, False])
def test_a_file_that_cannot_be_written_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replace: bool
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_file(tmp_path / "a", b"content", replace=replace, sync=True)
    monkeypatch.undo()
    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space"):
        write_file(tmp_path / "a", b"content", replace=replace)
    assert list(tmp_path.iterdir()) == []


WRITES = """
import os, sys, time
from pathlib import Path
from wyoming_chatterbox.private_files import write_file
os.fsync = lambda descriptor: (print("writing", flush=True), sys.stdin.readline())
write_file(Path(sys.argv[1]) / "a.wav", b"whole", sync=True)
"""


def test_a_second_server_leaves_the_first_ones_unfinished_files(tmp_path: Path) -> None:
    first = subprocess.Popen(
        [sys.executable, "-c", WRITES, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    assert first.stdout is not None and first.stdout.readline() == "writing\n"
    abandoned = tmp_path / ".0123456789abcdef.part"
    abandoned.write_text("of a process that was killed")
    os.utime(abandoned, (time.time() - 3600,) * 2)
    create_library((tmp_path,)).open()
    first.communicate("go on\n", timeout=30)
    assert first.returncode == 0
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a.wav", b"whole")]


def test_a_clip_on_a_share_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = threading.Event()
    monkeypatch.setattr(clips, "READ_SECONDS", 0.05)
    monkeypatch.setattr(clips, "read_file", lambda *_: answers.wait(30))
    with pytest.raises(ClipError, match=r"anna\.wav: it cannot be read: no answer within"):
        clips.load_reference([tmp_path / "anna.wav"])
    answers.set()


def test_conditionals_on_a_disk_that_hangs_are_computed_and_nothing_waits_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("safetensors")
    answers = threading.Event()
    read, calls = conditionals_store._read, []

    def hangs(path: Path) -> bytes:
        calls.append(path)
        answers.wait(30)
        return read(path)

    cache = ConditionalsCache(tmp_path)
    cache.put({"a": np.zeros(3)}, "clip")
    monkeypatch.setattr(conditionals_store, "DISK_SECONDS", 0.05)
    monkeypatch.setattr(conditionals_store, "_read", hangs)
    assert cache.get("clip") is None and cache.get("clip") is None
    cache.put({"a": np.zeros(3)}, "clip")
    assert len(calls) == 1
    answers.set()
    monkeypatch.setattr(conditionals_store, "DISK_SECONDS", 10)
    deadline = time.monotonic() + 10
    while cache.get("clip") is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)
