"""Our streaming of the vocoder against one decode of everything, on the tiny checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.engine.chatterbox.tiny import agreement, load_model
from wyoming_chatterbox.engine.base import CancelToken
from wyoming_chatterbox.engine.chatterbox.s3gen.flow import StreamingFlow
from wyoming_chatterbox.engine.chatterbox.s3gen.incremental_hift import HiFTState, IncrementalHiFT, _Snake
from wyoming_chatterbox.engine.chatterbox.s3gen.incremental_vocoder import IncrementalVocoder
from wyoming_chatterbox.engine.chatterbox.s3gen.source import SAMPLES_PER_FRAME
from wyoming_chatterbox.engine.chatterbox.s3gen.vocoder import LEFT_FRAMES, RIGHT_FRAMES, StreamingVocoder

FRAMES = 120
VOCODERS = [StreamingVocoder, IncrementalVocoder]
CUTS = [[120], [60, 60], [28, 74, 18], [1, 16, 1, 100, 2], [7] * 17 + [1], [1] * 120]


@pytest.fixture(scope="module")
def model(tiny_checkpoint: Path) -> Any:
    return load_model(tiny_checkpoint)


@pytest.fixture(scope="module")
def mel(model: Any) -> Any:
    """Shape (1, 80, FRAMES)."""
    tokens = torch.randint(0, 6561, (FRAMES // 2,), generator=torch.Generator().manual_seed(1)).tolist()
    flow = StreamingFlow(model.s3gen.flow)
    with torch.inference_mode():
        return flow.push(flow.start(model.conds.gen, 1), tokens, final=True, cancel=CancelToken())


@pytest.fixture
def hift(model: Any) -> Iterator[Any]:
    """The tiny one's pitch hardly moves; here it does, and there are frames without a voice."""
    classifier = model.s3gen.mel2wav.f0_predictor.classifier
    weight, bias = classifier.weight.data.clone(), classifier.bias.data.clone()
    classifier.weight.data.mul_(3000.0)
    classifier.bias.data.sub_(300.0)
    with torch.inference_mode():
        yield model.s3gen.mel2wav
    classifier.weight.data.copy_(weight)
    classifier.bias.data.copy_(bias)


def _pieces(vocoder: Any, mel: Any, cuts: list[int], *, seed: int = 3) -> tuple[list[Any], list[Any]]:
    """The samples of every push, and its previews."""
    assert sum(cuts) == FRAMES
    state, done, previews, begin = vocoder.start(seed), [], [], 0
    for index, count in enumerate(cuts):
        final = index == len(cuts) - 1
        samples, preview = vocoder.push(state, mel[:, :, begin : begin + count], final=final)
        done.append(samples)
        previews.append(preview)
        begin += count
    return done, previews


def test_the_pitch_moves_in_these_tests(hift: Any, mel: Any) -> None:
    f0 = hift.f0_predictor(mel)
    assert float(f0.max() - f0.min()) > 100
    assert 0.5 < float((f0 > hift.m_source.l_sin_gen.voiced_threshold).float().mean()) < 1


@pytest.mark.parametrize("vocoder", VOCODERS)
@pytest.mark.parametrize("cuts", CUTS, ids=lambda cuts: f"{len(cuts)} pieces")
def test_pieces_are_one_decode(hift: Any, mel: Any, cuts: list[int], vocoder: Any) -> None:
    (whole,), _ = _pieces(StreamingVocoder(hift), mel, [FRAMES])
    done, previews = _pieces(vocoder(hift), mel, cuts)
    streamed = torch.cat(done)
    assert len(streamed) == FRAMES * SAMPLES_PER_FRAME == len(whole), "nothing is lost"
    assert agreement(streamed, whole) > 100
    waiting = 0
    for count, samples, preview in zip(cuts, done, previews, strict=True):
        waiting += count
        ready = waiting if samples is done[-1] else max(0, waiting - RIGHT_FRAMES)
        assert len(samples) == ready * SAMPLES_PER_FRAME
        waiting -= ready
        assert len(preview) == (waiting * SAMPLES_PER_FRAME if ready else 0)


