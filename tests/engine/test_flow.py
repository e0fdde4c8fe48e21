"""Our flow decoder against upstream's one-shot, on the tiny checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.checkpoint_fixture import SKIP_REASON
from tests.engine.tiny import load_model
from wyoming_chatterbox.engine import upstream
from wyoming_chatterbox.engine.base import Cancel, Cancelled
from wyoming_chatterbox.engine.flow import FRAMES_PER_TOKEN, MEL_BANDS, StreamingFlow

if not upstream.is_installed():
    pytest.skip(SKIP_REASON, allow_module_level=True)

import torch

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
        parts.append(flow.push(state, TOKENS[begin : begin + count], final=False, cancel=Cancel()))
        begin += count
    parts.append(flow.push(state, [], final=True, cancel=Cancel()))
    return torch.cat(parts, dim=2)


@pytest.mark.parametrize("odd", [False, True])
@pytest.mark.parametrize("final", [True, False])
def test_one_decode_is_upstreams_with_the_same_noise(
    flow: StreamingFlow, model: Any, monkeypatch: pytest.MonkeyPatch, odd: bool, final: bool
) -> None:
    voice = _voice(model, odd=odd)
    state = flow.start(voice, 5)
    mel = flow.push(state, TOKENS, final=final, cancel=Cancel())
    monkeypatch.setattr(model.s3gen.flow.decoder, "rand_noise", state.noise)
    expected = model.s3gen.flow_inference(torch.tensor(TOKENS), ref_dict=voice, finalize=final)
    assert mel.shape == expected.shape
    assert mel.shape[2] == FRAMES_PER_TOKEN * (len(TOKENS) - (0 if final else LOOKAHEAD)) - odd
    assert (mel - expected).norm() / expected.norm() < 1e-4


def test_the_noise_is_the_frames_however_many_are_asked_for(flow: StreamingFlow, model: Any) -> None:
    at_once, piecewise, other = (flow.start(_voice(model), seed) for seed in (1, 1, 2))
    whole = flow._noise(at_once, 500)
    for frames in (1, 64, 65, 300, 500):
        assert torch.equal(flow._noise(piecewise, frames), whole[:, :, :frames])
    assert not torch.equal(flow._noise(other, 500), whole)
    assert abs(float(whole.std()) - 1) < 0.02 and abs(float(whole.mean())) < 0.02


def test_the_last_three_tokens_wait_for_what_follows(flow: StreamingFlow, model: Any) -> None:
    state = flow.start(_voice(model), 0)
    frames = [
        flow.push(state, TOKENS[begin:end], final=final, cancel=Cancel()).shape[2]
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
    whole = flow.push(state, TOKENS, final=True, cancel=Cancel())
    streamed = _decoded(flow, voice, cuts=cuts)
    assert streamed.shape == whole.shape
    # A frame does not see the tokens that come after its chunk; 0.02 to 0.04 with these weights. Had a frame other
    # noise, or another's place, it were more than 0.3.
    assert (streamed - whole).norm() / whole.norm() < 0.06
    shifted = torch.roll(streamed, 1, dims=2)
    assert (shifted - whole).norm() / whole.norm() > 0.1


def test_nothing_to_decode_costs_nothing(flow: StreamingFlow, model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow, "_decode", None)
    mel = flow.push(flow.start(_voice(model), 0), [], final=True, cancel=Cancel())
    assert mel.shape == (1, MEL_BANDS, 0)


def test_cancelling_stops_before_the_next_step(flow: StreamingFlow, model: Any) -> None:
    cancel, passes = Cancel(), []

    def hook(*arguments: Any) -> None:
        passes.append(1)
        if len(passes) == 3:
            cancel.set()

    handle = model.s3gen.flow.decoder.estimator.register_forward_hook(hook)
    try:
        with pytest.raises(Cancelled):
            flow.push(flow.start(_voice(model), 0), TOKENS, final=True, cancel=cancel)
    finally:
        handle.remove()
    assert len(passes) == 3
