"""The whole of our decoder: what is heard at the joins, how long, how speech ends, the watermark."""

from __future__ import annotations

import dataclasses
import gc
import itertools
import os
import sys
import threading
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.checkpoint_fixture import TOKENS
from tests.engine.chatterbox.tiny import agreement, ending_after, joins, level
from wyoming_chatterbox.compute_settings import ComputeSettings
from wyoming_chatterbox.engine.base import Cancel, Cancelled, EngineError, Samples
from wyoming_chatterbox.engine.chatterbox import streaming, token_thread
from wyoming_chatterbox.engine.chatterbox.engine import OriginalEngine
from wyoming_chatterbox.engine.chatterbox.t3.decode import Decoder
from wyoming_chatterbox.engine.chatterbox.t3.tokens import TokenGenerator
from wyoming_chatterbox.engine.chatterbox.watermark import StreamingWatermark
from wyoming_chatterbox.engine.memory import MemoryUsage
from wyoming_chatterbox.engine.registry import CHATTERBOX_DEFAULT, create_voices
from wyoming_chatterbox.speech_settings import GenerationSettings
from wyoming_chatterbox.testing.random_checkpoint import write_clip
from wyoming_chatterbox.voices.voice import Voice

pytestmark = pytest.mark.filterwarnings("ignore:.*sdp_kernel:FutureWarning")

RATE = 24_000
SAMPLES_PER_TOKEN = 960
TEXT = "The kettle is on, and so is the radio."
LONG = 60
"""Tokens of an utterance with several joins."""


@pytest.fixture(scope="module")
def engine(tiny_checkpoint: Path) -> OriginalEngine:
    return OriginalEngine.load(tiny_checkpoint, "cpu", None, 0)


@pytest.fixture
def long_engine(engine: OriginalEngine) -> Iterator[OriginalEngine]:
    with ending_after(engine._model, LONG):
        yield engine


def _chunks(
    engine: OriginalEngine, *, text: str = TEXT, voice: Voice = CHATTERBOX_DEFAULT, **settings: Any
) -> list[Samples]:
    stream = engine.generate_stream(text, voice, dataclasses.replace(GenerationSettings(), **settings), Cancel())
    return [samples for samples, _ in stream]


def _speak(engine: OriginalEngine, **options: Any) -> Samples:
    return np.concatenate(_chunks(engine, **options))


# Joins


def _dips(chunks: list[Samples]) -> list[float]:
    """How much louder the first 5 ms of every chunk are than the 35 ms after them, in dB."""
    samples = np.concatenate(chunks)
    return [level(samples[at : at + 120]) - level(samples[at + 120 : at + 960]) for at in joins(chunks)]


