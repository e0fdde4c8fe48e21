"""Whatever lies in a folder of voices: nothing outside is read, nothing is run, nothing waits, memory stays.

`HOSTILE` is what was tried; `python -m tests.voices.test_hostile_files` prints the line that each produced.
"""

from __future__ import annotations

import os
import pickle
import socket
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.voices.audio_factory import audio, sound, write
from wyoming_chatterbox.engine.registry import create_library
from wyoming_chatterbox.voices import folder, inspection
from wyoming_chatterbox.voices.clips import load_reference
from wyoming_chatterbox.voices.errors import ClipError
from wyoming_chatterbox.voices.library import VoiceLibrary

WENT_OFF = "went_off"


class Bomb:
    def __reduce__(self) -> object:
        return os.mkdir, (WENT_OFF,)


def sparse(path: Path, size: int, begin: bytes = b"") -> None:
    with path.open("wb") as file:
        file.write(begin)
        file.truncate(size)


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(path))  # a socket's address has 107 characters at most


def looped(path: Path) -> None:
    path.symlink_to(path.name)


def linked(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


def device(path: Path) -> None:
    try:
        os.mknod(path, 0o20644, os.makedev(1, 5))  # /dev/zero
    except OSError:
        pytest.skip("making devices is for root")


def many_files(path: Path) -> None:
    for number in range(25):
        write(path / f"{number:02}.wav", sound(1.5))


HOSTILE: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "a link to a file elsewhere": ("x.wav", linked("../outside.wav"), "a link to a file outside the folder of voices"),
    "a link with an absolute path": ("x.wav", linked("/etc/passwd"), "a link to a file outside the folder of voices"),
    "a link to a device": ("x.wav", linked("/dev/zero"), "it is not a regular file"),
    "a link to itself": ("x.wav", looped, "it cannot be read: "),
    "a link to a folder": ("x", linked("../secret"), "it is a link to a folder, which is not followed"),
    "a link in a folder": ("x/1.wav", linked("../../outside.wav"), "a link to a file outside the folder of voices"),
    "a yaml that is a link": ("ok.yaml", linked("/etc/passwd"), "a link to a file outside the folder of voices"),
    "a pipe": ("x.wav", os.mkfifo, "it is not a regular file"),
    "a pipe in a folder": ("x/1.wav", os.mkfifo, "it is not a regular file"),
    "a device": ("x.wav", device, "it is not a regular file"),
    "a socket": ("x.wav", listening, "it is not a regular file"),
    "10 GB, all holes": ("x.wav", lambda p: sparse(p, 10 * 10**9, audio()), "its size is 9537 MB (allowed: 64 MB)"),
    "10 GB in a folder": ("x/1.flac", lambda p: sparse(p, 10 * 10**9), "its size is 9537 MB (allowed: 64 MB)"),
    "a yaml of 1 GB": ("ok.yaml", lambda p: sparse(p, 10**9), "its size is 954 MB (allowed: 64 kB)"),
    "an hour of silence in 90 kB": (
        "x.flac",
        lambda p: p.write_bytes(audio(np.zeros(3600 * 8000, dtype=np.int16), 8000, "FLAC")),
        "it lasts 60 minutes according to its header",
    ),
    "a pickle called .pt": ("x.pt", lambda p: p.write_bytes(pickle.dumps(Bomb())), ".pt files are never loaded"),
    "a pickle called .wav": ("x.wav", lambda p: p.write_bytes(pickle.dumps(Bomb())), "it cannot be decoded"),
    "a pickle called .m4a": ("x.m4a", lambda p: p.write_bytes(pickle.dumps(Bomb())), "it cannot be decoded"),
    "a pickle in a folder": ("x/1.pt", lambda p: p.write_bytes(pickle.dumps(Bomb())), ".pt files are never loaded"),
    "safetensors": ("x.safetensors", lambda p: p.write_bytes(b"x" * 100), ".safetensors files are never loaded"),
    "a name with a question mark": ("what?.wav", write, "a voice's name cannot contain '?'; rename it"),
    "a name with a new line": ("a\nb.wav", write, "cannot contain U+000A, which cannot be seen; rename it"),
    "a name with an escape sequence": ("a\x1b[2Jb.wav", write, "a voice's name cannot contain U+001B"),
    "a name that is no UTF-8": (os.fsdecode(b"\xff\xfe.wav"), write, "contain the byte 0xFF, which is not UTF-8"),
    "a name of 200 characters": ("x" * 200 + ".wav", write, "a voice's name has at most 100 characters"),
    "a name that begins with a space": (" x.wav", write, "begins or ends with a space; rename it"),
    "nothing": ("x.wav", lambda p: p.touch(), "it is empty"),
    "text": ("x.wav", lambda p: p.write_text("hello"), "it cannot be decoded (Format not recognised)"),
    "a header without sound": ("x.wav", lambda p: p.write_bytes(audio()[:44]), "it contains no audio"),
    "a playlist called .m4a": ("x.m4a", lambda p: p.write_text("#EXTM3U\n/etc/passwd\n"), "it cannot be decoded"),
    "a film score in 16 channels": (
        "x.wav",
        lambda p: p.write_bytes(audio(np.tile(sound(2)[:, None], 16))),
        "it has 16 channels (allowed: 1 to 8)",
    ),
    "silence": ("x.wav", lambda p: write(p, 0 * sound()), "it is silent"),
    "half a second": ("x.wav", lambda p: write(p, sound(0.5)), "it has only 0.5 s of audio"),
    "25 clips of one voice": ("x", many_files, "only the first 20 clips are used"),
    "clips nobody may read": (
        "x.wav",
        lambda p: (write(p), p.chmod(0), None if os.geteuid() else pytest.skip("root may read all")),
        "it cannot be read",
    ),
}