def test_frames_that_are_not_heard_yet_can_be_replaced(hift: Any, mel: Any) -> None:
    vocoder = StreamingVocoder(hift)
    (whole,), _ = _pieces(vocoder, mel, [FRAMES])
    state = vocoder.start(3)
    guessed = torch.cat((mel[:, :, :52], mel[:, :, 8:16]), dim=2)
    first, _ = vocoder.push(state, guessed, final=False)
    assert state.waiting == RIGHT_FRAMES
    rest, _ = vocoder.push(state, mel[:, :, 60 - RIGHT_FRAMES :], final=True, redo_frames=RIGHT_FRAMES)
    assert state.waiting == 0
    assert len(first) + len(rest) == len(whole)
    assert agreement(rest, whole[len(first) :]) > 100, "what was guessed is forgotten"
    assert 40 < agreement(first, whole[: len(first)]) < 100, "it was their right context"


@pytest.mark.parametrize("cuts", [[30, 50, 40], [52, 33, 20, 15], [64, 56], [7] * 17 + [1]], ids=str)
def test_windows_of_few_lengths_say_the_same(
    hift: Any, mel: Any, cuts: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    (whole,), _ = _pieces(StreamingVocoder(hift), mel, [FRAMES])
    lengths: list[int] = []
    real = hift.decode
    monkeypatch.setattr(hift, "decode", lambda x, s: lengths.append(x.shape[2]) or real(x=x, s=s))
    done, _ = _pieces(StreamingVocoder(hift, multiple=32), mel, cuts)
    assert agreement(torch.cat(done), whole) > 100
    known = next(number for number, length in enumerate(lengths) if length % 32 == 0)
    assert all(length < FRAMES for length in lengths)
    assert all(length % 32 == 0 for length in lengths[known:]), "but at the beginning, where nothing came before"


def test_less_context_is_heard(hift: Any, mel: Any) -> None:
    (whole,), _ = _pieces(StreamingVocoder(hift), mel, [FRAMES])
    done, _ = _pieces(StreamingVocoder(hift, left=4, right=2), mel, CUTS[2])
    assert agreement(torch.cat(done), whole) < 60
    assert (LEFT_FRAMES, RIGHT_FRAMES) == (24, 16)


def test_one_decode_is_upstreams_with_the_same_random_numbers(
    hift: Any, mel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from chatterbox.models.s3gen import hifigan

    vocoder = StreamingVocoder(hift)
    state = vocoder.start(3)
    vocoder.source.draw_noise(state.source, FRAMES)

    class Phases:
        def __init__(self, **bounds: float) -> None:
            pass

        def sample(self, sample_shape: tuple[int, ...]) -> Any:
            assert sample_shape == state.source.phases.shape
            return state.source.phases.clone()

    real, noise = torch.randn_like, state.source.noise
    monkeypatch.setattr(hifigan, "Uniform", Phases)
    monkeypatch.setattr(torch, "randn_like", lambda x: noise if x.shape == noise.shape else real(x))
    expected, expected_source = hift.inference(mel)
    monkeypatch.undo()

    sources = []
    decode = hift.decode
    monkeypatch.setattr(hift, "decode", lambda x, s: sources.append(s) or decode(x=x, s=s))
    (samples,), _ = _pieces(vocoder, mel, [FRAMES])
    # Upstream adds the phase up in single precision.
    assert agreement(sources[0].flatten(), expected_source.flatten()) > 50
    assert agreement(samples, expected[0]) > 40
    assert torch.equal(samples, decode(x=mel, s=sources[0])[0])


@pytest.mark.parametrize("kind", VOCODERS)
def test_the_seed_decides(hift: Any, mel: Any, kind: Any) -> None:
    vocoder = kind(hift)
    (first,), _ = _pieces(vocoder, mel, [FRAMES])
    torch.randn(3)
    (same,), _ = _pieces(vocoder, mel, [FRAMES])
    (other,), _ = _pieces(vocoder, mel, [FRAMES], seed=4)
    assert torch.equal(first, same)
    assert agreement(other, first) < 40


@pytest.mark.parametrize("kind", VOCODERS)
def test_nothing_to_decode_is_nothing(hift: Any, mel: Any, kind: Any) -> None:
    vocoder = kind(hift)
    samples, preview = vocoder.push(vocoder.start(0), mel[:, :, :0], final=True)
    assert len(samples) == len(preview) == 0


@pytest.mark.parametrize("kind", VOCODERS)
def test_the_shortest_speech(hift: Any, mel: Any, kind: Any) -> None:
    vocoder = kind(hift)
    samples, _ = vocoder.push(vocoder.start(0), mel[:, :, :2], final=True)
    assert len(samples) == 2 * SAMPLES_PER_FRAME


def test_previews_are_those_of_a_window(hift: Any, mel: Any) -> None:
    _, expected = _pieces(StreamingVocoder(hift), mel, CUTS[2])
    _, previews = _pieces(IncrementalVocoder(hift), mel, CUTS[2])
    for preview, other in zip(previews[:-1], expected[:-1], strict=True):
        assert agreement(preview, other) > 80


def test_no_frame_is_decoded_twice(hift: Any, mel: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    columns = []
    real = torch.nn.functional.conv1d

    def counted(x: Any, weight: Any, *arguments: Any) -> Any:
        y = real(x, weight, *arguments)
        columns.append(weight.numel() * y.shape[2])
        return y

    layers = IncrementalHiFT(hift)
    source = torch.zeros(1, 1, FRAMES * SAMPLES_PER_FRAME)
    monkeypatch.setattr(torch.nn.functional, "conv1d", counted)
    layers.decode(HiFTState(), mel, source, final=True)
    whole, columns[:] = sum(columns), []
    state = HiFTState()
    for begin in range(0, FRAMES, 20):
        samples = slice(begin * SAMPLES_PER_FRAME, (begin + 20) * SAMPLES_PER_FRAME)
        layers.decode(state, mel[:, :, begin : begin + 20], source[:, :, samples], final=begin + 20 == FRAMES)
    assert sum(columns) == whole


def test_long_pieces_pass_in_windows(hift: Any, mel: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    real = IncrementalHiFT.decode

    def counted(self: Any, state: Any, frames: Any, *rest: Any, **options: Any) -> Any:
        seen.append(frames.shape[2])
        return real(self, state, frames, *rest, **options)

    monkeypatch.setattr(IncrementalHiFT, "decode", counted)
    (samples,), _ = _pieces(IncrementalVocoder(hift), mel, [FRAMES])
    assert len(samples) == FRAMES * SAMPLES_PER_FRAME
    assert seen == [50, 50, 20], "memory grows with a window, not with a chunk"


@pytest.mark.parametrize("shape", [(1, 8, 1), (1, 16, 77)])
def test_the_activation_is_upstreams_to_the_last_bit(hift: Any, shape: tuple[int, int, int]) -> None:
    from chatterbox.models.s3gen.hifigan import Snake

    module = Snake(shape[1])
    module.alpha.data.uniform_(0.1, 2.0, generator=torch.Generator().manual_seed(0))
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    before = x.clone()
    assert torch.equal(_Snake(module)(x), module(x))
    assert torch.equal(x, before)


def test_a_copy_of_the_state_can_be_finished(hift: Any, mel: Any) -> None:
    layers, state = IncrementalHiFT(hift), HiFTState()
    source = torch.randn(1, 1, FRAMES * SAMPLES_PER_FRAME, generator=torch.Generator().manual_seed(0)) / 10
    half = FRAMES // 2 * SAMPLES_PER_FRAME
    first = layers.decode(state, mel[:, :, : FRAMES // 2], source[:, :, :half], final=False)
    layers.decode(state.copy(), mel[:, :, :0], source[:, :, :0], final=True)
    rest = layers.decode(state, mel[:, :, FRAMES // 2 :], source[:, :, half:], final=True)
    assert agreement(torch.cat((first, rest), dim=1), hift.decode(x=mel, s=source)) > 100


def test_bfloat16_is_close(hift: Any, mel: Any) -> None:
    (whole,), _ = _pieces(StreamingVocoder(hift), mel, [FRAMES])
    done, _ = _pieces(IncrementalVocoder(hift, "bfloat16"), mel, CUTS[2])
    assert 30 < agreement(torch.cat(done), whole) < 60
