"""Memory over many utterances, and what every profile keeps to."""

from __future__ import annotations

import dataclasses
import gc
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.engine.chatterbox.streaming.helpers import LONG, RATE, SAMPLES_PER_TOKEN, TEXT, chunks_of, load_engine, speak
from tests.engine.chatterbox.tiny import agreement, ending_after, joins, level
from wyoming_chatterbox.compute_settings import ComputeSettings
from wyoming_chatterbox.engine.base import Cancelled, CancelToken, EngineError
from wyoming_chatterbox.engine.built_in_voices import CHATTERBOX_DEFAULT
from wyoming_chatterbox.engine.chatterbox import streaming
from wyoming_chatterbox.engine.chatterbox.engine import ChatterboxEngine
from wyoming_chatterbox.engine.memory import MemoryUsage
from wyoming_chatterbox.engine.registry import create_voices
from wyoming_chatterbox.speech_settings import GenerationSettings
from wyoming_chatterbox.testing.random_checkpoint import write_clip

pytestmark = pytest.mark.filterwarnings("ignore:.*sdp_kernel:FutureWarning")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("compute", "utterances"),
    [(ComputeSettings(flow_prompt=1.0), 300), (ComputeSettings(flow_attention="causal", flow_prompt=1.0), 1000)],
    ids=["full", "causal"],
)
def test_1000_utterances_leave_nothing_behind(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, compute: ComputeSettings, utterances: int
) -> None:
    """With full attention nothing of an utterance is kept for the next one, so fewer of them will do."""
    engine = ChatterboxEngine.load(tiny_checkpoint, "cpu", None, 0, compute)
    # The only network here that is not tiny; it holds no state.
    monkeypatch.setattr(engine.chatterbox.watermarker, "apply_watermark", lambda samples, sample_rate: samples)
    monkeypatch.setattr(engine.decoder.flow, "_times", [0.0, 1.0])  # one step of ten

    def tensors() -> int:
        gc.collect()
        return sum(type(each) in (torch.Tensor, torch.nn.Parameter) for each in gc.get_objects())

    def hooks() -> int:
        roots = (engine.chatterbox.t3, engine.chatterbox.s3gen)
        return sum(len(part._forward_pre_hooks) + len(part._forward_hooks) for root in roots for part in root.modules())

    with ending_after(engine.chatterbox, 2):
        for exaggeration in range(20):  # as many prompts as are kept, and more
            speak(engine, text="Hi.", exaggeration=exaggeration / 10)
        before = tensors(), hooks(), threading.active_count()
        cache = engine.decoder.tokens.decoder.free
        resident = None
        for number in range(utterances):
            cancel = CancelToken()
            settings = dataclasses.replace(GenerationSettings(), seed=number, exaggeration=number % 20 / 10)
            stream = engine.generate_stream("Hi.", CHATTERBOX_DEFAULT, settings, cancel)
            if number % 10 == 0:
                next(stream)
                stream.close()
            elif number % 10 == 1:
                cancel.set()
                with pytest.raises(Cancelled):
                    next(stream)
            else:
                assert len(list(stream)) == 1
            del stream
            if number == 100:
                resident = MemoryUsage.now().resident
        assert (tensors(), hooks(), threading.active_count()) == before
        assert engine.decoder.tokens.decoder.free is cache
        after = MemoryUsage.now().resident
        if resident is not None and after is not None:
            assert after - resident < 20e6, "nothing that grows is left"


FAST = {"profile": "fast", "quantize": "int8"}
"""Whatever this machine is fastest in."""


