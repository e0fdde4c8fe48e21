from __future__ import annotations

import contextlib
import dataclasses
import gc
import logging
import operator
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.checkpoint_fixture import TOKENS
from wyoming_chatterbox.engine.base import Cancel, Cancelled, EngineError, EngineUnavailable, Samples
from wyoming_chatterbox.engine.chatterbox import engine as engine_module
from wyoming_chatterbox.engine.chatterbox import loader, upstream
from wyoming_chatterbox.engine.chatterbox.engine import OriginalEngine
from wyoming_chatterbox.engine.registry import CHATTERBOX_DEFAULT, create_voices
from wyoming_chatterbox.engine.weights.download import WeightsError
from wyoming_chatterbox.speech_settings import GenerationSettings
from wyoming_chatterbox.testing.random_checkpoint import CLIP, set_eos_at, write_clip
from wyoming_chatterbox.voices.voice import Voice

pytestmark = pytest.mark.filterwarnings("ignore:.*sdp_kernel:FutureWarning")

TEXT = "The kettle is on."
SETTINGS = GenerationSettings(chunk_size=25, chunk_growth=1.5)
SAMPLES_PER_TOKEN = 960
CHUNKS = {"seamless": [14, 16], "upstream": [25, 5]}
"""Tokens heard in every chunk. Ours waits with 3 tokens for what the flow decoder looks ahead to, and with 8 for the
vocoder's context."""

SMALL_CHUNKS = {"seamless": [1, 29], "upstream": [10, 10, 10]}
"""The same at chunk size 10; ours takes 12, as of fewer nothing could be heard."""


@pytest.fixture(params=["seamless", "upstream"])
def settings(request: pytest.FixtureRequest) -> GenerationSettings:
    """Chunks of equal size to begin with, and either decoder: what the engine promises holds for both."""
    return dataclasses.replace(SETTINGS, decoder=request.param)


def _small(settings: GenerationSettings, **changes: Any) -> GenerationSettings:
    return dataclasses.replace(settings, chunk_size=10, **changes)


@pytest.fixture(scope="session")
def high_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reference clip unlike the checkpoint's own."""
    path = tmp_path_factory.mktemp("clips") / "high.wav"
    write_clip(path, pitch=230.0, seconds=2.0)
    return path


@pytest.fixture(scope="module")
def engine(tiny_checkpoint: Path, high_clip: Path) -> OriginalEngine:
    """Two voices, "high" and "default". Tests leave it as it was."""
    return OriginalEngine.load(tiny_checkpoint, "cpu", create_voices(high_clip), 0)


@pytest.fixture
def own_engine(tiny_checkpoint: Path) -> OriginalEngine:
    """One that a test may spoil."""
    return OriginalEngine.load(tiny_checkpoint, "cpu", None, 0)


def _stream(
    engine: OriginalEngine,
    *,
    text: str = TEXT,
    voice: Voice = CHATTERBOX_DEFAULT,
    settings: GenerationSettings = SETTINGS,
    cancel: Cancel | None = None,
) -> Any:
    return engine.generate_stream(text, voice, settings, cancel or Cancel())


def _speak(engine: OriginalEngine, **options: Any) -> Samples:
    return np.concatenate([samples for samples, _ in _stream(engine, **options)])


_plain: dict[str, Samples] = {}


@pytest.fixture
def plain_speech(engine: OriginalEngine, settings: GenerationSettings) -> Samples:
    """The built-in voice with all defaults."""
    if settings.decoder not in _plain:
        _plain[settings.decoder] = _speak(engine, settings=settings)
    return _plain[settings.decoder]


def _hooks(engine: OriginalEngine) -> int:
    """Hooks on any module of the model, and forward methods put in place of their class's."""
    roots = (engine._model.t3, engine._model.s3gen, engine._model.ve)
    modules = [module for root in roots for module in root.modules()]
    hooks = sum(len(module._forward_pre_hooks) + len(module._forward_hooks) for module in modules)
    return hooks + sum("forward" in vars(module) for module in modules)


# What comes out