def test_the_level_at_joins_is_that_of_one_chunk(long_engine: OriginalEngine) -> None:
    whole = _speak(long_engine, chunk_size=500)
    chunks = _chunks(long_engine, chunk_size=12, chunk_growth=1.0)
    streamed = np.concatenate(chunks)
    assert len(joins(chunks)) == 3
    for at in joins(chunks):
        around = slice(at - RATE * 5 // 1000, at + RATE * 40 // 1000)
        assert abs(level(streamed[around]) - level(whole[around])) < 0.2
        assert abs(level(streamed[at : at + 120]) - level(whole[at : at + 120])) < 0.5
        assert abs(streamed[at] - streamed[at - 1]) < 1.5 * abs(whole[at] - whole[at - 1]) + 0.01


def test_upstream_has_a_hole_at_every_join(long_engine: OriginalEngine) -> None:
    """So that the test above is known to see what it looks for."""
    theirs = _dips(_chunks(long_engine, chunk_size=12, decoder="upstream"))
    ours = _dips(_chunks(long_engine, chunk_size=12, chunk_growth=1.0))
    assert max(theirs) < -10
    assert np.mean(theirs) < np.mean(ours) - 6


CHUNKINGS: list[tuple[dict[str, Any], float]] = [
    ({"chunk_size": 5, "chunk_growth": 1.0}, 32),
    ({"chunk_size": 12, "chunk_growth": 2.0}, 35),
    ({"chunk_size": 17, "chunk_growth": 1.3}, 33),
    ({}, 40),
    ({"chunk_size": LONG}, 45),
]
"""And how many dB the samples are from those of one chunk at least."""


@pytest.mark.parametrize(("chunking", "least"), CHUNKINGS, ids=str)
def test_every_chunking_says_the_same(long_engine: OriginalEngine, chunking: dict[str, Any], least: float) -> None:
    whole = _speak(long_engine, chunk_size=500)
    streamed = _speak(long_engine, **chunking)
    assert len(streamed) == LONG * SAMPLES_PER_TOKEN == len(whole)
    # What is left is the flow decoder: what was heard does not know the tokens after its chunk. Were frames that nobody
    # has heard yet not taken from the latest decode, it would be 30.7, 32.1, 31.6 and 34.0 dB for all but the last.
    assert agreement(streamed, whole) > least
    assert agreement(_speak(long_engine, seed=1, **chunking), whole) < 10


def test_chunks_grow_to_200_tokens_and_no_further(engine: OriginalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []
    real = streaming._Utterance.push

    def counted(self: Any, tokens: list[int], *, final: bool) -> Samples:
        taken.append((len(tokens), final))
        return real(self, tokens, final=final)

    monkeypatch.setattr(streaming._Utterance, "push", counted)
    with ending_after(engine._model, 500):
        _speak(engine, chunk_size=25, chunk_growth=4.0, text="a" * 200)
    assert taken == [(25, False), (100, False), (200, False), (175, True)]
    taken.clear()
    _speak(engine, chunk_size=TOKENS)
    assert taken == [(TOKENS, False), (0, True)]
    taken.clear()
    with ending_after(engine._model, 0), pytest.raises(EngineError, match="made no speech"):
        _speak(engine)
    assert taken == [(0, True)]


def test_speech_that_ends_a_few_tokens_behind_a_chunk_ends_with_it(
    engine: OriginalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One more chunk would cost as much as many tokens. The first one does not wait for tokens that are not its own."""
    taken: list[int] = []
    made: list[int] = []
    real, tokens = streaming._Utterance.push, engine._decoder._tokens.tokens

    def counted(self: Any, tokens: list[int], *, final: bool) -> Samples:
        taken.append(len(tokens))
        return real(self, tokens, final=final)

    def watched(*arguments: Any, **named: Any) -> Iterator[int]:
        for token in tokens(*arguments, **named):
            made.append(len(taken))
            yield token

    monkeypatch.setattr(streaming._Utterance, "push", counted)
    monkeypatch.setattr(engine._decoder._tokens, "tokens", watched)
    for ahead, length, expected in (
        (4, 51, [12, 39]),  # the fourth token behind the chunk is the end
        (4, 52, [12, 36, 4]),
        (0, 49, [12, 36, 1]),
        (4, 14, [12, 2]),
        (16, 12, [12, 0]),
        (16, 62, [12, 50]),
    ):
        monkeypatch.setattr(engine._decoder, "_plan", dataclasses.replace(engine._plan, tokens_ahead=ahead))
        taken.clear()
        made.clear()
        with ending_after(engine._model, length):
            samples = _speak(engine, chunk_size=12, chunk_growth=3.0)
        assert taken == expected
        assert len(samples) == length * SAMPLES_PER_TOKEN
        assert made.count(0) == 12
        assert made.count(1) == min(length - 12, 36 + ahead)


def test_a_short_text_is_one_chunk_where_two_would_cost_twice_as_much(engine: OriginalEngine) -> None:
    assert len(_chunks(engine, text="The kettle is on now")) == 1
    assert len(_chunks(engine, text="The kettle is on now.")) == 2
    assert len(_chunks(engine, text="The kettle is on now", chunk_size=12)) == 2, "unless it is asked for"


def test_the_first_chunk_is_the_smallest_that_is_heard(engine: OriginalEngine) -> None:
    first, *_ = _chunks(engine, chunk_size=5)
    assert len(first) == SAMPLES_PER_TOKEN
    assert engine._decoder._least == 12


# Ends


@pytest.fixture
def seeds(engine: OriginalEngine, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[int, int]]:
    """How many tokens speech has, by its seed; that of others has `TOKENS`."""
    lengths: dict[int, int] = {}
    real = engine._decoder._tokens.tokens

    def tokens(*arguments: Any, seed: int, limit: int, **named: Any) -> Iterator[int]:
        length = min(limit, lengths.get(seed, TOKENS))
        yield from itertools.islice(itertools.cycle(real(*arguments, seed=seed, limit=TOKENS, **named)), length)

    monkeypatch.setattr(engine._decoder._tokens, "tokens", tokens)
    yield lengths


@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize(
    ("lengths", "options", "spoken_with", "said"),
    [
        ({5: 0}, {}, 8, "With seed 5 there was no speech; trying seed 8"),
        ({5: 4}, {}, 8, "With seed 5 speech ended after 0.2 s, far too early for 38 characters; trying seed 8"),
        ({5: 999}, {"text": "Hi.", "chunk_size": 200}, 8, "With seed 5 speech went on for longer than 3 characters"),
        ({5: 4, 8: 3}, {}, 5, "trying seed 8"),
        ({5: 4, 8: 4}, {}, 5, "trying seed 8"),
        ({5: 3, 8: 4}, {}, 8, "trying seed 8"),
        ({5: 0, 8: 999}, {"text": "Hi.", "chunk_size": 200}, 8, "trying seed 8"),
        ({5: 14}, {}, 5, ""),
        ({5: 13}, {}, 5, "Speech ended after 0.5 s, far too early for 38 characters; another seed may"),
    ],
    ids=str,
)
def test_speech_that_fails_before_anything_was_sent_is_tried_with_another_seed(
    engine: OriginalEngine,
    seeds: dict[int, int],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    parallel: bool,
    lengths: dict[int, int],
    options: dict[str, Any],
    spoken_with: int,
    said: str,
) -> None:
    monkeypatch.setattr(engine._decoder, "_plan", dataclasses.replace(engine._plan, parallel=parallel))
    seeds.update(lengths)
    options = {"chunk_size": 12, **options}
    samples = _speak(engine, seed=5, **options)
    assert said in caplog.text if said else not caplog.text
    assert TEXT not in caplog.text and "Hi." not in caplog.text
    assert np.array_equal(_speak(engine, seed=5, **options), samples), "the same every time"
    limit = streaming.most_tokens(options.get("text", TEXT))
    assert len(samples) == min(limit, lengths.get(spoken_with, TOKENS)) * SAMPLES_PER_TOKEN
    if lengths.get(spoken_with, 30) >= 14:
        seeds[5] = 30
        seeds.pop(8, None)
        expected = _speak(engine, seed=spoken_with, **options)
        if lengths.get(spoken_with, 30) == 30:
            assert np.array_equal(samples, expected), "as if that seed had been asked for"


def test_speech_that_fails_with_both_seeds_is_an_error(engine: OriginalEngine, seeds: dict[int, int]) -> None:
    seeds.update({0: 0, 3: 0})
    with pytest.raises(EngineError, match="made no speech"):
        _speak(engine)


def test_a_model_that_does_not_stop_is_stopped_and_all_it_made_is_heard(
    engine: OriginalEngine, caplog: pytest.LogCaptureFixture
) -> None:
    with ending_after(engine._model, 999):
        samples = _speak(engine, text="Hi.")
    assert len(samples) == streaming.most_tokens("Hi.") * SAMPLES_PER_TOKEN
    assert "Speech was ended after 4 s: the model went on for longer than 3 characters take" in caplog.text
    caplog.clear()
    _speak(engine)
    assert "Speech was ended" not in caplog.text


@pytest.mark.parametrize("loud", [0.5, 0.1])
def test_silence_at_the_end_is_cut(long_engine: OriginalEngine, monkeypatch: pytest.MonkeyPatch, loud: float) -> None:
    """Also where all of the last chunk is silent, and the loud part in one before it."""
    vocoder = long_engine._decoder._vocoder
    real, begin = vocoder.push, [0]

    def fading(state: Any, mel: Any, **options: Any) -> Any:
        done, preview = real(state, mel, **options)
        places = torch.arange(begin[0], begin[0] + len(done))
        begin[0] += len(done)
        return done * torch.where(places < loud * RATE, 1.0, 1e-4), preview * 1e-4

    monkeypatch.setattr(vocoder, "push", fading)
    chunks = _chunks(long_engine, chunk_size=25)
    assert len(chunks) == 2
    first = len(chunks[0])  # sent before it was known that only silence follows
    assert first == 14 * SAMPLES_PER_TOKEN
    assert sum(map(len, chunks)) == pytest.approx(max(first, loud * RATE) + 0.3 * RATE, abs=RATE * 0.005)


def test_a_quiet_end_stays(long_engine: OriginalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    vocoder = long_engine._decoder._vocoder
    real = vocoder.push

    def quieter(state: Any, mel: Any, *, final: bool, again: int) -> Any:
        done, preview = real(state, mel, final=final, again=again)
        return done * (0.01 if final else 1.0), preview

    monkeypatch.setattr(vocoder, "push", quieter)
    assert len(_speak(long_engine)) == LONG * SAMPLES_PER_TOKEN


def test_one_token_is_spoken(engine: OriginalEngine) -> None:
    with ending_after(engine._model, 1):
        assert len(_speak(engine)) == SAMPLES_PER_TOKEN


# Voices


def test_a_clip_with_a_frame_more_than_its_tokens_loses_no_more_than_that_frame(
    engine: OriginalEngine, tmp_path: Path
) -> None:
    lengths = set()
    for seconds in (2.0, 2.02, 2.03):
        clip = tmp_path / f"{seconds}.wav"
        write_clip(clip, seconds=seconds)
        voice = create_voices(clip)[0]
        frames = engine._conditionals_of(voice).gen
        more = frames["prompt_feat"].shape[1] - 2 * frames["prompt_token"].shape[1]
        lengths.add(more)
        for chunk_size in (12, 500):
            samples = _speak(engine, voice=voice, chunk_size=chunk_size)
            assert len(samples) == TOKENS * SAMPLES_PER_TOKEN - more * SAMPLES_PER_TOKEN // 2
    assert lengths == {0, 1}


def test_a_file_that_becomes_another_voice_and_looks_as_before_is_no_danger(
    engine: OriginalEngine, tmp_path: Path
) -> None:
    """The prompt belongs to what was computed, not to the file's name, time and size."""
    clip = tmp_path / "mine.wav"
    heard = []
    for pitch in (120, 230):
        write_clip(clip, pitch=pitch, seconds=2.0)
        os.utime(clip, ns=(1, 1))
        (voice,) = create_voices(clip)
        heard.append(_speak(engine, voice=voice))
    engine._decoder._tokens.prefixes.clear()
    assert np.array_equal(_speak(engine, voice=voice), heard[1])
    assert not np.array_equal(*heard)


# The watermark


def _loudness(samples: Samples) -> Samples:
    """Speech-like: words of other loudness, 25 dB apart, and pauses."""
    steps = np.repeat(np.array([1.0, 0.3, 0.06, 1.0, 0.0, 0.5]), len(samples) // 6)
    smooth = np.convolve(steps, np.hanning(1200) / np.hanning(1200).sum(), mode="same")
    return (samples[: len(smooth)] * smooth).astype(np.float32)


def _marked(watermarker: Any, samples: Samples, cuts: list[int]) -> Samples:
    streaming = StreamingWatermark(watermarker, RATE)
    pieces = np.split(samples, cuts)
    after = [samples[cut : cut + 16 * 480] for cut in [*cuts, len(samples)]]
    return np.concatenate([streaming.apply(piece, rest) for piece, rest in zip(pieces, after, strict=True)])


@pytest.mark.parametrize("pauses", [False, True])
@pytest.mark.parametrize("cuts", [[13_440, 37_440], list(range(4_800, 57_600, 4_800)), [960, 12_480]], ids=len)
def test_marking_piece_by_piece_is_marking_at_once(
    long_engine: OriginalEngine, monkeypatch: pytest.MonkeyPatch, cuts: list[int], pauses: bool
) -> None:
    watermarker = long_engine._model.watermarker
    with monkeypatch.context() as patched:
        patched.setattr(watermarker, "apply_watermark", lambda samples, sample_rate: samples)
        plain = _speak(long_engine)
    if pauses:
        plain = _loudness(plain)
    at_once = watermarker.apply_watermark(plain, sample_rate=RATE)
    streamed = _marked(watermarker, plain, cuts)
    assert len(streamed) == len(plain)
    assert level(streamed - plain) > level(plain) - 30, "there is a mark"
    # Perth marks what is louder than a part of the loudest in its window: with pauses a piece may be marked where all
    # at once is not.
    assert agreement(streamed, at_once[: len(streamed)]) > (20 if pauses else 100)
    for cut in cuts:
        mark = streamed - plain
        usual = np.abs(np.diff(mark[cut - 480 : cut + 480])).max()
        assert abs(mark[cut] - mark[cut - 1]) <= usual, "no step at the join that its surroundings do not have"


@pytest.mark.parametrize("chunking", [{}, {"chunk_size": 12, "chunk_growth": 1.0}], ids=str)
def test_a_streams_mark_is_that_of_marking_at_once(
    long_engine: OriginalEngine, monkeypatch: pytest.MonkeyPatch, chunking: dict[str, Any]
) -> None:
    """Though what follows a chunk comes otherwise than it was foreseen: it was decoded without all that comes later."""
    pieces = []
    real = StreamingWatermark.apply

    def watched(self: StreamingWatermark, samples: Samples, following: Samples) -> Samples:
        pieces.append(samples.copy())
        return real(self, samples, following)

    monkeypatch.setattr(StreamingWatermark, "apply", watched)
    streamed = _speak(long_engine, **chunking)
    assert len(pieces) >= 2
    at_once = long_engine._model.watermarker.apply_watermark(np.concatenate(pieces), sample_rate=RATE)
    # 87 to 93 dB; were nothing known of what follows, 59 to 71.
    assert agreement(streamed, np.clip(at_once, -1, 1)[: len(streamed)]) > 80


@pytest.mark.parametrize("length", [200, 480, 767, 768, 960])
def test_a_piece_too_short_for_the_watermarks_network_is_heard(long_engine: OriginalEngine, length: int) -> None:
    """One frame: speech of one token, of a clip that has a frame more than its tokens'."""
    piece = np.sin(np.arange(length) / 20).astype(np.float32)
    nothing = np.zeros(0, dtype=np.float32)
    marked = StreamingWatermark(long_engine._model.watermarker, RATE).apply(piece, nothing)
    assert len(marked) == length
    assert agreement(marked, piece) > 10, "marked, and not changed otherwise"


def test_the_watermark_is_found_in_a_stream(long_engine: OriginalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    watermarker = long_engine._model.watermarker
    for chunk_size in (12, 500):
        marked = _speak(long_engine, chunk_size=chunk_size)
        assert watermarker.get_watermark(marked, sample_rate=RATE, round=False) > 0.99
    monkeypatch.setattr(watermarker, "apply_watermark", lambda samples, sample_rate: samples)
    assert watermarker.get_watermark(_speak(long_engine), sample_rate=RATE, round=False) < 0.01


# What stays


@pytest.mark.parametrize(
    "compute", [ComputeSettings(), ComputeSettings(flow_attention="causal")], ids=["full", "causal"]
)
def test_1000_utterances_leave_nothing_behind(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, compute: ComputeSettings
) -> None:
    engine = OriginalEngine.load(tiny_checkpoint, "cpu", None, 0, compute)
    # The only network here that is not tiny; it holds no state.
    monkeypatch.setattr(engine._model.watermarker, "apply_watermark", lambda samples, sample_rate: samples)
    monkeypatch.setattr(engine._decoder._flow, "_times", [0.0, 1.0])  # one step of ten

    def tensors() -> int:
        gc.collect()
        return sum(type(each) in (torch.Tensor, torch.nn.Parameter) for each in gc.get_objects())

    def hooks() -> int:
        roots = (engine._model.t3, engine._model.s3gen)
        return sum(len(part._forward_pre_hooks) + len(part._forward_hooks) for root in roots for part in root.modules())

    with ending_after(engine._model, 2):
        for exaggeration in range(20):  # as many prompts as are kept, and more
            _speak(engine, text="Hi.", exaggeration=exaggeration / 10)
        before = tensors(), hooks(), threading.active_count()
        cache = engine._decoder._tokens.decoder.free
        resident = None
        for number in range(1000):
            cancel = Cancel()
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
        assert engine._decoder._tokens.decoder.free is cache
        after = MemoryUsage.now().resident
        if resident is not None and after is not None:
            assert after - resident < 20e6, "900 utterances left nothing that grows"


# Profiles


def _loaded(directory: Path, **compute: Any) -> OriginalEngine:
    return OriginalEngine.load(directory, "cpu", None, 0, ComputeSettings(**compute))


FAST = {"profile": "fast", "quantize": "int8"}
"""Whatever this machine is fastest in."""


def test_fast_speaks_as_long_and_as_steadily(tiny_checkpoint: Path) -> None:
    engine = _loaded(tiny_checkpoint, **FAST)
    with ending_after(engine._model, LONG):
        chunks = _chunks(engine)
        again = _chunks(engine)
        other = _speak(engine, seed=1)
        whole = _speak(engine, chunk_size=500)
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
    engine = _loaded(tiny_checkpoint, **compute)
    monkeypatch.setattr(engine._decoder._flow, "_times", [0.0, 1.0])
    with ending_after(engine._model, 400):
        samples = _speak(engine, text="a" * 200)
        at_once = _speak(engine, text="a" * 200, chunk_size=500)
    assert len(samples) == len(at_once) == 400 * SAMPLES_PER_TOKEN


@pytest.mark.parametrize("compute", [{}, FAST, {"dtype": "bfloat16"}], ids=str)
def test_what_was_said_before_changes_no_sample(tiny_checkpoint: Path, compute: dict[str, Any]) -> None:
    """Not even the last bit: 8-bit layers round by the largest of all that they get at once."""
    text = "This is a sentence of some length, with more than sixty-four letters in it."
    fresh = _speak(_loaded(tiny_checkpoint, **compute), text=text)
    used = _loaded(tiny_checkpoint, **compute)
    used.warm_up()
    for other in ("Hi.", "Something longer than that.", "a" * 150):
        _speak(used, text=other)
    assert np.array_equal(_speak(used, text=text), fresh)


@pytest.mark.parametrize("graphs", [False, True])
def test_the_plan_says_whether_a_step_is_a_graph(engine: OriginalEngine, graphs: bool) -> None:
    decoder = streaming.SeamlessDecoder(engine._model, dataclasses.replace(engine._plan, graphs=graphs))
    assert decoder._tokens.decoder.captured is graphs


def test_where_memory_matters_the_same_is_said_in_windows(
    engine: OriginalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows, trims = [], []
    real = engine._decoder._vocoder.push

    def watched(state: Any, mel: Any, **options: Any) -> Any:
        windows.append(mel.shape[2])
        return real(state, mel, **options)

    monkeypatch.setattr(engine._decoder._vocoder, "push", watched)
    monkeypatch.setattr(streaming, "trim_heap", lambda: trims.append(1))
    heard = {}
    with ending_after(engine._model, 150):
        for frugal in (True, False):
            monkeypatch.setattr(engine._decoder, "_plan", dataclasses.replace(engine._plan, frugal=frugal))
            windows.clear()
            trims.clear()
            heard[frugal] = _chunks(engine, text="a" * 100, chunk_size=25)
            assert (max(windows) == 100) is frugal
            # In front of the flow decoder, of every window and of the watermark.
            assert len(trims) == (2 * len(heard[frugal]) + len(windows) if frugal else 0)
    assert [len(chunk) for chunk in heard[True]] == [len(chunk) for chunk in heard[False]]
    assert agreement(np.concatenate(heard[True]), np.concatenate(heard[False])) > 90


def test_converted_weights_are_not_kept_twice(tiny_checkpoint: Path) -> None:
    def size(engine: OriginalEngine) -> int:
        parts = (engine._model.t3.tfmr.layers, engine._model.s3gen.flow.decoder.estimator)
        return sum(weights.numel() for part in parts for weights in part.parameters())

    exact, fast = _loaded(tiny_checkpoint), _loaded(tiny_checkpoint, **FAST)
    assert size(fast) < 0.1 * size(exact)
    upstreams = dataclasses.replace(GenerationSettings(), decoder="upstream")
    assert list(exact.generate_stream(TEXT, CHATTERBOX_DEFAULT, upstreams, Cancel()))
    with pytest.raises(EngineError, match=r"decoder upstream needs .* --profile exact --dtype float32"):
        next(fast.generate_stream(TEXT, CHATTERBOX_DEFAULT, upstreams, Cancel()))


def test_two_voices_sentence_by_sentence_do_not_mix_where_their_prompts_are_kept(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    clip = tmp_path / "mine.wav"
    write_clip(clip, pitch=230, seconds=2.0)
    mine = create_voices(clip)[0]
    engine = _loaded(tiny_checkpoint, **FAST)
    alone = {voice.name: _speak(engine, voice=voice) for voice in (CHATTERBOX_DEFAULT, mine)}
    assert not np.array_equal(*alone.values())
    for voice in (mine, CHATTERBOX_DEFAULT, CHATTERBOX_DEFAULT, mine, CHATTERBOX_DEFAULT):
        assert np.array_equal(_speak(engine, voice=voice), alone[voice.name])


# Tokens in a thread of their own


@pytest.fixture
def parallel_engine(tiny_checkpoint: Path) -> OriginalEngine:
    engine = _loaded(tiny_checkpoint)
    engine._decoder._plan = dataclasses.replace(engine._plan, parallel=True)
    return engine


def _token_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == token_thread.NAME]


@pytest.fixture
def at_work(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The threads in which tokens are being made."""
    real, threads = TokenGenerator.tokens, []

    def tokens(self: TokenGenerator, *args: Any, **options: Any) -> Iterator[int]:
        threads.append(threading.get_ident())
        try:
            yield from real(self, *args, **options)
        finally:
            threads.remove(threading.get_ident())

    monkeypatch.setattr(TokenGenerator, "tokens", tokens)
    return threads


def test_tokens_from_another_thread_make_the_same_samples(
    tiny_checkpoint: Path, parallel_engine: OriginalEngine
) -> None:
    # Not the module's: other tests move its end of speech, which a kept prompt was computed with.
    engine = _loaded(tiny_checkpoint)
    for seed in (0, 1):
        assert np.array_equal(_speak(parallel_engine, seed=seed), _speak(engine, seed=seed))


def test_all_utterances_have_one_thread_which_ends_with_the_engine(
    parallel_engine: OriginalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new thread begins without what libraries keep per thread: 23 to 37 ms for every shape of cuDNN's attention."""
    real, threads = Decoder._draw, set()

    def draw(self: Decoder, *args: Any) -> None:
        threads.add(threading.get_ident())
        real(self, *args)

    monkeypatch.setattr(Decoder, "_draw", draw)
    before = _token_threads()
    for seed in (0, 1, 2):
        _speak(parallel_engine, seed=seed)
    (thread,) = [thread for thread in _token_threads() if thread not in before]
    assert threads == {thread.ident}
    assert sys.getswitchinterval() <= token_thread.SWITCH_INTERVAL
    stream = parallel_engine.generate_stream(TEXT, CHATTERBOX_DEFAULT, GenerationSettings(), Cancel())
    parallel_engine.close()
    thread.join(10)
    assert not thread.is_alive()
    with pytest.raises(EngineError, match="closed"):
        next(stream)


def test_a_decoder_that_nobody_closed_ends_its_thread() -> None:
    thread = token_thread.TokenThread()
    assert list(thread.iterate((number for number in range(3)), Cancel())) == [0, 1, 2]
    (running,) = [running for running in _token_threads() if running is thread._thread]
    del thread
    gc.collect()
    running.join(10)
    assert not running.is_alive()


def test_who_is_cancelled_before_its_turn_waits_for_nobody() -> None:
    thread, go = token_thread.TokenThread(), threading.Event()

    def slow() -> Generator[int, None, None]:
        yield 1
        assert go.wait(20)

    first, cancel = thread.iterate(slow(), Cancel()), Cancel()
    assert next(first) == 1
    begun: list[int] = []
    second = thread.iterate((number for number in range(3) if not begun.append(number)), cancel)
    threading.Timer(0.05, cancel.set).start()
    with pytest.raises(Cancelled):
        next(second)
    go.set()
    assert list(first) == []
    assert list(thread.iterate((number for number in range(2)), Cancel())) == [0, 1]
    assert not begun


def test_nothing_is_at_work_once_an_utterance_ended(parallel_engine: OriginalEngine, at_work: list[int]) -> None:
    with ending_after(parallel_engine._model, 999):
        stream = parallel_engine.generate_stream("a" * 300, CHATTERBOX_DEFAULT, GenerationSettings(), Cancel())
        next(stream)
        assert at_work
        stream.close()
        assert not at_work, "abandoned"
        cancel = Cancel()
        stream = parallel_engine.generate_stream("a" * 300, CHATTERBOX_DEFAULT, GenerationSettings(), cancel)
        next(stream)
        cancel.set()
        with pytest.raises(Cancelled):
            list(stream)
    assert not at_work, "cancelled"


def test_an_error_in_the_thread_is_raised_where_the_tokens_are_taken(
    parallel_engine: OriginalEngine, at_work: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = Decoder._draw, [0]

    def breaking(self: Any, logits: Any, cache: Any) -> None:
        calls[0] += 1
        if calls[0] == 5:
            raise RuntimeError("broken")
        real(self, logits, cache)

    monkeypatch.setattr(Decoder, "_draw", breaking)
    with pytest.raises(EngineError, match="RuntimeError: broken"):
        _speak(parallel_engine)
    assert not at_work
    assert len(_speak(parallel_engine)) == TOKENS * SAMPLES_PER_TOKEN
