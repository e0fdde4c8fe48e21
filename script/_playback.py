"""What the commands that say something share: where the audio goes, and what the answer cost."""

import argparse
import contextlib
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PLAYERS = {
    "pw-cat": "--playback --raw --rate {rate} --channels {channels} --format s16 -",
    "pacat": "--playback --rate={rate} --channels={channels} --format=s16le --raw",
    "aplay": "-q -t raw -f S16_LE -r {rate} -c {channels} -",
    "play": "-q -t raw -e signed -b 16 -r {rate} -c {channels} -",
    "ffplay": "-loglevel error -nodisp -autoexit -f s16le -ar {rate} -ch_layout mono -i -",
}
"""Programs that play raw audio from their standard input while it arrives."""


@dataclass
class Cost:
    """What was seen from outside the server."""

    started: float
    first_audio: float | None = None
    chunks: int = 0
    frames: int = 0
    rate: int = 1
    model: str = "?"
    voice: str = "?"
    fallback: bool = False

    @property
    def audio(self) -> float:
        return self.frames / self.rate

    def show_progress(self) -> None:
        if sys.stderr.isatty():
            seconds = time.perf_counter() - self.started
            print(
                f"\r{self.audio:6.2f} s of audio after {seconds:.2f} s, {self.chunks} chunks ", end="", file=sys.stderr
            )

    def show(self) -> int:
        """Print what it cost; the exit status: 1 where there was no audio."""
        seconds = time.perf_counter() - self.started
        if sys.stderr.isatty():
            print(file=sys.stderr)
        instead = ", in the place of the model that cannot speak yet" if self.fallback else ""
        print(f"model {self.model}, voice {self.voice}{instead}")
        if self.first_audio is None:
            print("error: no audio: there was nothing to say in this text", file=sys.stderr)
            return 1
        print(
            f"first audio after {self.first_audio * 1000:.0f} ms, {self.chunks} chunks, {self.audio:.2f} s of audio, "
            f"RTF {seconds / self.audio:.3f}"
        )
        return 0


SAVE = "save it instead of playing: .wav, .flac, .mp3, .ogg or .opus"

FORMATS = {
    ".wav": ("WAV", "PCM_16"),
    ".flac": ("FLAC", "PCM_16"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
    ".ogg": ("OGG", "OPUS"),
    ".opus": ("OGG", "OPUS"),
}
"""libsndfile's names for what a file may be saved as, by its suffix."""


def checked_text(parser: argparse.ArgumentParser, text: str) -> str:
    """Returns the text to say, or that of standard input; ends the program where there is none."""
    text = sys.stdin.read() if text == "-" else text
    if not text.strip():
        parser.error("the text is empty: there is nothing to say")
    return text


def output_file(text: str) -> Path:
    """For argparse: a file that can be written, with the suffix of a format that is known."""
    path = Path(text)
    if path.suffix.lower() not in FORMATS:
        raise argparse.ArgumentTypeError(f"{text!r}: give a name that ends in {', '.join(FORMATS)}")
    if not path.absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r}: there is no such directory")
    return path


class OutputError(Exception):
    """The audio can neither be played nor saved; the message says what to do."""


class Output:
    """Where the audio goes: a file, or a player. Neither is begun before there is audio."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._format: tuple[int, int, int] | None = None
        self._file: Any = None
        self._player: subprocess.Popen[bytes] | None = None

    def open(self, rate: int, width: int, channels: int) -> None:
        """What the audio will be."""
        self._format = rate, width, channels

    def write(self, pcm: bytes) -> None:
        """Play or save some of it.

        Raises OutputError.
        """
        if not pcm:
            return
        if self._file is None and self._player is None:
            self._begin()
        if self._file is not None:
            self._file.buffer_write(pcm, dtype="int16")
        elif self._player is not None and self._player.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._player.stdin.write(pcm)

    def close(self) -> None:
        """Wait until everything is played or saved."""
        if self._file is not None:
            self._file.close()
            print(f"saved {self._path}")
        elif self._player is not None:
            self._player.communicate()

    def _begin(self) -> None:
        if self._format is None:
            raise OutputError("audio came before the message that says what it is")
        rate, width, channels = self._format
        if self._path is not None:
            self._file = _opened(self._path, rate, width, channels)
            return
        for name, arguments in PLAYERS.items():
            if shutil.which(name):
                words = [name, *arguments.format(rate=rate, channels=channels).split()]
                self._player = subprocess.Popen(words, stdin=subprocess.PIPE)
                return
        raise OutputError(f"no program to play audio with ({', '.join(PLAYERS)}); save it: -o out.wav")


def _opened(path: Path, rate: int, width: int, channels: int) -> Any:
    import soundfile

    kind, subtype = FORMATS[path.suffix.lower()]
    if width != 2:
        raise OutputError(f"the server sends {8 * width}-bit audio, which is not saved here; play it")
    if not soundfile.check_format(kind, subtype):
        version = soundfile.__libsndfile_version__
        raise OutputError(f"{path}: libsndfile {version} writes no {subtype}; try -o out.wav")
    try:
        return soundfile.SoundFile(path, "w", rate, channels, subtype, format=kind)
    except (soundfile.LibsndfileError, OSError) as error:
        reason = getattr(error, "error_string", None) or error
        raise OutputError(f"{path} cannot be written with {rate} Hz: {reason}; try -o out.wav") from None
