"""A voice is computed once, as upstream would, and belongs to its clip's content."""

from __future__ import annotations

import dataclasses
import logging
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.voices.audio_factory import sound, write
from wyoming_chatterbox.engine.base import CancelToken, EngineError, Samples, SupportsCloning
from wyoming_chatterbox.engine.built_in_voices import CHATTERBOX_DEFAULT
from wyoming_chatterbox.engine.chatterbox import conditionals as module
from wyoming_chatterbox.engine.chatterbox import upstream
from wyoming_chatterbox.engine.chatterbox.compute import pages
from wyoming_chatterbox.engine.chatterbox.conditionals_store import ConditionalsCache
from wyoming_chatterbox.engine.chatterbox.engine import ChatterboxEngine
from wyoming_chatterbox.engine.registry import create_voices
from wyoming_chatterbox.speech_settings import GenerationSettings
from wyoming_chatterbox.voices.voice import Voice

pytestmark = pytest.mark.filterwarnings("ignore:.*sdp_kernel:FutureWarning")


def loaded(checkpoint: Path, cache: Path | None = None) -> ChatterboxEngine:
    return ChatterboxEngine.load(checkpoint, "cpu", None, 0, cache=None if cache is None else ConditionalsCache(cache))


@pytest.fixture(scope="module")
def engine(tiny_checkpoint: Path) -> ChatterboxEngine:
    return loaded(tiny_checkpoint)


def speak(engine: ChatterboxEngine, voice: Voice, **settings: Any) -> Samples:
    stream = engine.generate_stream("The kettle is on.", voice, GenerationSettings(**settings), CancelToken())
    return np.concatenate([samples for samples, _ in stream])


def content(conditionals: Any) -> dict[str, Any]:
    return {**{f"t3.{name}": value for name, value in vars(conditionals.t3).items()}, **conditionals.gen}


def equal(one: Any, other: Any) -> bool:
    first, second = content(one), content(other)
    assert first.keys() == second.keys()
    return all(
        torch.equal(value, second[name]) if torch.is_tensor(value) else value is second[name]
        for name, value in first.items()
    )


@pytest.mark.parametrize(
    ("name", "rate", "seconds"), [("a.wav", 24_000, 6.0), ("b.wav", 44_100, 12.5), ("c.flac", 16_000, 5.5)]
)
def test_they_are_upstreams_for_a_clip_that_needs_nothing(
    engine: ChatterboxEngine, tiny_checkpoint: Path, tmp_path: Path, name: str, rate: int, seconds: float
) -> None:
    clip = write(tmp_path / name, sound(seconds, rate=rate), rate)
    (voice,) = create_voices(clip)
    plain = loaded(tiny_checkpoint).chatterbox
    with torch.no_grad():
        plain.prepare_conditionals(clip)
    assert equal(engine._conditionals_of(voice), plain.conds)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere nothing is given back")
