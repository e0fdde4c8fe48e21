"""The embedded voice: speaks from inside the installation, so that the server is never mute.

It is hibari-tts' bundled American English voice ("heart", Apache-2.0, numpy and onnxruntime only). No other
voice or model file is ever given to it: its other voices would be downloads, and a path from a user would be
a model nobody checked. Where hibari-tts cannot be installed, a speech program of the system takes its place
(`system_speech.py`).
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..audio import amplify, silence, trim_silence
from ..faults import without_spoken
from ..speech_settings import GenerationSettings
from ..voices.voice import Voice
from . import english
from .base import CancelToken, Engine, EngineError, EngineUnavailable, NothingToSay, Samples, StreamMetrics
from .built_in_voices import HEART
from .preload import load_libraries
from .system_speech import SystemSpeechEngine
from .tags import keep_tags

_LOGGER = logging.getLogger(__name__)

_HIBARI_SHA256 = "5f70741d4e900f4e85d0037498736cc1b3e1b9a63a13546a5da1e63abf4fccd8"
"""hibari.onnx of hibari-tts 0.2.1; a file that differs is not the voice that was reviewed."""

_GAIN = 2.3
"""The voice speaks at -27 dBFS; this brings it to about -20 dBFS, where Piper and Chatterbox are."""

_INNER_PAUSE = 0.12
"""Seconds between the parts into which hibari itself divides a text."""


def create_embedded_engine() -> Engine:
    """Returns the embedded voice, or what the system offers in its place.

    Raises:
        EngineUnavailable: there is neither; the message says how to get one.
    """
    try:
        return HibariEngine()
    except EngineUnavailable as error:
        _LOGGER.warning("%s; looking for a speech program of the system", error)
        try:
            return SystemSpeechEngine.find()
        except EngineUnavailable as other:
            raise EngineUnavailable(f"{error}; {other}") from None


class HibariEngine:
    """hibari-tts' bundled voice behind the engine's door. RTF about 0.02 on one CPU core."""

    model = HEART.model
    sample_rate = 24000
    voices = (HEART,)

    def __init__(self) -> None:
        """Load the voice (about 0.2 s).

        Raises:
            EngineUnavailable: hibari-tts is not installed, broken, or not the pinned version.
        """
        spec = importlib.util.find_spec("hibari")
        if spec is None or spec.origin is None:
            raise EngineUnavailable("The embedded voice is not installed; run: pip install hibari-tts==0.2.1")
        weights = Path(spec.origin).parent / "assets" / "hibari.onnx"
        if not weights.is_file() or hashlib.sha256(weights.read_bytes()).hexdigest() != _HIBARI_SHA256:
            raise EngineUnavailable(
                f"The embedded voice's weights {weights} are not those of hibari-tts 0.2.1; "
                "run: pip install --force-reinstall --no-deps hibari-tts==0.2.1"
            )
        load_libraries("onnxruntime", "capi/onnxruntime_pybind11_state*.so")
        try:
            import onnxruntime
            from hibari import Hibari

            self._tts: Any = Hibari()
            _ = self._tts.g2p  # its word lists, which it would load with the first text
        except Exception as error:
            raise EngineUnavailable(f"The embedded voice cannot be loaded: {error}") from error
        computed_by = f"onnxruntime {onnxruntime.__version__} numpy {np.__version__}"
        self.fingerprint = f"hibari {_HIBARI_SHA256} {computed_by} {_GAIN} {_INNER_PAUSE} {english.VERSION}"

    def warm_up(self) -> None:
        """Run the networks once: they are slower the first time."""
        self._tts("Ready, 1 2 3.")

    def generate_stream(
        self, text: str, voice: Voice, settings: GenerationSettings, cancel: CancelToken
    ) -> Iterator[tuple[Samples, StreamMetrics]]:
        """See `Engine`. Of the settings only the seed matters to this voice."""
        started = time.perf_counter()
        seed = None if settings.seed < 0 else settings.seed
        metrics = StreamMetrics()
        sample_count = 0
        for raw in self._parts(text, seed):
            cancel.raise_if_set()
            # 0.30 s of silence before and 0.46 s after every part: heard as latency, so it goes.
            samples = amplify(trim_silence(raw, self.sample_rate), _GAIN)
            if len(samples) == 0:
                continue
            if sample_count:
                samples = np.concatenate((silence(_INNER_PAUSE, self.sample_rate), samples))
            sample_count += len(samples)
            elapsed = time.perf_counter() - started
            audio = sample_count / self.sample_rate
            metrics = StreamMetrics(
                chunk_count=metrics.chunk_count + 1,
                latency_to_first_chunk=metrics.latency_to_first_chunk or elapsed,
                total_generation_time=elapsed,
                total_audio_duration=audio,
                rtf=elapsed / audio,
            )
            yield samples, metrics
        if sample_count == 0:
            raise NothingToSay("The embedded voice speaks English only and found nothing to say in this text")

    def _parts(self, text: str, seed: int | None) -> Iterator[Samples]:
        try:
            yield from self._tts.stream(english.spoken_english(keep_tags(text, ())), seed=seed)
        except Exception as error:  # third-party text processing: any text may find its bug
            _LOGGER.debug("The embedded voice failed on %r", text, exc_info=error)
            detail = without_spoken(str(error), text)
            raise EngineError(f"The embedded voice failed on this text ({type(error).__name__}: {detail})") from error

    def close(self) -> None:
        self._tts = None
