"""What the commands that say something share: where the audio goes, and what the answer cost."""

import contextlib
import shutil
import subprocess
import sys
import time
import wave
from dataclasses import dataclass
from pathlib import Path

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

    def show(self) -> None:
        seconds = time.perf_counter() - self.started
        if sys.stderr.isatty():
            print(file=sys.stderr)
        instead = ", in the place of the model that cannot speak yet" if self.fallback else ""
        print(f"model {self.model}, voice {self.voice}{instead}")
        if self.first_audio is None:
            print("no audio: there was nothing to say")
            return
        print(
            f"first audio after {self.first_audio * 1000:.0f} ms, {self.chunks} chunks, {self.audio:.2f} s of audio, "
            f"RTF {seconds / self.audio:.3f}"
        )


class Output:
    """Where the audio goes: a WAV file or a player."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._file: wave.Wave_write | None = None
        self._player: subprocess.Popen[bytes] | None = None

    def open(self, rate: int, width: int, channels: int) -> None:
        if self._path is not None:
            self._file = wave.open(str(self._path), "wb")  # noqa: SIM115  closed in close()
            self._file.setparams((channels, width, rate, 0, "NONE", ""))
            return
        for name, arguments in PLAYERS.items():
            if shutil.which(name):
                words = [name, *arguments.format(rate=rate, channels=channels).split()]
                self._player = subprocess.Popen(words, stdin=subprocess.PIPE)
                return
        sys.exit(f"error: no program to play audio with ({', '.join(PLAYERS)}); save it: -o out.wav")

    def write(self, pcm: bytes) -> None:
        if self._file is not None:
            self._file.writeframes(pcm)
        elif self._player is not None and self._player.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._player.stdin.write(pcm)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            print(f"saved {self._path}")
        elif self._player is not None:
            self._player.communicate()