def test_what_only_clips_need_leaves_memory_and_comes_back(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    released: list[int] = []
    monkeypatch.setattr(
        "wyoming_chatterbox.engine.chatterbox.conditionals.release_pages",
        lambda tensors: released.append(pages.release_pages(tensors)),
    )
    (voice,) = create_voices(write(tmp_path / "anna.wav"))
    first, second = loaded(tiny_checkpoint), loaded(tiny_checkpoint)
    expected = first._conditionals_of(voice)
    assert len(released) == 3 and all(size > 0 for size in released), "voice encoder, tokenizer, speaker encoder"
    first._cloned.forget(voice.fingerprint)
    assert equal(first._conditionals_of(voice), expected) and equal(second._conditionals_of(voice), expected)


def test_a_start_with_a_warm_cache_computes_none_and_sounds_the_same(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (voice,) = create_voices(write(tmp_path / "anna.wav"))
    cold = loaded(tiny_checkpoint, tmp_path / "kept")
    assert isinstance(cold, SupportsCloning) and cold.prepare_voice(voice) and not cold.prepare_voice(voice)
    assert not cold.prepare_voice(CHATTERBOX_DEFAULT)
    expected = speak(cold, voice)
    tts = upstream.load_chatterbox()
    monkeypatch.setattr(tts.ChatterboxTTS, "prepare_conditionals", lambda *_: pytest.fail("it was computed"))
    warm = loaded(tiny_checkpoint, tmp_path / "kept")
    assert not warm.prepare_voice(voice)
    assert equal(warm._conditionals_of(voice), cold._conditionals_of(voice))
    assert np.array_equal(speak(warm, voice), expected)
    # The exaggeration is none of the conditionals': one file is for all of them.
    assert np.array_equal(speak(warm, voice, exaggeration=1.5), speak(cold, voice, exaggeration=1.5))
    assert len(list((tmp_path / "kept").iterdir())) == 1


@pytest.mark.parametrize("change", ["clip", "weights", "damage", "not conditionals"])
def test_what_is_not_the_same_is_computed_again(tiny_checkpoint: Path, tmp_path: Path, change: str) -> None:
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    for path in tiny_checkpoint.iterdir():
        (checkpoint / path.name).hardlink_to(path)
    kept = tmp_path / "kept"
    (voice,) = create_voices(write(tmp_path / "anna.wav"))
    loaded(checkpoint, kept).prepare_voice(voice)
    (file,) = kept.iterdir()
    if change == "clip":
        (voice,) = create_voices(write(tmp_path / "anna.wav", sound(pitch=200)))
    elif change == "weights":
        other = (checkpoint / "ve.safetensors").read_bytes()
        (checkpoint / "ve.safetensors").unlink()
        (checkpoint / "ve.safetensors").write_bytes(other)
        os.utime(checkpoint / "ve.safetensors", (1, 1))
    elif change == "damage":
        file.write_bytes(file.read_bytes()[:-100])
    else:
        from safetensors.numpy import save

        from wyoming_chatterbox.engine.chatterbox import conditionals_store

        arrays = {"t3.nonsense": np.zeros(3, dtype=np.float32)}
        file.write_bytes(save(arrays, metadata={"sha256": conditionals_store._digest(arrays)}))
    engine = loaded(checkpoint, kept)
    assert engine.prepare_voice(voice)
    assert not loaded(checkpoint, kept).prepare_voice(voice), "kept anew"
    assert len(speak(engine, voice))


def test_a_file_that_changed_since_it_was_listed_is_kept_as_what_it_is(tiny_checkpoint: Path, tmp_path: Path) -> None:
    (before,) = create_voices(write(tmp_path / "anna.wav"))
    (after,) = create_voices(write(tmp_path / "anna.wav", sound(pitch=200)))
    engine = loaded(tiny_checkpoint, tmp_path / "kept")
    assert np.array_equal(speak(engine, before), speak(engine, after)), "there is no other content any more"
    for voice, cacheable in ((before, False), (after, True)):
        stream = engine.generate_stream("The kettle is on.", voice, GenerationSettings(), CancelToken())
        assert {metrics.cacheable for _, metrics in stream} == {cacheable}, "its sentences belong to the new content"
    write(tmp_path / "anna.wav")
    engine = loaded(tiny_checkpoint, tmp_path / "kept")
    assert engine.prepare_voice(before) and not engine.prepare_voice(after)
    assert not np.array_equal(speak(engine, before), speak(engine, after))


def test_a_stream_keeps_the_voice_it_began_with(tiny_checkpoint: Path, tmp_path: Path) -> None:
    (before,) = create_voices(write(tmp_path / "anna.wav"))
    engine = loaded(tiny_checkpoint)
    expected = speak(engine, before)
    stream = engine.generate_stream("The kettle is on.", before, GenerationSettings(), CancelToken())
    heard = [next(stream)[0]]
    (after,) = create_voices(write(tmp_path / "anna.wav", sound(pitch=200)))
    engine.prepare_voice(after)
    engine.forget_voice(before)
    heard += [samples for samples, _ in stream]
    assert np.array_equal(np.concatenate(heard), expected)
    assert not np.array_equal(speak(engine, after), expected)


def test_what_is_forgotten_is_in_no_cache(tiny_checkpoint: Path, tmp_path: Path) -> None:
    engine = loaded(tiny_checkpoint)
    (voice,) = create_voices(write(tmp_path / "anna.wav"))
    speak(engine, voice)
    assert len(engine._cloned._kept) == len(engine.decoder.tokens.prefixes) == 1
    engine.forget_voice(voice)
    assert not engine._cloned._kept and not engine.decoder.tokens.prefixes
    engine.forget_voice(voice)


def test_memory_holds_the_voices_that_are_used(
    engine: ChatterboxEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_KEPT", 2)
    voices = [create_voices(write(tmp_path / f"{n}.wav", sound(1.5, pitch=100 + n)))[0] for n in range(3)]
    engine._cloned._kept.clear()
    for voice in (voices[0], voices[1], voices[0], voices[2]):
        engine._conditionals_of(voice)
    assert list(engine._cloned._kept) == [voices[0].fingerprint, voices[2].fingerprint]
    assert engine.prepare_voice(voices[1]), "not even from the disk"
    assert list(engine._cloned._kept) == [voices[0].fingerprint, voices[2].fingerprint], "nobody speaks with it"


def test_two_voices_in_turns_sound_as_each_does_alone(engine: ChatterboxEngine, tmp_path: Path) -> None:
    voices = [create_voices(write(tmp_path / f"{n}.wav", sound(2, pitch=100 + n)))[0] for n in (1, 90)]
    alone = [speak(engine, voice) for voice in voices]
    assert not np.array_equal(*alone)
    for _ in range(int(os.environ.get("INTERLEAVINGS", 5))):
        streams = [
            engine.generate_stream("The kettle is on.", one, GenerationSettings(), CancelToken()) for one in voices
        ]
        heard: list[list[Samples]] = [[], []]
        while any(streams_left := [next(stream, None) for stream in streams]):
            for chunks, item in zip(heard, streams_left, strict=True):
                chunks += [item[0]] if item is not None else []
        for chunks, expected in zip(heard, alone, strict=True):
            assert np.array_equal(np.concatenate(chunks), expected)


def test_a_clip_that_cannot_be_used_is_said(
    engine: ChatterboxEngine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    clip = write(tmp_path / "anna.wav")
    (voice,) = create_voices(clip)
    engine.prepare_voice(voice)
    assert "Took the voice anna from its clip in" in caplog.text
    clip.write_bytes(b"no audio")
    other = dataclasses.replace(voice, fingerprint="other")
    with pytest.raises(
        EngineError, match=r"voice 'anna' cannot be taken from its clip anna\.wav: it cannot be decoded"
    ):
        engine.prepare_voice(other)