def test_speech_comes_in_chunks_of_samples(engine: OriginalEngine, settings: GenerationSettings) -> None:
    chunks = [samples for samples, _ in _stream(engine, settings=settings)]
    assert [len(samples) / SAMPLES_PER_TOKEN for samples in chunks] == CHUNKS[settings.decoder]
    small = [samples for samples, _ in _stream(engine, settings=_small(settings))]
    assert [len(samples) / SAMPLES_PER_TOKEN for samples in small] == SMALL_CHUNKS[settings.decoder]
    for samples in chunks:
        assert samples.dtype == np.float32 and samples.ndim == 1
        assert np.isfinite(samples).all() and np.abs(samples).max() <= 1.0
        assert np.sqrt(np.mean(samples**2)) > 0.01, "random weights, but not silent"


def test_metrics_are_plain_and_the_last_are_complete(engine: OriginalEngine, settings: GenerationSettings) -> None:
    items = list(_stream(engine, settings=settings))
    assert [metrics.chunk_count for _, metrics in items] == [1, 2]
    first, last = items[0][1], items[-1][1]
    values = dataclasses.asdict(last)
    kinds = {"chunk_count": int, "cacheable": bool}
    assert all(type(value) is kinds.get(name, float) for name, value in values.items())
    assert last.cacheable, "the built-in voice is what it was"
    assert last.total_audio_duration == TOKENS / 25
    assert 0 < last.latency_to_first_chunk == first.latency_to_first_chunk  # type: ignore[operator]
    assert last.total_generation_time > first.total_generation_time > 0  # type: ignore[operator]
    assert last.rtf == last.total_generation_time / last.total_audio_duration  # type: ignore[operator]


