"""Nano, which is Turbo with a smaller language model, with small networks: what a listener and a house can rely on."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers.generation.logits_process import (
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from tests.engine.chatterbox.tiny import agreement
from wyoming_chatterbox.compute_settings import ComputeSettings
from wyoming_chatterbox.engine.base import Cancelled, CancelToken, EngineError, Samples
from wyoming_chatterbox.engine.chatterbox.engine import ChatterboxEngine
from wyoming_chatterbox.engine.chatterbox.overflow import without_overflow
from wyoming_chatterbox.engine.chatterbox.t3.sampling import Sampling, SamplingTensors, draw
from wyoming_chatterbox.engine.registry import MODELS, create_voices
from wyoming_chatterbox.engine.weights.repository import WeightsError
from wyoming_chatterbox.speech_settings import GenerationSettings
from wyoming_chatterbox.testing.random_checkpoint import build, write_clip

NANO = MODELS["nano"]
TEXT = "The kettle is on, [chuckle] and so is the radio."
SPEECH_TOKENS = 80
"""Of text and speech together, see random_checkpoint."""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> Path:
    return build(tmp_path_factory.mktemp("nano"), model="nano", eos_at=SPEECH_TOKENS, clip_seconds=6.0)


def _load(checkpoint: Path, **compute: Any) -> ChatterboxEngine:
    assert NANO.layout is not None
    return ChatterboxEngine.load(
        checkpoint,
        "cpu",
        None,
        0,
        ComputeSettings(**compute),
        name="nano",
        layout=NANO.layout,
        built_in_voices=NANO.voices,
    )


@pytest.fixture(scope="module")
def engine(checkpoint: Path) -> ChatterboxEngine:
    return _load(checkpoint)


def _chunks(
    engine: ChatterboxEngine, text: str = TEXT, cancel: CancelToken | None = None, **settings: Any
) -> list[Samples]:
    changed = dataclasses.replace(GenerationSettings(), **settings)
    return [samples for samples, _ in engine.generate_stream(text, engine.voices[0], changed, cancel or CancelToken())]


def test_it_streams_and_the_chunks_are_one_speech(engine: ChatterboxEngine) -> None:
    chunks = _chunks(engine, chunk_size=12, chunk_growth=1.0)
    whole = np.concatenate(_chunks(engine, chunk_size=200))
    assert len(chunks) > 2
    # Full attention hears what came later, so chunks of a speech differ a little from the speech at once.
    assert agreement(np.concatenate(chunks), whole) > 0
    # The tag is one token of the 40 that the text has; behind the speech come three tokens of silence.
    spoken = SPEECH_TOKENS - 40 + 1
    assert len(whole) == pytest.approx((spoken + 3) * 960, abs=2 * 960)


def test_the_same_seed_gives_the_same_samples_and_another_one_others(engine: ChatterboxEngine) -> None:
    first, again, other = (np.concatenate(_chunks(engine, seed=seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert len(first) != len(other) or not np.array_equal(first, other)


@pytest.mark.parametrize("change", [{"top_k": 2}, {"top_p": 0.1}, {"temperature": 0.2}])
def test_every_setting_it_has_changes_what_is_heard(engine: ChatterboxEngine, change: dict[str, Any]) -> None:
    usual, changed = np.concatenate(_chunks(engine)), np.concatenate(_chunks(engine, **change))
    assert set(change) <= set(NANO.parameters)
    assert len(usual) != len(changed) or not np.array_equal(usual, changed)


@pytest.mark.parametrize(("top_k", "top_p"), [(1000, 0.95), (5, 1.0), (0, 0.5), (0, 1.0)])
def test_tokens_are_sampled_in_its_developers_order(top_k: int, top_p: float) -> None:
    """Temperature, top-k, top-p, and the penalty last, as transformers' processors compute them."""
    random = torch.Generator().manual_seed(0)
    settings = SamplingTensors(torch.device("cpu"), 6563)
    settings.set(0.0, 0.7, Sampling(1.3, 0.0, top_p, top_k))
    processors = [TemperatureLogitsWarper(0.7)]
    processors += [TopKLogitsWarper(top_k)] if top_k else []
    processors += [TopPLogitsWarper(top_p)] if top_p < 1 else []
    processors.append(RepetitionPenaltyLogitsProcessor(1.3))
    penalized = 0
    for _ in range(50):
        logits = 3 * torch.randn(1, 6563, generator=random)
        past = logits.topk(300).indices
        seen = torch.zeros(6563, dtype=torch.bool).index_fill_(0, past[0], True)
        noise = torch.empty(6563).exponential_(generator=random)
        nothing = torch.zeros(6563, dtype=torch.bool)
        token = draw(logits, settings, seen, noise, nothing, sort=settings.sorts, penalty_last=True)
        scores = logits
        for processor in processors:
            scores = processor(past, scores)
        assert int(token) == int((scores[0].softmax(dim=-1) / noise).argmax())
        penalized += int(token) in past
    assert penalized


