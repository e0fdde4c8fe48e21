"""Our flow decoder against upstream's one-shot, on the tiny checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.engine.chatterbox.tiny import load_model
from wyoming_chatterbox.engine.base import Cancelled, CancelToken
from wyoming_chatterbox.engine.chatterbox.s3gen import encoder
from wyoming_chatterbox.engine.chatterbox.s3gen import flow as flow_module
from wyoming_chatterbox.engine.chatterbox.s3gen.encoder import FlowEncoder
from wyoming_chatterbox.engine.chatterbox.s3gen.flow import FRAMES_PER_TOKEN, MEL_BANDS, StreamingFlow

pytestmark = pytest.mark.filterwarnings("ignore:.*sdp_kernel:FutureWarning")

TOKENS = torch.randint(0, 6561, (60,), generator=torch.Generator().manual_seed(1)).tolist()
LOOKAHEAD = 3


@pytest.fixture(scope="module")
def model(tiny_checkpoint: Path) -> Any:
    return load_model(tiny_checkpoint)


@pytest.fixture
def flow(model: Any) -> Iterator[StreamingFlow]:
    with torch.inference_mode():
        yield StreamingFlow(model.s3gen.flow)


def _voice(model: Any, *, odd: bool = False) -> dict[str, Any]:
    voice = dict(model.conds.gen)
    if odd:  # a clip whose frames are one more than two for each of its tokens
        voice["prompt_token"] = voice["prompt_token"][:, :-1]
        voice["prompt_token_len"] = voice["prompt_token_len"] - 1
        voice["prompt_feat"] = voice["prompt_feat"][:, :-1]
    return voice


def _decoded(flow: StreamingFlow, voice: dict[str, Any], *, cuts: list[int], seed: int = 0) -> Any:
    assert sum(cuts) == len(TOKENS)
    state, parts, begin = flow.start(voice, seed), [], 0
    for count in cuts:
        parts.append(flow.push(state, TOKENS[begin : begin + count], final=False, cancel=CancelToken()))
        begin += count
    parts.append(flow.push(state, [], final=True, cancel=CancelToken()))
    return torch.cat(parts, dim=2)


@pytest.mark.parametrize("odd", [False, True])
@pytest.mark.parametrize("final", [True, False])
def test_one_decode_is_upstreams_with_the_same_noise(
    flow: StreamingFlow, model: Any, monkeypatch: pytest.MonkeyPatch, odd: bool, final: bool
) -> None:
    voice = _voice(model, odd=odd)
    state = flow.start(voice, 5)
    mel = flow.push(state, TOKENS, final=final, cancel=CancelToken())
    monkeypatch.setattr(model.s3gen.flow.decoder, "rand_noise", state.noise.transpose(1, 2))
    expected = model.s3gen.flow_inference(torch.tensor(TOKENS), ref_dict=voice, finalize=final)
    assert mel.shape == expected.shape
    assert mel.shape[2] == FRAMES_PER_TOKEN * (len(TOKENS) - (0 if final else LOOKAHEAD)) - odd
    assert (mel - expected).norm() / expected.norm() < 1e-4


def test_the_noise_is_the_frames_however_many_are_asked_for(flow: StreamingFlow, model: Any) -> None:
    at_once, piecewise, other = (flow.start(_voice(model), seed) for seed in (1, 1, 2))
    whole = flow._noise(at_once, 500)
    assert whole.shape[1:] == (500, MEL_BANDS)
    for frames in (1, 64, 65, 300, 500):
        assert torch.equal(flow._noise(piecewise, frames), whole[:, :frames])
    prompt = at_once.prompt_feat.shape[1]
    assert torch.equal(flow._noise(other, 500)[:, :prompt], whole[:, :prompt]), "the prompt's noise is the voice's"
    assert not torch.equal(flow._noise(other, 500)[:, prompt:], whole[:, prompt:])
    assert abs(float(whole.std()) - 1) < 0.02 and abs(float(whole.mean())) < 0.02


def test_the_last_three_tokens_wait_for_what_follows(flow: StreamingFlow, model: Any) -> None:
    state = flow.start(_voice(model), 0)
    frames = [
        flow.push(state, TOKENS[begin:end], final=final, cancel=CancelToken()).shape[2]
        for begin, end, final in ((0, 3, False), (3, 10, False), (10, 11, False), (11, 11, False), (11, 11, True))
    ]
    assert frames == [0, 2 * 7, 2, 0, 2 * LOOKAHEAD]
    assert flow.lookahead == LOOKAHEAD


@pytest.mark.parametrize(
    ("cuts", "odd"),
    [([60], False), ([12] * 5, False), ([12] * 5, True), ([25, 35], False), ([2, 1, 57], False), ([1] * 60, False)],
)
def test_every_frame_comes_once_and_close_to_one_decode(
    flow: StreamingFlow, model: Any, cuts: list[int], odd: bool
) -> None:
    voice = _voice(model, odd=odd)
    state = flow.start(voice, 0)
    whole = flow.push(state, TOKENS, final=True, cancel=CancelToken())
    streamed = _decoded(flow, voice, cuts=cuts)
    assert streamed.shape == whole.shape
    # A frame does not see the tokens that come after its chunk; 0.02 to 0.04 with these weights. Had a frame other
    # noise, or another's place, it were more than 0.3.
    assert (streamed - whole).norm() / whole.norm() < 0.06
    shifted = torch.roll(streamed, 1, dims=2)
    assert (shifted - whole).norm() / whole.norm() > 0.1


def test_a_long_utterances_scores_are_computed_head_by_head(
    flow: StreamingFlow, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = flow.push(flow.start(_voice(model), 0), TOKENS, final=True, cancel=CancelToken())
    groups = []
    real = FlowEncoder._attention
    monkeypatch.setattr(
        FlowEncoder, "_attention", lambda self, *given: groups.append(given[0].shape[1]) or real(self, *given)
    )
    monkeypatch.setattr(encoder, "_SCORES", 1)
    split = flow.push(flow.start(_voice(model), 0), TOKENS, final=True, cancel=CancelToken())
    assert set(groups) == {1}
    assert (split - whole).norm() / whole.norm() < 1e-5


@pytest.mark.parametrize("odd", [False, True])
def test_frames_can_be_had_again_once_more_is_known(flow: StreamingFlow, model: Any, odd: bool) -> None:
    voice = _voice(model, odd=odd)
    whole = flow.push(flow.start(voice, 0), TOKENS, final=True, cancel=CancelToken())
    state = flow.start(voice, 0)
    early = flow.push(state, TOKENS[:20], final=False, cancel=CancelToken(), redo_frames=16)
    assert early.shape[2] == state.frames == 2 * 17 - odd, "there is nothing yet to be had again"
    nothing = flow.push(state, [], final=False, cancel=CancelToken(), redo_frames=16)
    assert nothing.shape[2] == 0
    late = flow.push(state, TOKENS[20:], final=True, cancel=CancelToken(), redo_frames=16)
    assert state.frames == whole.shape[2] == early.shape[2] + late.shape[2] - 16
    assert torch.allclose(late, whole[:, :, -late.shape[2] :], atol=1e-5)
    assert (early[:, :, -16:] - late[:, :, :16]).norm() / late[:, :, :16].norm() > 0.01


def test_nothing_to_decode_costs_nothing(flow: StreamingFlow, model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow, "_solve", None)
    mel = flow.push(flow.start(_voice(model), 0), [], final=True, cancel=CancelToken())
    assert mel.shape == (1, MEL_BANDS, 0)


def test_cancelling_stops_before_the_next_step(
    flow: StreamingFlow, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancel, passes = CancelToken(), []
    real = flow._estimator

    def counted(*given: Any) -> Any:
        passes.append(1)
        if len(passes) == 3:
            cancel.set()
        return real(*given)

    monkeypatch.setattr(flow, "_estimator", counted)
    with pytest.raises(Cancelled):
        flow.push(flow.start(_voice(model), 0), TOKENS, final=True, cancel=cancel)
    assert len(passes) == 3


# Attention to what was there before only


@pytest.fixture
def causal(model: Any) -> Iterator[StreamingFlow]:
    with torch.inference_mode():
        yield StreamingFlow(model.s3gen.flow, attention="causal")


def _blocks(cuts: list[int], prompt_tokens: int) -> list[int]:
    """Where the blocks end, in frames: the prompt but for the tokens that wait, then what every piece makes ready,
    once there is speech in it."""
    ends, count = [prompt_tokens - LOOKAHEAD], prompt_tokens
    for cut in cuts:
        count += cut
        if count - LOOKAHEAD > prompt_tokens:
            ends.append(count - LOOKAHEAD)
    ends.append(count)
    return [FRAMES_PER_TOKEN * end for end in ends]


@pytest.mark.parametrize(
    ("cuts", "window"),
    [([60], 256), ([12, 18, 30], 256), ([5] * 12, 256), ([1] * 60, 256), ([5] * 12, 40), ([12, 8, 20, 20], 50)],
    ids=str,
)
@pytest.mark.parametrize("odd", [False, True])
def test_causal_attention_is_upstreams_one_shot_with_a_mask_of_blocks(
    causal: StreamingFlow, model: Any, monkeypatch: pytest.MonkeyPatch, cuts: list[int], window: int, odd: bool
) -> None:
    from chatterbox.models.s3gen import decoder
    from chatterbox.models.s3gen.transformer import upsample_encoder

    monkeypatch.setattr(flow_module, "WINDOW_FRAMES", window)
    voice = _voice(model, odd=odd)
    state = causal.start(voice, 3, "voice")
    parts, begin = [], 0
    for cut in cuts:
        parts.append(causal.push(state, TOKENS[begin : begin + cut], final=False, cancel=CancelToken()))
        begin += cut
    parts.append(causal.push(state, [], final=True, cancel=CancelToken()))
    streamed = torch.cat(parts, dim=2)

    ends = torch.tensor(_blocks(cuts, state.prompt_tokens.shape[1]))

    def blocks(x: Any, masks: Any, *options: Any) -> Any:
        """Frame i attends to frame j when j's block is not behind i's; x holds tokens in the encoder's first half."""
        length = x.shape[1]
        scale = 2 * length // int(ends[-1])  # 1 where there is one place for each token, 2 for each frame
        block = torch.bucketize(torch.arange(length), ends * scale // 2, right=True)
        return (block[:, None] >= block[None, :]).expand(x.shape[0], -1, -1)

    def recent_blocks(x: Any, masks: Any, *options: Any) -> Any:
        """As above; of the speech, only the last frames up to the end of i's block."""
        frames = torch.arange(x.shape[1])
        last = ends[torch.bucketize(frames, ends, right=True)]
        return blocks(x, masks) & ((frames < ends[0])[None, :] | (frames[None, :] >= last[:, None] - window))[None]

    monkeypatch.setattr(upsample_encoder, "add_optional_chunk_mask", blocks)
    monkeypatch.setattr(decoder, "add_optional_chunk_mask", recent_blocks)
    monkeypatch.setattr(model.s3gen.flow.decoder, "rand_noise", state.noise.transpose(1, 2))
    expected = model.s3gen.flow_inference(torch.tensor(TOKENS), ref_dict=voice, finalize=True)
    assert streamed.shape == expected.shape
    assert (streamed - expected).norm() / expected.norm() < 1e-4


def _causally(flow: StreamingFlow, model: Any, *, seed: int = 0, key: Any = "voice", voice: Any = None) -> Any:
    state = flow.start(voice or _voice(model), seed, key)
    parts = [flow.push(state, TOKENS[at : at + 12], final=at == 48, cancel=CancelToken()) for at in range(0, 60, 12)]
    flow.finish(state)
    return torch.cat(parts, dim=2)


def _frames_solved(flow: StreamingFlow, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The first frame of everything that the flow decoder solves from now on; 0 is the prompt's."""
    first, real = [], flow._solve

    def counted(state: Any, mu: Any, begin: int, *rest: Any) -> Any:
        first.append(begin)
        return real(state, mu, begin, *rest)

    monkeypatch.setattr(flow, "_solve", counted)
    return first


def test_the_voices_prompt_is_decoded_once_and_changes_nothing(
    causal: StreamingFlow, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = [_causally(causal, model, seed=seed, key=None) for seed in (0, 1)]
    frames = _frames_solved(causal, monkeypatch)
    for seed in (0, 1, 0):
        assert torch.equal(_causally(causal, model, seed=seed), fresh[seed])
    assert frames.count(0) == 1, "solved from the beginning"


def test_a_cancelled_utterance_leaves_the_voice_as_it_was(causal: StreamingFlow, model: Any) -> None:
    expected = _causally(causal, model, key=None)
    cancel, state = CancelToken(), causal.start(_voice(model), 5, "voice")
    causal.push(state, TOKENS[:20], final=False, cancel=cancel)
    cancel.set()
    with pytest.raises(Cancelled):
        causal.push(state, TOKENS[20:40], final=False, cancel=cancel)
    causal.finish(state)
    assert torch.equal(_causally(causal, model), expected)


@pytest.mark.parametrize("known", [False, True])
def test_utterances_of_one_voice_may_take_turns(
    causal: StreamingFlow, model: Any, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    expected = [_causally(causal, model, seed=seed, key=None) for seed in (0, 1, 2)]
    if known:
        _causally(causal, model)
    frames = _frames_solved(causal, monkeypatch)
    states = [causal.start(_voice(model), seed, "voice") for seed in (0, 1, 2)]
    parts: list[list[Any]] = [[], [], []]
    for at in range(0, 60, 12):
        for state, own in zip(states, parts, strict=True):
            own.append(causal.push(state, TOKENS[at : at + 12], final=at == 48, cancel=CancelToken()))
    for state in states:
        causal.finish(state)
    for own, one in zip(parts, expected, strict=True):
        assert torch.equal(torch.cat(own, dim=2), one)
    assert frames.count(0) == (0 if known else 1), "decoded once for all of them"
    assert list(causal._prompts) == ["voice"]
    assert torch.equal(_causally(causal, model, seed=1), expected[1])


def test_no_more_than_some_voices_are_kept(causal: StreamingFlow, model: Any) -> None:
    for key in ("a", "b", "a", "c"):
        _causally(causal, model, key=key)
    assert list(causal._prompts) == ["a", "c"]
    causal.forget("a")
    assert list(causal._prompts) == ["c"]


def test_memory_is_bounded_and_only_old_speech_is_forgotten(
    causal: StreamingFlow, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    unbounded = _causally(causal, model, key=None)
    monkeypatch.setattr(flow_module, "WINDOW_FRAMES", 40)
    bounded = _causally(causal, model, key=None)
    # The window is full after 20 tokens; the first piece of 12 and the prompt's last tokens are not touched by it.
    assert torch.equal(bounded[:, :, :18], unbounded[:, :, :18])
    assert not torch.equal(bounded[:, :, 80:], unbounded[:, :, 80:])
    assert (bounded - unbounded).norm() / unbounded.norm() < 0.06


def test_pieces_are_no_longer_than_the_window(causal: StreamingFlow) -> None:
    assert causal.max_push_tokens == 60
    pieces = list(flow_module.split_tokens(list(range(300)), causal.max_push_tokens))
    assert [len(piece) for piece in pieces] == [60, 60, 60, 60, 60]
    assert [token for piece in pieces for token in piece] == list(range(300))
    assert [len(piece) for piece in flow_module.split_tokens([0] * 128, causal.max_push_tokens)] == [43, 43, 42]
    assert list(flow_module.split_tokens([], causal.max_push_tokens)) == [[]]
    assert list(flow_module.split_tokens([1, 2], None)) == [[1, 2]]


def test_a_very_short_clip_is_a_voice_too(causal: StreamingFlow, model: Any) -> None:
    for tokens in (1, 3, 4):
        voice = _voice(model)
        voice["prompt_token"] = voice["prompt_token"][:, :tokens]
        voice["prompt_feat"] = voice["prompt_feat"][:, : 2 * tokens]
        assert _causally(causal, model, key=tokens, voice=voice).shape == (1, MEL_BANDS, 120)


# Less of it


def test_a_shorter_prompt_is_the_clips_end(model: Any) -> None:
    with torch.inference_mode():
        short = StreamingFlow(model.s3gen.flow, prompt_seconds=1.0)
        whole = StreamingFlow(model.s3gen.flow)
        for odd in (False, True):
            voice = _voice(model, odd=odd)
            state = short.start(voice, 0)
            assert torch.equal(state.prompt_tokens, voice["prompt_token"][:, -25:])
            assert torch.equal(state.prompt_feat, voice["prompt_feat"][:, -(50 + odd) :])
            cut = {**voice, "prompt_token": state.prompt_tokens, "prompt_feat": state.prompt_feat}
            assert torch.equal(_decoded(short, voice, cuts=[60]), _decoded(whole, cut, cuts=[60]))


def test_fewer_steps_are_euler_steps_of_the_same_equation(model: Any) -> None:
    with torch.inference_mode():
        mels = [
            _decoded(StreamingFlow(model.s3gen.flow, steps=steps), _voice(model), cuts=[60]) for steps in (4, 8, 40)
        ]
    errors = [float((mel - mels[-1]).norm() / mels[-1].norm()) for mel in mels[:-1]]
    assert errors[0] > errors[1] > 1e-4 and errors[0] < 0.2


@pytest.mark.parametrize(("precision", "most"), [("bfloat16", 0.05), ("int8", 0.1)])
@pytest.mark.parametrize("attention", ["full", "causal"])
def test_coarser_precisions_are_close(model: Any, attention: str, precision: str, most: float) -> None:
    with torch.inference_mode():
        exact = _decoded(StreamingFlow(model.s3gen.flow, attention=attention), _voice(model), cuts=[20, 40])
        coarse = StreamingFlow(model.s3gen.flow, attention=attention, precision=precision)
        mel = _decoded(coarse, _voice(model), cuts=[20, 40])
    assert 1e-5 < (mel - exact).norm() / exact.norm() < most
