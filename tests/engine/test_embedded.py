"""The embedded voice, and the system's speech programs in its place."""

from __future__ import annotations

import hashlib
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from wyoming_chatterbox.engine import embedded, system_speech
from wyoming_chatterbox.engine.base import Cancelled, CancelToken, Engine, EngineError, EngineUnavailable, Samples
from wyoming_chatterbox.engine.embedded import HEART, HibariEngine, create_embedded_engine
from wyoming_chatterbox.engine.system_speech import SystemSpeechEngine
from wyoming_chatterbox.speech_settings import GenerationSettings

SETTINGS = GenerationSettings()


@pytest.fixture(scope="module")
def engine() -> HibariEngine:
    engine = HibariEngine()
    engine.warm_up()
    return engine


def speak(engine: Engine, text: str, settings: GenerationSettings = SETTINGS) -> Samples:
    return np.concatenate(
        [samples for samples, _ in engine.generate_stream(text, engine.voices[0], settings, CancelToken())]
    )


def loudness(samples: Samples) -> float:
    return float(20 * np.log10(np.sqrt(np.mean(samples**2))))


def test_it_speaks_without_the_silence_and_at_a_common_loudness(engine: HibariEngine) -> None:
    samples = speak(engine, "The kitchen light is now on.")
    assert 1.0 < len(samples) / engine.sample_rate < 2.0, "2.2 s with the silence at its ends"
    assert -23 < loudness(samples) < -17
    assert np.abs(samples).max() <= 0.97
    onset = np.flatnonzero(np.abs(samples) > 0.02)[0] / engine.sample_rate
    assert onset < 0.06, "silence before the first sound is latency"


def test_the_same_seed_gives_the_same_samples(engine: HibariEngine) -> None:
    first, second = speak(engine, "Hello there."), speak(engine, "Hello there.")
    assert np.array_equal(first, second)
    assert not np.array_equal(first, speak(engine, "Hello there.", GenerationSettings(seed=1)))
    drawn = GenerationSettings(seed=-1)
    assert not np.array_equal(speak(engine, "Hello there.", drawn), speak(engine, "Hello there.", drawn))


@pytest.mark.parametrize("package", ["onnxruntime", "numpy"])
def test_what_computes_its_samples_is_part_of_its_fingerprint(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = HibariEngine().fingerprint
    assert HibariEngine().fingerprint == before
    monkeypatch.setattr(f"{package}.__version__", "0.0")
    assert HibariEngine().fingerprint != before, "speech that is cached may be played only where it would be the same"


def test_its_metrics_are_complete(engine: HibariEngine) -> None:
    *_, (_, metrics) = engine.generate_stream("One is here. Two is there.", HEART, SETTINGS, CancelToken())
    assert metrics.chunk_count == 2
    assert metrics.total_audio_duration is not None and metrics.total_audio_duration > 1
    assert metrics.latency_to_first_chunk is not None and metrics.total_generation_time is not None
    assert 0 < metrics.latency_to_first_chunk < metrics.total_generation_time
    assert metrics.rtf == pytest.approx(metrics.total_generation_time / metrics.total_audio_duration)


def test_text_it_cannot_speak_is_an_error_that_says_so(engine: HibariEngine) -> None:
    with pytest.raises(EngineError, match="speaks English only and found nothing to say in this text"):
        speak(engine, "你好")


def test_cancelled_work_stops(engine: HibariEngine) -> None:
    cancel = CancelToken()
    stream = engine.generate_stream("One is here. Two is there.", HEART, SETTINGS, cancel)
    next(stream)
    cancel.set()
    with pytest.raises(Cancelled):
        next(stream)


def test_weights_that_are_not_the_reviewed_ones_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "_HIBARI_SHA256", hashlib.sha256(b"other").hexdigest())
    with pytest.raises(EngineUnavailable, match=r"not those of hibari-tts 0\.2\.1; run: pip install"):
        HibariEngine()


@pytest.mark.parametrize("program", ["flite", "espeak-ng"])
def test_a_speech_program_of_the_system_takes_its_place(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed; .ci/run installs it")
    monkeypatch.setattr(embedded.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(system_speech, "_PROGRAMS", (program,))
    engine = create_embedded_engine()
    assert engine.voices[0].description.startswith(program)
    assert engine.voices[0].name == HEART.name, "automations keep their voice"
    samples = speak(engine, "-w is no option here.")
    assert 0.5 < len(samples) / engine.sample_rate < 4
    assert loudness(samples) > -40


def test_with_neither_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(system_speech, "_PROGRAMS", ("no-such-program",))
    with pytest.raises(EngineUnavailable, match=r"pip install hibari-tts==0\.2\.1; .* install one of: no-such-program"):
        create_embedded_engine()


def _program(folder: Path, script: str) -> str:
    path = folder / "espeak-ng"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_a_speech_program_that_hangs_is_ended_when_the_request_is(tmp_path: Path) -> None:
    good = shutil.which("espeak-ng")
    if good is None:
        pytest.skip("espeak-ng is not installed; .ci/run installs it")
    engine = SystemSpeechEngine("espeak-ng", good)
    engine._path = _program(tmp_path, "exec sleep 60")
    cancel = CancelToken()
    threading.Timer(0.2, cancel.set).start()
    started = time.monotonic()
    with pytest.raises(Cancelled):
        list(engine.generate_stream("Hello.", engine.voices[0], SETTINGS, cancel))
    assert time.monotonic() - started < 2


def test_a_speech_program_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="espeak-ng failed with status 3: no voices"):
        SystemSpeechEngine("espeak-ng", _program(tmp_path, "echo no voices >&2; exit 3"))