@pytest.mark.parametrize(
    "change", [{"exaggeration": 1.5}, {"cfg_weight": 0.9}, {"min_p": 0.5}, {"sampling": "streaming"}]
)
def test_what_it_does_not_have_changes_nothing(engine: ChatterboxEngine, change: dict[str, Any]) -> None:
    assert not set(change) & set(NANO.parameters)
    assert np.array_equal(np.concatenate(_chunks(engine)), np.concatenate(_chunks(engine, **change)))


@pytest.mark.parametrize(
    "compute", [{"profile": "balanced", "dtype": "float32"}, {"profile": "fast", "quantize": "int8"}]
)
def test_every_profile_speaks_as_long(checkpoint: Path, engine: ChatterboxEngine, compute: dict[str, Any]) -> None:
    other = _load(checkpoint, **compute)
    assert other.plan.flow_steps == (2 if compute["profile"] == "balanced" else 1)
    assert other.plan.flow_prompt == 3.0 and other.plan.flow_attention == "causal"
    lengths = [sum(map(len, _chunks(each))) for each in (engine, other)]
    assert lengths[0] == pytest.approx(lengths[1], abs=3 * 960)
    assert np.array_equal(np.concatenate(_chunks(other)), np.concatenate(_chunks(other)))


def test_cancelling_ends_it_before_the_next_token(engine: ChatterboxEngine) -> None:
    cancel = CancelToken()
    stream = engine.generate_stream(TEXT, engine.voices[0], GenerationSettings(chunk_size=12), cancel)
    next(stream)
    cancel.set()
    with pytest.raises(Cancelled):
        next(stream)


def test_a_clip_becomes_a_voice_and_one_that_is_too_short_says_so(engine: ChatterboxEngine, tmp_path: Path) -> None:
    heard = [np.concatenate(_chunks(engine))]
    for seconds in (6.0, 4.0):
        clip = tmp_path / f"clip{seconds:g}.wav"
        write_clip(clip, pitch=210, seconds=seconds)
        (voice,) = create_voices(clip)
        stream = engine.generate_stream(TEXT, voice, GenerationSettings(), CancelToken())
        if seconds == 6.0:
            heard.append(np.concatenate([samples for samples, _ in stream]))
        else:
            with pytest.raises(EngineError, match=r"4\.\d s of speech: this model needs more than 5 s"):
                next(stream)
    assert len(heard[0]) != len(heard[1]) or not np.array_equal(*heard)


def test_the_language_model_reads_15_seconds_of_a_clip(engine: ChatterboxEngine, tmp_path: Path) -> None:
    write_clip(tmp_path / "long.wav", seconds=12.0)
    (voice,) = create_voices(tmp_path / "long.wav")
    assert engine._conditionals_of(voice).t3.cond_prompt_speech_tokens.shape[1] == pytest.approx(25 * 12, abs=2)


def test_loudness_of_a_clip_does_not_matter(engine: ChatterboxEngine) -> None:
    from wyoming_chatterbox.engine.chatterbox.conditionals import at_loudness

    samples = np.random.default_rng(0).normal(0, 0.1, 24_000).astype(np.float32)
    quiet, loud = (at_loudness(samples * factor, 24_000, -27.0) for factor in (0.1, 3.0))
    assert np.allclose(quiet, loud, atol=1e-6) and 0.01 < np.abs(quiet).mean() < 0.1
    silent = np.zeros(24_000, dtype=np.float32)
    assert np.array_equal(at_loudness(silent, 24_000, -27.0), silent)


def test_upstreams_decoder_is_refused_and_files_that_lack_are_named(engine: ChatterboxEngine, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="decoder upstream is not for Chatterbox Nano"):
        _chunks(engine, decoder="upstream")
    with pytest.raises(WeightsError, match=r"no t3_nano_v1\.safetensors, .*no vocab\.json.*chatterbox-nano"):
        _load(tmp_path)


def test_where_float16_is_too_narrow_it_is_computed_in_float32(engine: ChatterboxEngine) -> None:
    """As on GPUs before Ampere."""
    plan = dataclasses.replace(engine.plan, token_precision="half")
    assert without_overflow(plan, engine.chatterbox, engine.spec) == plan
    weight = engine.chatterbox.t3.tfmr.h[0].mlp.c_fc.weight.data
    weight.mul_(1e6)
    try:
        assert without_overflow(plan, engine.chatterbox, engine.spec).token_precision == "float32"
    finally:
        weight.div_(1e6)
