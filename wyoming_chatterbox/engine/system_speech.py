"""espeak-ng or flite as child processes: the embedded voice where hibari-tts cannot be installed."""

from __future__ import annotations

import dataclasses
import io
import logging
import shutil
import subprocess
import tempfile
import time
import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..audio import trim_silence
from ..faults import without_spoken
from ..speech_settings import GenerationSettings
from ..voices.voice import Voice
from . import english
from .base import CancelToken, EngineError, EngineUnavailable, NothingToSay, Samples, StreamMetrics
from .built_in_voices import HEART
from .tags import keep_tags

_LOGGER = logging.getLogger(__name__)

_PROGRAMS = ("flite", "espeak-ng")
"""In order of how pleasant their English is."""

_TIMEOUT = 30.0
"""Seconds for one sentence; both programs need well under one."""

_POLL = 0.02
"""Seconds between two looks at the cancellation while a program runs."""


class SystemSpeechEngine:
    """A speech program of the system behind the engine's door."""

    model = HEART.model

    def __init__(self, program: str, path: str) -> None:
        self._program = program
        self._path = path
        self.voices = (
            dataclasses.replace(
                HEART,
                description=f"{program} (system voice, English)",
                attribution=program,
                attribution_url="https://github.com/espeak-ng/espeak-ng"
                if program == "espeak-ng"
                else "https://github.com/festvox/flite",
            ),
        )
        program_file = Path(path).stat()
        self.fingerprint = f"{program} {program_file.st_size} {program_file.st_mtime_ns} {english.VERSION}"
        self.sample_rate = self._run("Ready.", CancelToken())[1]

    @classmethod
    def find(cls) -> SystemSpeechEngine:
        """Returns the first of the known programs that works.

        Raises:
            EngineUnavailable: none does.
        """
        for program in _PROGRAMS:
            path = shutil.which(program)
            if path is None:
                continue
            try:
                return cls(program, path)
            except EngineError as error:
                _LOGGER.warning("%s", error)
        raise EngineUnavailable(f"No speech program found either; install one of: {', '.join(_PROGRAMS)}")

    def warm_up(self) -> None:
        """Nothing to do: the program starts anew for every sentence."""

    def generate_stream(
        self, text: str, voice: Voice, settings: GenerationSettings, cancel: CancelToken
    ) -> Iterator[tuple[Samples, StreamMetrics]]:
        """See `Engine`. No setting matters to these programs."""
        started = time.perf_counter()
        text = keep_tags(text, ())
        if not text:
            raise NothingToSay(f"{self._program} makes no sounds but speech")
        raw, _ = self._run(text, cancel)
        samples = trim_silence(raw, self.sample_rate)
        if len(samples) == 0:
            raise NothingToSay(f"{self._program} found nothing to say in this text")
        elapsed = time.perf_counter() - started
        audio = len(samples) / self.sample_rate
        yield samples, StreamMetrics(1, elapsed, elapsed, audio, elapsed / audio)

    def _run(self, text: str, cancel: CancelToken) -> tuple[Samples, int]:
        with tempfile.TemporaryDirectory(prefix="wyoming-chatterbox-") as folder:
            source, target = Path(folder, "text"), Path(folder, "speech.wav")
            # Through a file, never as an argument: a text may begin with a dash.
            source.write_text(english.spoken_english(text), encoding="utf-8")
            output = ["-w", str(target)] if self._program == "espeak-ng" else ["-o", str(target)]
            command = [self._path, "-f", str(source), *output]
            if self._program == "espeak-ng":
                command += ["-v", "en-us"]
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
            )
            try:
                deadline = time.monotonic() + _TIMEOUT
                while True:
                    try:
                        _, complaint = process.communicate(timeout=_POLL)
                        break
                    except subprocess.TimeoutExpired:
                        cancel.raise_if_set()
                        if time.monotonic() > deadline:
                            raise EngineError(
                                f"{self._program} took over {_TIMEOUT:g} s for a text of {len(text)} characters"
                            ) from None
            finally:
                if process.poll() is None:
                    process.kill()
                    process.communicate()
            if process.returncode != 0 or not target.is_file():
                detail = complaint.decode(errors="replace").strip()
                _LOGGER.debug("%s failed on %r: %s", self._program, text, detail)
                detail = without_spoken(detail[:200], text)
                raise EngineError(f"{self._program} failed with status {process.returncode}: {detail}")
            return _read_wav(target.read_bytes())

    def close(self) -> None:
        """Nothing is held."""


def _read_wav(data: bytes) -> tuple[Samples, int]:
    with wave.open(io.BytesIO(data)) as reader:
        if reader.getsampwidth() != 2 or reader.getnchannels() != 1:
            raise EngineError("The speech program did not write 16-bit mono audio")
        samples = np.frombuffer(reader.readframes(reader.getnframes()), dtype="<i2")
        return (samples / np.float32(32768.0)).astype(np.float32), reader.getframerate()