def test_fast_speaks_as_long_and_as_steadily(tiny_checkpoint: Path) -> None:
    engine = load_engine(tiny_checkpoint, **FAST)
    with ending_after(engine.chatterbox, LONG):
        chunks = chunks_of(engine)
        again = chunks_of(engine)
        other = speak(engine, seed=1)
        whole = speak(engine, chunk_size=500)
    assert [len(chunk) for chunk in chunks] == [len(chunk) for chunk in again]
    streamed = np.concatenate(chunks)
    assert len(streamed) == len(whole) == LONG * SAMPLES_PER_TOKEN
    assert len(joins(chunks)) >= 2
    assert np.array_equal(streamed, np.concatenate(again)) and not np.array_equal(streamed, other)
    for at in joins(chunks):
        around = slice(at - RATE * 5 // 1000, at + RATE * 40 // 1000)
        assert abs(level(streamed[around]) - level(whole[around])) < 1


@pytest.mark.parametrize("compute", [FAST, {"dtype": "bfloat16"}, {"flow_attention": "causal"}], ids=str)
def test_a_long_sentence_is_spoken_to_its_end_in_every_profile(
    tiny_checkpoint: Path, compute: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = load_engine(tiny_checkpoint, **compute)
    monkeypatch.setattr(engine.decoder.flow, "_times", [0.0, 1.0])
    with ending_after(engine.chatterbox, 400):
        samples = speak(engine, text="a" * 200)
        at_once = speak(engine, text="a" * 200, chunk_size=500)
    assert len(samples) == len(at_once) == 400 * SAMPLES_PER_TOKEN


@pytest.mark.parametrize("compute", [{}, FAST, {"dtype": "bfloat16"}], ids=str)
def test_what_was_said_before_changes_no_sample(tiny_checkpoint: Path, compute: dict[str, Any]) -> None:
    """Not even the last bit: 8-bit layers round by the largest of all that they get at once."""
    text = "This is a sentence of some length, with more than sixty-four letters in it."
    fresh = speak(load_engine(tiny_checkpoint, **compute), text=text)
    used = load_engine(tiny_checkpoint, **compute)
    used.warm_up()
    for other in ("Hi.", "Something longer than that.", "a" * 150):
        speak(used, text=other)
    assert np.array_equal(speak(used, text=text), fresh)


@pytest.mark.parametrize("graphs", [False, True])
def test_the_plan_says_whether_a_step_is_a_graph(engine: ChatterboxEngine, graphs: bool) -> None:
    decoder = streaming.SeamlessDecoder(engine.chatterbox, dataclasses.replace(engine.plan, graphs=graphs))
    assert decoder.tokens.decoder.captured is graphs


def test_where_memory_matters_the_same_is_said_in_windows(
    engine: ChatterboxEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows, trims = [], []
    real = engine.decoder.vocoder.push

    def watched(state: Any, mel: Any, **options: Any) -> Any:
        windows.append(mel.shape[2])
        return real(state, mel, **options)

    monkeypatch.setattr(engine.decoder.vocoder, "push", watched)
    monkeypatch.setattr(streaming, "trim_heap", lambda: trims.append(1))
    heard = {}
    with ending_after(engine.chatterbox, 150):
        for low_memory in (True, False):
            monkeypatch.setattr(engine.decoder, "plan", dataclasses.replace(engine.plan, low_memory=low_memory))
            windows.clear()
            trims.clear()
            heard[low_memory] = chunks_of(engine, text="a" * 100, chunk_size=25)
            assert (max(windows) == 100) is low_memory
            # In front of the flow decoder, of every window and of the watermark.
            assert len(trims) == (2 * len(heard[low_memory]) + len(windows) if low_memory else 0)
    assert [len(chunk) for chunk in heard[True]] == [len(chunk) for chunk in heard[False]]
    assert agreement(np.concatenate(heard[True]), np.concatenate(heard[False])) > 90


def test_converted_weights_are_not_kept_twice(tiny_checkpoint: Path) -> None:
    def size(engine: ChatterboxEngine) -> int:
        parts = (engine.chatterbox.t3.tfmr.layers, engine.chatterbox.s3gen.flow.decoder.estimator)
        return sum(weights.numel() for part in parts for weights in part.parameters())

    exact, fast = load_engine(tiny_checkpoint), load_engine(tiny_checkpoint, **FAST)
    assert size(fast) < 0.1 * size(exact)
    upstreams = dataclasses.replace(GenerationSettings(), decoder="upstream")
    assert list(exact.generate_stream(TEXT, CHATTERBOX_DEFAULT, upstreams, CancelToken()))
    with pytest.raises(EngineError, match=r"decoder upstream needs .* --profile exact --dtype float32"):
        next(fast.generate_stream(TEXT, CHATTERBOX_DEFAULT, upstreams, CancelToken()))


def test_two_voices_sentence_by_sentence_do_not_mix_where_their_prompts_are_kept(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    clip = tmp_path / "mine.wav"
    write_clip(clip, pitch=230, seconds=2.0)
    mine = create_voices(clip)[0]
    engine = load_engine(tiny_checkpoint, **FAST)
    alone = {voice.name: speak(engine, voice=voice) for voice in (CHATTERBOX_DEFAULT, mine)}
    assert not np.array_equal(*alone.values())
    for voice in (mine, CHATTERBOX_DEFAULT, CHATTERBOX_DEFAULT, mine, CHATTERBOX_DEFAULT):
        assert np.array_equal(speak(engine, voice=voice), alone[voice.name])
