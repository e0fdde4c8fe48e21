"""The engine's voices: clips, the built-in voice, the watermark in both."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.engine.chatterbox.engine.helpers import open_stream, speak
from wyoming_chatterbox.engine.base import EngineError
from wyoming_chatterbox.engine.built_in_voices import CHATTERBOX_DEFAULT
from wyoming_chatterbox.engine.chatterbox import upstream
from wyoming_chatterbox.engine.chatterbox.engine import ChatterboxEngine
from wyoming_chatterbox.engine.registry import create_voices
from wyoming_chatterbox.speech_settings import GenerationSettings
from wyoming_chatterbox.testing.random_checkpoint import write_clip

pytestmark = pytest.mark.filterwarnings("ignore:.*sdp_kernel:FutureWarning")


def test_the_clips_voice_comes_first_and_the_built_in_one_last(engine: ChatterboxEngine, high_clip: Path) -> None:
    assert [voice.name for voice in engine.voices] == ["high", "default"]
    assert engine.voices[0].clips == (high_clip,)
    assert engine.voices[1] == CHATTERBOX_DEFAULT and CHATTERBOX_DEFAULT.clips == ()
    assert engine.sample_rate == 24_000
    assert engine.model == "original" == engine.voices[0].model


def test_a_clip_called_default_is_the_default(tiny_checkpoint: Path, tmp_path: Path) -> None:
    clip = tmp_path / "default.wav"
    write_clip(clip, seconds=2)
    engine = ChatterboxEngine.load(tiny_checkpoint, "cpu", create_voices(clip), 0)
    assert [(voice.name, voice.clips) for voice in engine.voices] == [("default", (clip,))]


def test_a_voice_is_taken_once_whatever_it_says_and_goes_on_when_its_file_is_gone(
    own_engine: ChatterboxEngine, settings: GenerationSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = tmp_path / "mine.wav"
    write_clip(clip, seconds=2)
    (voice,) = create_voices(clip)
    tts = upstream.load_chatterbox()
    real = tts.ChatterboxTTS.prepare_conditionals
    calls = []

    def counted(self: Any, path: Path, *args: Any, **options: Any) -> None:
        assert self is not own_engine.chatterbox
        calls.append(path)
        real(self, path, *args, **options)

    monkeypatch.setattr(tts.ChatterboxTTS, "prepare_conditionals", counted)
    before = speak(own_engine, voice=voice, settings=settings)
    speak(own_engine, voice=voice, settings=dataclasses.replace(settings, exaggeration=1.0))
    assert len(calls) == 1
    clip.unlink()
    known = speak(own_engine, voice=voice, settings=settings)
    assert np.array_equal(known, before), "a voice that is known outlives its file"

    write_clip(clip, pitch=200, seconds=2)
    (changed,) = create_voices(clip)
    after = speak(own_engine, voice=changed, settings=settings)
    assert len(calls) == 2 and not np.array_equal(before, after)
    own_engine.forget_voice(changed)
    assert np.array_equal(speak(own_engine, voice=changed, settings=settings), after) and len(calls) == 3


def test_a_clip_that_is_not_here_is_named(engine: ChatterboxEngine, tmp_path: Path) -> None:
    voice = dataclasses.replace(CHATTERBOX_DEFAULT, name="gone", clips=(tmp_path / "gone.wav",), fingerprint="0")
    with pytest.raises(EngineError, match=r"'gone' cannot be taken from its clip gone\.wav: .* No such file"):
        next(open_stream(engine, voice=voice))


@pytest.mark.parametrize("content", [b"", b"no audio at all"])
def test_a_clip_that_is_no_audio_is_named(engine: ChatterboxEngine, tmp_path: Path, content: bytes) -> None:
    clip = tmp_path / "broken.wav"
    clip.write_bytes(content)
    voice = dataclasses.replace(CHATTERBOX_DEFAULT, name="broken", clips=(clip,), fingerprint="1")
    with pytest.raises(EngineError, match=r"'broken' cannot be taken from its clip broken\.wav: it "):
        next(open_stream(engine, voice=voice))


def test_the_watermark_is_in_what_is_spoken(
    engine: ChatterboxEngine, settings: GenerationSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    marked = []
    real = engine.chatterbox.watermarker.apply_watermark

    def counted(samples: Any, sample_rate: int) -> Any:
        marked.append(real(samples, sample_rate=sample_rate))
        return marked[-1]

    monkeypatch.setattr(engine.chatterbox.watermarker, "apply_watermark", counted)
    chunks = [samples for samples, _ in open_stream(engine, settings=settings)]
    assert len(marked) == len(chunks)
    for window, samples in zip(marked, chunks, strict=True):
        # Ours marks a chunk together with what is on both sides of it.
        starts = [0] if settings.decoder == "upstream" else range(len(window) - len(samples) + 1)
        window = np.clip(window, -1, 1).astype(np.float32)
        assert any(np.array_equal(window[start : start + len(samples)], samples) for start in starts)