def test_time_that_the_caller_takes_is_not_counted(
    engine: OriginalEngine, settings: GenerationSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(engine_module.time, "perf_counter", lambda: now[0])
    stream = _stream(engine, settings=settings)
    next(stream)
    now[0] += 100
    _, metrics = next(stream)
    assert metrics.total_generation_time == 0


def test_all_nine_parameters_reach_upstreams_generate_stream(
    engine: OriginalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    tts = upstream.load_chatterbox()
    given = {}
    real = tts.ChatterboxTTS.generate_stream
    monkeypatch.setattr(tts.ChatterboxTTS, "generate_stream", lambda self, **o: given.update(o) or real(self, **o))
    settings = GenerationSettings(
        decoder="upstream",
        exaggeration=0.7,
        cfg_weight=0.3,
        temperature=0.9,
        chunk_size=15,
        context_window=20,
        fade_duration=0.01,
        print_metrics=True,
    )
    assert len(_speak(engine, settings=settings)) == TOKENS * SAMPLES_PER_TOKEN
    assert given == {
        "text": TEXT,
        "audio_prompt_path": None,
        **{
            name: value
            for name, value in dataclasses.asdict(settings).items()
            if name not in ("seed", "decoder", "chunk_growth", "sampling", "repetition_penalty", "min_p", "top_p")
        },
    }


@pytest.mark.parametrize(
    "change",
    [
        {"exaggeration": 1.5},
        {"cfg_weight": 0.9},
        {"temperature": 0.3},
        {"chunk_size": 15},
        {"context_window": 3},
        {"fade_duration": 0.4},
        {"seed": 7},
        {"sampling": "streaming"},
        {"min_p": 0.5},
        {"top_p": 0.5},
    ],
)
def test_every_setting_is_heard(
    engine: OriginalEngine, settings: GenerationSettings, plain_speech: Samples, change: dict[str, Any]
) -> None:
    heard = _speak(engine, settings=dataclasses.replace(settings, **change))
    of_the_other = {
        "seamless": {"context_window", "fade_duration"},
        "upstream": {"sampling", "repetition_penalty", "min_p", "top_p"},
    }
    assert np.array_equal(heard, plain_speech) is bool(change.keys() & of_the_other[settings.decoder])


@pytest.mark.parametrize("fixed", [{"decoder": "upstream"}, {"sampling": "streaming"}], ids=str)
def test_settings_of_sampling_that_have_no_effect_are_warned_of_once(
    tiny_checkpoint: Path, fixed: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    engine = OriginalEngine.load(tiny_checkpoint, "cpu", None, 0)
    fixed_settings = dataclasses.replace(SETTINGS, **fixed)
    plain = _speak(engine, settings=fixed_settings)
    assert "no effect" not in caplog.text
    for top_p in (0.5, 0.6):
        assert np.array_equal(_speak(engine, settings=dataclasses.replace(fixed_settings, top_p=top_p)), plain)
    ((name, value),) = fixed.items()
    assert caplog.text.count("no effect") == 1
    assert f"repetition_penalty, min_p and top_p have no effect with --{name} {value}" in caplog.text


def test_metrics_are_printed_on_stderr_if_at_all(engine: OriginalEngine, capfd: pytest.CaptureFixture[str]) -> None:
    _speak(engine, settings=dataclasses.replace(SETTINGS, decoder="upstream"))
    assert "Latency" not in capfd.readouterr().err
    _speak(engine, settings=dataclasses.replace(SETTINGS, decoder="upstream", print_metrics=True))
    out, err = capfd.readouterr()
    assert out == "" and "Latency to first chunk" in err and "Total chunks yielded: 2" in err


def test_loading_prints_nothing_on_stdout(tiny_checkpoint: Path, capfd: pytest.CaptureFixture[str]) -> None:
    OriginalEngine.load(tiny_checkpoint, "cpu", create_voices(tiny_checkpoint / CLIP), 0)
    out, err = capfd.readouterr()
    assert out == "" and "PerthNet" not in err, "no line that is none of the log's"


# The same in, the same out


def test_the_same_seed_gives_the_same_samples(
    engine: OriginalEngine, settings: GenerationSettings, plain_speech: Samples
) -> None:
    torch.randn(123)
    assert np.array_equal(_speak(engine, settings=settings), plain_speech)


def test_a_model_loaded_anew_makes_the_same_samples(
    tiny_checkpoint: Path, settings: GenerationSettings, plain_speech: Samples
) -> None:
    torch.randn(123)  # what a process did before must not matter
    again = OriginalEngine.load(tiny_checkpoint, "cpu", None, 0)
    assert np.array_equal(_speak(again, settings=settings), plain_speech)
    # The seed at loading is that of noise which belongs to upstream's model; ours belongs to the utterance.
    other = OriginalEngine.load(tiny_checkpoint, "cpu", None, 1)
    is_same = np.array_equal(_speak(other, settings=settings), plain_speech)
    assert is_same is (settings.decoder == "seamless")


def test_seed_minus_one_draws_a_new_seed_every_time(engine: OriginalEngine, settings: GenerationSettings) -> None:
    drawn = dataclasses.replace(settings, seed=-1)
    torch.manual_seed(0)
    first = _speak(engine, settings=drawn)
    torch.manual_seed(0)
    assert not np.array_equal(_speak(engine, settings=drawn), first)


def test_the_callers_random_numbers_are_left_alone(
    engine: OriginalEngine, settings: GenerationSettings, tiny_checkpoint: Path
) -> None:
    torch.manual_seed(3)
    expected = torch.randn(4)
    torch.manual_seed(3)
    OriginalEngine.load(tiny_checkpoint, "cpu", None, 0)
    stream = _stream(engine, settings=settings)
    next(stream)
    assert torch.equal(torch.randn(4), expected)
    stream.close()


# One stream never hears another


VARIANTS: list[dict[str, Any]] = [
    {"voice": "high", "settings": {"exaggeration": 0.2}},
    {"voice": "default", "settings": {"exaggeration": 1.4, "seed": 5}},
    {"voice": "high", "settings": {"exaggeration": 1.4}, "text": "No, it is off."},
]


def _variant(engine: OriginalEngine, settings: GenerationSettings, options: dict[str, Any]) -> dict[str, Any]:
    (voice,) = [voice for voice in engine.voices if voice.name == options["voice"]]
    return {**options, "voice": voice, "settings": _small(settings, **options["settings"])}


def test_streams_that_take_turns_sound_as_they_do_alone(engine: OriginalEngine, settings: GenerationSettings) -> None:
    options = [_variant(engine, settings, each) for each in VARIANTS]
    alone = [_speak(engine, **each) for each in options]
    streams = [_stream(engine, **each) for each in options]
    heard: list[list[Samples]] = [[] for _ in streams]
    for _ in SMALL_CHUNKS[settings.decoder]:
        for stream, chunks in zip(streams, heard, strict=True):
            chunks.append(next(stream)[0])
            torch.randn(7)
    assert all(next(stream, None) is None for stream in streams)
    for chunks, expected in zip(heard, alone, strict=True):
        assert np.array_equal(np.concatenate(chunks), expected)
    assert not np.array_equal(alone[0], alone[2]) and not np.array_equal(alone[0], alone[1])


def test_voices_sound_different(engine: OriginalEngine, settings: GenerationSettings) -> None:
    high, default = (_speak(engine, voice=voice, settings=settings) for voice in engine.voices)
    assert not np.array_equal(high, default)


def _content(conditionals: Any) -> dict[str, Any]:
    parts = {**{f"t3.{name}": value for name, value in vars(conditionals.t3).items()}, **conditionals.gen}
    return {name: value.clone() if torch.is_tensor(value) else value for name, value in parts.items()}


def test_the_shared_model_and_the_voices_never_change(engine: OriginalEngine, settings: GenerationSettings) -> None:
    high = engine.voices[0]
    model = engine._model
    before = dict(vars(model))
    kept = [_content(model.conds), _content(engine._conditionals_of(high))]
    _speak(engine, settings=dataclasses.replace(settings, exaggeration=1.9))
    _speak(engine, voice=high, settings=dataclasses.replace(settings, exaggeration=0.1))
    assert vars(model) == before
    for content, expected in zip([model.conds, engine._conditionals_of(high)], kept, strict=True):
        after = _content(content)
        assert after.keys() == expected.keys()
        for name, value in expected.items():
            assert torch.equal(after[name], value) if torch.is_tensor(value) else after[name] is value, name


# No trace in the thread or the model


def _plain_thread() -> bool:
    return not torch.is_inference_mode_enabled() and torch.is_grad_enabled() and not torch.zeros(1).is_inference()


def test_inference_mode_is_not_left_on_for_the_caller(engine: OriginalEngine, settings: GenerationSettings) -> None:
    for _ in _stream(engine, settings=settings):
        assert _plain_thread()
    assert _plain_thread()
    first, second = _stream(engine, settings=settings), _stream(engine, settings=settings)
    next(first)
    next(second)
    first.close()
    assert _plain_thread()
    second.close()
    assert _plain_thread()


def test_the_callers_own_modes_come_back(engine: OriginalEngine, settings: GenerationSettings) -> None:
    stream = _stream(engine, settings=settings)
    with torch.no_grad():
        next(stream)
        assert not torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
    with torch.inference_mode():
        next(stream)
        assert torch.is_inference_mode_enabled()
    assert next(stream, None) is None
    assert _plain_thread()


def test_no_hook_stays_on_the_model(engine: OriginalEngine, settings: GenerationSettings) -> None:
    before = _hooks(engine)
    stream = _stream(engine, settings=settings)
    next(stream)
    assert _hooks(engine) == before, "between two chunks"
    stream.close()
    assert _hooks(engine) == before, "abandoned"
    _speak(engine, settings=settings)
    assert _hooks(engine) == before, "complete"
    cancel = Cancel()
    stream = _stream(engine, settings=settings, cancel=cancel)
    next(stream)
    cancel.set()
    with pytest.raises(Cancelled):
        next(stream)
    assert _hooks(engine) == before, "cancelled"
    assert _plain_thread()


def test_calls_leave_nothing_in_memory(engine: OriginalEngine, settings: GenerationSettings) -> None:
    def tensors() -> int:
        gc.collect()
        return sum(type(each) in (torch.Tensor, torch.nn.Parameter) for each in gc.get_objects())

    _speak(engine, settings=settings)
    before = tensors(), _hooks(engine)
    for seed in range(3):
        _speak(engine, settings=dataclasses.replace(settings, seed=seed))
        stream = _stream(engine, settings=settings)
        next(stream)
        stream.close()
    del stream
    assert (tensors(), _hooks(engine)) == before


# Cancelling


PARTS: dict[str, dict[str, tuple[str, str]]] = {
    "token": {"seamless": ("_decoder._tokens.decoder", "logits"), "upstream": ("_model.t3.speech_head", "forward")},
    "step": {
        "seamless": ("_decoder._flow", "_estimator"),
        "upstream": ("_model.s3gen.flow.decoder.estimator.time_embeddings", "forward"),
    },
    "vocoder": {"seamless": ("_decoder._vocoder", "push"), "upstream": ("_model.s3gen.mel2wav", "decode")},
}
"""What is called once for every unit of work, by decoder: (its owner, its name)."""


@contextlib.contextmanager
def _counting(
    engine: OriginalEngine, part: str, settings: GenerationSettings, *, cancel: Cancel, at: int
) -> Iterator[list[int]]:
    """Counts the calls of a part, and sets `cancel` in one of them."""
    passes = [0]
    path, name = PARTS[part][settings.decoder]
    owner = operator.attrgetter(path)(engine)
    real = getattr(owner, name)

    def counted(*args: Any, **kwargs: Any) -> Any:
        passes[0] += 1
        if passes[0] == at:
            cancel.set()
        return real(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(owner, name, counted)
        yield passes


@pytest.mark.parametrize("at", [1, 4])
def test_cancelling_stops_before_the_next_speech_token(
    engine: OriginalEngine, settings: GenerationSettings, at: int
) -> None:
    cancel = Cancel()
    with _counting(engine, "token", settings, cancel=cancel, at=at) as passes, pytest.raises(Cancelled):
        list(_stream(engine, settings=settings, cancel=cancel))
    assert passes == [at]


def test_cancelling_stops_before_the_next_step_of_the_flow(
    engine: OriginalEngine, settings: GenerationSettings
) -> None:
    cancel = Cancel()
    with _counting(engine, "step", settings, cancel=cancel, at=4) as passes, pytest.raises(Cancelled):
        list(_stream(engine, settings=settings, cancel=cancel))
    assert passes == [4], "of ten for every chunk"


def test_cancelling_stops_before_the_vocoder(engine: OriginalEngine, settings: GenerationSettings) -> None:
    cancel = Cancel()
    with (
        _counting(engine, "step", settings, cancel=cancel, at=10),
        _counting(engine, "vocoder", settings, cancel=Cancel(), at=0) as passes,
        pytest.raises(Cancelled),
    ):
        list(_stream(engine, settings=settings, cancel=cancel))
    assert passes == [0]


def test_what_was_cancelled_before_is_not_begun(engine: OriginalEngine, settings: GenerationSettings) -> None:
    cancel = Cancel()
    cancel.set()
    with _counting(engine, "token", settings, cancel=Cancel(), at=0) as passes, pytest.raises(Cancelled):
        next(_stream(engine, settings=settings, cancel=cancel))
    assert passes == [0]


def test_cancelling_one_stream_leaves_the_other_alone(engine: OriginalEngine, settings: GenerationSettings) -> None:
    small = _small(settings)
    expected = _speak(engine, settings=small)
    cancel = Cancel()
    stopped, other = _stream(engine, settings=small, cancel=cancel), _stream(engine, settings=small)
    next(stopped)
    heard = [next(other)[0]]
    cancel.set()
    heard += [samples for samples, _ in other]
    assert np.array_equal(np.concatenate(heard), expected)
    with pytest.raises(Cancelled):
        next(stopped)


# What goes wrong


def test_a_text_that_is_too_long_is_refused_before_anything_runs(engine: OriginalEngine) -> None:
    counting = _counting(engine, "token", SETTINGS, cancel=Cancel(), at=0)
    with counting as passes, pytest.raises(EngineError) as caught:
        next(_stream(engine, text="a" * 2048 + "."))
    assert "2049 tokens" in str(caught.value) and "at most 2048" in str(caught.value)
    assert passes == [0]


def test_the_longest_text_is_spoken(engine: OriginalEngine, settings: GenerationSettings) -> None:
    assert len(_speak(engine, text="a" * 2047 + ".", settings=settings)) == TOKENS * SAMPLES_PER_TOKEN


@pytest.mark.parametrize("text", ["", "  \n"])
def test_a_blank_text_is_refused(engine: OriginalEngine, text: str) -> None:
    with pytest.raises(EngineError, match="no text"):
        next(_stream(engine, text=text))


def test_a_stream_without_a_chunk_is_an_error(own_engine: OriginalEngine, settings: GenerationSettings) -> None:
    set_eos_at(own_engine._model.t3, 0)
    with pytest.raises(EngineError, match="made no speech"):
        next(_stream(own_engine, settings=settings))
    assert _plain_thread()


def test_a_token_that_does_not_exist_is_an_error_upstream(own_engine: OriginalEngine) -> None:
    settings = dataclasses.replace(SETTINGS, decoder="upstream")
    # transformers puts hooks of its own on a model that is used for the first time.
    _speak(own_engine, settings=settings)
    own_engine._model.t3.speech_head.weight.data[7000, 0] = 50.0
    before = _hooks(own_engine)
    with pytest.raises(EngineError, match=r"Chatterbox failed on this text.*IndexError") as caught:
        next(_stream(own_engine, settings=settings))
    assert not isinstance(caught.value, Cancelled)
    assert _hooks(own_engine) == before and _plain_thread()


@pytest.mark.parametrize("part", ["t3.text_emb", "s3gen.flow.input_embedding", "s3gen.mel2wav.f0_predictor"])
def test_a_full_gpu_is_said_in_words(
    engine: OriginalEngine, settings: GenerationSettings, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    def fail(*args: Any, **options: Any) -> Any:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")

    with monkeypatch.context() as patched:
        patched.setattr(operator.attrgetter(part)(engine._model), "forward", fail)
        with pytest.raises(EngineError, match="GPU has too little memory"):
            next(_stream(engine, settings=settings))
        assert _plain_thread()
    assert len(_speak(engine, settings=settings)) == TOKENS * SAMPLES_PER_TOKEN, "and it goes on"


@pytest.mark.parametrize(("end", "is_cut"), [(19, False), (20, True)])
def test_speech_that_upstream_cuts_is_logged(
    own_engine: OriginalEngine,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    end: int,
    is_cut: bool,
) -> None:
    tts = upstream.load_chatterbox()
    real = tts.ChatterboxTTS.inference_stream

    def limited(self: Any, *, max_new_tokens: int, **options: Any) -> Any:
        assert max_new_tokens == engine_module.MAX_SPEECH_TOKENS, "upstream's limit"
        return real(self, max_new_tokens=20, **options)

    with monkeypatch.context() as patched:
        patched.setattr(tts.ChatterboxTTS, "inference_stream", limited)
        set_eos_at(own_engine._model.t3, end)
        stream = _stream(own_engine, settings=dataclasses.replace(SETTINGS, decoder="upstream", chunk_size=10))
        next(stream)  # the real limit is passed to upstream by now
        patched.setattr(engine_module, "MAX_SPEECH_TOKENS", 20)
        list(stream)
    assert ("Speech was cut at" in caplog.text) is is_cut


# Voices


def test_the_clips_voice_comes_first_and_the_built_in_one_last(engine: OriginalEngine, high_clip: Path) -> None:
    assert [voice.name for voice in engine.voices] == ["high", "default"]
    assert engine.voices[0].clips == (high_clip,)
    assert engine.voices[1] == CHATTERBOX_DEFAULT and CHATTERBOX_DEFAULT.clips == ()
    assert engine.sample_rate == 24_000
    assert engine.model == "original" == engine.voices[0].model


def test_a_clip_called_default_is_the_default(tiny_checkpoint: Path, tmp_path: Path) -> None:
    clip = tmp_path / "default.wav"
    write_clip(clip, seconds=2)
    engine = OriginalEngine.load(tiny_checkpoint, "cpu", create_voices(clip), 0)
    assert [(voice.name, voice.clips) for voice in engine.voices] == [("default", (clip,))]


def test_a_voice_is_taken_once_whatever_it_says_and_goes_on_when_its_file_is_gone(
    own_engine: OriginalEngine, settings: GenerationSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = tmp_path / "mine.wav"
    write_clip(clip, seconds=2)
    (voice,) = create_voices(clip)
    tts = upstream.load_chatterbox()
    real = tts.ChatterboxTTS.prepare_conditionals
    calls = []

    def counted(self: Any, path: Path, *args: Any, **options: Any) -> None:
        assert self is not own_engine._model
        calls.append(path)
        real(self, path, *args, **options)

    monkeypatch.setattr(tts.ChatterboxTTS, "prepare_conditionals", counted)
    before = _speak(own_engine, voice=voice, settings=settings)
    _speak(own_engine, voice=voice, settings=dataclasses.replace(settings, exaggeration=1.0))
    assert len(calls) == 1
    clip.unlink()
    known = _speak(own_engine, voice=voice, settings=settings)
    assert np.array_equal(known, before), "a voice that is known outlives its file"

    write_clip(clip, pitch=200, seconds=2)
    (changed,) = create_voices(clip)
    after = _speak(own_engine, voice=changed, settings=settings)
    assert len(calls) == 2 and not np.array_equal(before, after)
    own_engine.forget_voice(changed)
    assert np.array_equal(_speak(own_engine, voice=changed, settings=settings), after) and len(calls) == 3


def test_a_clip_that_is_not_here_is_named(engine: OriginalEngine, tmp_path: Path) -> None:
    voice = dataclasses.replace(CHATTERBOX_DEFAULT, name="gone", clips=(tmp_path / "gone.wav",), fingerprint="0")
    with pytest.raises(EngineError, match=r"'gone' cannot be taken from its clip gone\.wav: .* No such file"):
        next(_stream(engine, voice=voice))


@pytest.mark.parametrize("content", [b"", b"no audio at all"])
def test_a_clip_that_is_no_audio_is_named(engine: OriginalEngine, tmp_path: Path, content: bytes) -> None:
    clip = tmp_path / "broken.wav"
    clip.write_bytes(content)
    voice = dataclasses.replace(CHATTERBOX_DEFAULT, name="broken", clips=(clip,), fingerprint="1")
    with pytest.raises(EngineError, match=r"'broken' cannot be taken from its clip broken\.wav: it "):
        next(_stream(engine, voice=voice))


def test_the_watermark_is_in_what_is_spoken(
    engine: OriginalEngine, settings: GenerationSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    marked = []
    real = engine._model.watermarker.apply_watermark

    def counted(samples: Any, sample_rate: int) -> Any:
        marked.append(real(samples, sample_rate=sample_rate))
        return marked[-1]

    monkeypatch.setattr(engine._model.watermarker, "apply_watermark", counted)
    chunks = [samples for samples, _ in _stream(engine, settings=settings)]
    assert len(marked) == len(chunks)
    for window, samples in zip(marked, chunks, strict=True):
        # Ours marks a chunk together with what is on both sides of it.
        starts = [0] if settings.decoder == "upstream" else range(len(window) - len(samples) + 1)
        window = np.clip(window, -1, 1).astype(np.float32)
        assert any(np.array_equal(window[start : start + len(samples)], samples) for start in starts)


# Loading


@pytest.fixture
def copied(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """The checkpoint in a directory of its own, as links: replace a file, do not write into it."""
    for path in tiny_checkpoint.iterdir():
        (tmp_path / path.name).symlink_to(path)
    return tmp_path


def _state(path: Path) -> dict[str, Any]:
    return loader.read_state(path)


def _replace(path: Path, content: Any, suffix: str = ".pt") -> Path:
    path.unlink()
    path = path.with_suffix(suffix)
    torch.save(content, path)
    return path


def test_pt_files_speak_as_the_safetensors_files_do(
    engine: OriginalEngine, settings: GenerationSettings, plain_speech: Samples, copied: Path
) -> None:
    _replace(copied / "ve.safetensors", _state(copied / "ve.safetensors"))
    _replace(copied / "t3_cfg.safetensors", {"model": [_state(copied / "t3_cfg.safetensors")]})
    s3gen = _state(copied / "s3gen.safetensors")
    derived = {name: tensor for name, tensor in engine._model.s3gen.state_dict().items() if name not in s3gen}
    derived = {name: tensor for name, tensor in derived.items() if name in loader._DERIVED_BUFFERS}
    assert derived.keys() == loader._DERIVED_BUFFERS
    _replace(copied / "s3gen.safetensors", {**s3gen, **derived})
    spoken = _speak(OriginalEngine.load(copied, "cpu", None, 0), settings=settings)
    # Weights are the file's own pages, and how they are aligned there decides in which order some CPUs add up.
    assert spoken.shape == plain_speech.shape
    assert np.abs(spoken - plain_speech).max() < 1e-5


def test_no_random_numbers_are_drawn_to_be_overwritten(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a billion of them took ten seconds and as much memory as the weights."""
    before = torch.get_rng_state()
    tts = upstream.load_chatterbox()
    with loader._unfilled():
        tts.T3(), tts.VoiceEncoder(), torch.nn.Embedding(10, 10), torch.nn.Linear(10, 10)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: state.pop("speech_head.weight"), "lacks speech_head.weight"),
        (lambda state: state.update(extra=torch.zeros(1)), "has unknown extra"),
        (lambda state: state.update({"text_head.weight": torch.zeros(3, 4)}), "has other shapes for text_head.weight"),
        (lambda state: state.clear(), "and .* more"),
    ],
)
def test_weights_of_another_model_are_refused(copied: Path, change: Any, words: str) -> None:
    state = _state(copied / "t3_cfg.safetensors")
    change(state)
    path = _replace(copied / "t3_cfg.safetensors", state)
    with pytest.raises(EngineError, match=f"{path.name} is not the original Chatterbox.*{words}") as caught:
        OriginalEngine.load(copied, "cpu", None, 0)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("name", ["ve.safetensors", "conds.pt", "tokenizer.json"])
@pytest.mark.parametrize("content", [b"", b"\x80\x04garbage"])
def test_a_damaged_file_is_named(copied: Path, name: str, content: bytes) -> None:
    (copied / name).unlink()
    (copied / name).write_bytes(content)
    with pytest.raises(EngineError, match=name):
        OriginalEngine.load(copied, "cpu", None, 0)


class _Bomb:
    def __reduce__(self) -> Any:
        return os.mkdir, ("went_off",)


@pytest.mark.parametrize("name", ["ve.safetensors", "conds.pt"])
def test_a_pickle_with_code_is_refused_and_not_run(copied: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(copied)
    path = _replace(copied / name, {"model": [_Bomb()], "t3": _Bomb(), "gen": {}})
    with pytest.raises(EngineError, match=path.name):
        OriginalEngine.load(copied, "cpu", None, 0)
    assert not (copied / "went_off").exists()


def test_without_any_voice_there_is_no_engine(copied: Path) -> None:
    (copied / "conds.pt").unlink()
    with pytest.raises(EngineUnavailable, match=r"no conds\.pt.*--voices-dir"):
        OriginalEngine.load(copied, "cpu", None, 0)
    engine = OriginalEngine.load(copied, "cpu", create_voices(copied / CLIP), 0)
    assert [voice.name for voice in engine.voices] == ["clip"]
    with pytest.raises(EngineError, match=r"'default' is not here.*conds\.pt"):
        next(_stream(engine))


def test_an_empty_directory_is_refused_before_torch_is_asked(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"t3_cfg\.safetensors"):
        OriginalEngine.load(tmp_path, "cuda:99", None, 0)


# The rest of its life


def test_warming_up_speaks_one_chunk_and_logs_its_time(
    engine: OriginalEngine, settings: GenerationSettings, plain_speech: Samples, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    engine.warm_up()
    assert "Warmed up: the first chunk took" in caplog.text
    assert np.array_equal(_speak(engine, settings=settings), plain_speech)


def test_warming_up_computes_what_the_default_voice_in_its_manner_needs(tiny_checkpoint: Path) -> None:
    engine = OriginalEngine.load(tiny_checkpoint, "cpu", None, 0, usual=GenerationSettings(exaggeration=0.7))
    engine.warm_up()
    prompts = [key[1] for key in engine._decoder._tokens.prefixes]
    assert prompts == [0.7], "what the first request needs is there, and nothing else"


@pytest.mark.parametrize("on_gpu", [False, True])
def test_warming_up_on_a_gpu_speaks_a_long_sentence_to_its_end(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, on_gpu: bool
) -> None:
    engine = OriginalEngine.load(tiny_checkpoint, "cpu", None, 0)
    monkeypatch.setattr(OriginalEngine, "is_on_gpu", on_gpu)
    ends: list[bool] = []
    real = engine._decoder._vocoder.push

    def push(*args: Any, final: bool, **options: Any) -> Any:
        ends.append(final)
        return real(*args, final=final, **options)

    monkeypatch.setattr(engine._decoder._vocoder, "push", push)
    engine.warm_up()
    assert any(ends) is on_gpu


def test_a_closed_engine_refuses(own_engine: OriginalEngine, settings: GenerationSettings) -> None:
    begun = _stream(own_engine, settings=settings)
    next(begun)
    own_engine.close()
    with pytest.raises(EngineError, match="the engine is closed"):
        next(_stream(own_engine, settings=settings))
    assert len(next(begun)[0]), "what was begun holds the model until it ends"
    own_engine.close()