def scan_beside_good_voice(folder: Path, name: str, make: Callable[[Path], object]) -> VoiceLibrary:
    """Puts a file into a folder of voices beside a good voice, and returns the scanned library."""
    voices = folder / "voices"
    write(voices / "ok.wav")
    write(folder / "outside.wav")
    write(folder / "secret" / "1.wav")
    path = voices / name
    path.parent.mkdir(exist_ok=True)
    make(path)
    library = create_library((voices,))
    library.scan(patient=False)
    return library


@pytest.mark.parametrize("what", HOSTILE)
def test_it_is_refused_in_words_and_at_once(tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name, make, message = HOSTILE[what]
    if name.endswith(".m4a"):
        pytest.importorskip("av")
    started = time.perf_counter()
    library = scan_beside_good_voice(tmp_path, name, make)
    assert time.perf_counter() - started < 10
    lines = [str(problem) for problem in library.problems]
    assert any(message in line for line in lines), lines
    assert all(len(line) < 400 and line.isprintable() for line in lines)
    extra = [voice.name for voice in library.voices if voice.name != "ok"]
    assert extra == (["x"] if "first 20 clips" in message else [])
    assert ("ok" in [voice.name for voice in library.voices]) is (name != "ok.yaml")
    assert not Path(WENT_OFF).exists()


def test_a_file_that_turns_into_a_link_after_it_was_looked_at_is_not_followed(tmp_path: Path) -> None:
    library = scan_beside_good_voice(tmp_path, "x.wav", write)
    (voice,) = [voice for voice in library.voices if voice.name == "x"]
    load_reference(voice.clips, voice.folder)
    voice.clips[0].unlink()
    voice.clips[0].symlink_to("../outside.wav")
    with pytest.raises(ClipError, match=r"x\.wav: it is a link to a file outside the folder of voices"):
        load_reference(voice.clips, voice.folder)


def test_a_link_inside_the_folder_is_a_voice(tmp_path: Path) -> None:
    library = scan_beside_good_voice(tmp_path, "x.wav", linked("ok.wav"))
    assert [voice.name for voice in library.voices] == ["ok", "x"] and not library.problems
    assert np.array_equal(*(load_reference(voice.clips, voice.folder)[0] for voice in library.voices))


def test_no_more_voices_are_looked_at_than_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "MAX_VOICES", 3)
    opened = []
    real = inspection.read_file
    monkeypatch.setattr(inspection, "read_file", lambda path, *rest: opened.append(path.name) or real(path, *rest))
    for number in range(5):
        write(tmp_path / f"{number}.wav", sound(1.5, pitch=100 + number))
    library = create_library((tmp_path,))
    library.scan(patient=False)
    assert [voice.name for voice in library.voices] == ["0", "1", "2"] == [name[0] for name in opened]
    assert "3.wav: the folder already has 3 voices; put this one into another folder" in map(str, library.problems)


if __name__ == "__main__":
    for what, (name, make, _) in HOSTILE.items():
        with tempfile.TemporaryDirectory() as scratch:
            try:
                problems = scan_beside_good_voice(Path(scratch), name, make).problems
                lines = [str(problem) for problem in problems if "only 1.5 s" not in problem.message]
            except BaseException as skipped:
                lines = [f"({skipped})"]
            print(f"| {what} | {'<br>'.join(lines)} |")
