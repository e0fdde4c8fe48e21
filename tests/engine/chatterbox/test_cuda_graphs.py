"""CUDA graphs without a GPU: what is captured, when and in which state, on the device of fake_cuda.py."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.checkpoint_fixture import TOKENS
from tests.engine.chatterbox.fake_cuda import DEFAULT_CAPTURE_STREAM, FakeCuda, FakeDevice
from tests.engine.chatterbox.tiny import load_model
from wyoming_chatterbox.compute_settings import ComputeSettings
from wyoming_chatterbox.engine.base import Cancelled, CancelToken, EngineBroken
from wyoming_chatterbox.engine.chatterbox.compute.plan import choose_plan
from wyoming_chatterbox.engine.chatterbox.s3gen import graphs
from wyoming_chatterbox.engine.chatterbox.s3gen.flow import StreamingFlow
from wyoming_chatterbox.engine.chatterbox.s3gen.graphs import FlowGraphs
from wyoming_chatterbox.engine.chatterbox.streaming import SeamlessDecoder
from wyoming_chatterbox.engine.chatterbox.t3 import captured_steps, decode
from wyoming_chatterbox.engine.chatterbox.t3.decode import Decoder
from wyoming_chatterbox.engine.chatterbox.t3.sequence import Sequence
from wyoming_chatterbox.engine.chatterbox.t3.tokens import TokenGenerator
from wyoming_chatterbox.speech_settings import GenerationSettings

pytestmark = pytest.mark.filterwarnings("ignore:.*sdp_kernel:FutureWarning")

TEXT = "The kettle is on."


@pytest.fixture(scope="module")
def model(tiny_checkpoint: Path) -> Any:
    return load_model(tiny_checkpoint)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    monkeypatch.setattr(decode, "CACHE_STEP", 32)  # so that an utterance needs several graphs
    cuda, real = FakeCuda(), Decoder.captured_step

    def seen(self: Decoder, sequence: Sequence, end: int) -> None:
        cuda.last_sequence = sequence
        real(self, sequence, end)
        cuda.saw(lambda: self.captured_step(sequence, end))

    monkeypatch.setattr(Decoder, "captured_step", seen)
    monkeypatch.setattr(torch, "cuda", cuda)
    return cuda


def _on_gpu(model: Any, cuda: FakeCuda) -> TokenGenerator:
    generator = TokenGenerator(model.t3, graphs=True)
    generator.decoder.device = FakeDevice("cpu")
    return generator


def _tokens(generator: TokenGenerator, model: Any, seed: int = 0) -> list[int]:
    with torch.inference_mode():
        text = model.tokenizer.text_to_tokens(TEXT)
        options: dict[str, Any] = {"cfg_weight": 0.5, "temperature": 0.8, "limit": 200, "cancel": CancelToken()}
        return list(generator.tokens(model.conds.t3, text, seed=seed, prefix_key="a", **options))


def test_graphs_that_are_captured_on_the_way_change_no_token_and_are_used_again(model: Any, cuda: FakeCuda) -> None:
    plain = [_tokens(TokenGenerator(model.t3), model, seed) for seed in (0, 1)]
    generator = _on_gpu(model, cuda)
    assert _tokens(generator, model, 0) == plain[0]
    captured = cuda.captured
    assert captured > 1
    assert _tokens(generator, model, 1) == plain[1]
    assert cuda.captured == captured


def test_utterances_at_once_capture_one_after_the_other(model: Any, cuda: FakeCuda) -> None:
    plain = [_tokens(TokenGenerator(model.t3), model, seed) for seed in range(4)]
    generator = _on_gpu(model, cuda)
    said: dict[int, list[int]] = {}

    def speak(seed: int) -> None:
        said[seed] = _tokens(generator, model, seed)

    threads = [threading.Thread(target=speak, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [said[seed] for seed in range(4)] == plain
    assert generator.decoder.captured, "no capture failed"


@pytest.mark.parametrize("breaks_at", [0, 1])
def test_an_utterance_goes_on_without_graphs_that_cannot_be_captured(
    model: Any, cuda: FakeCuda, caplog: pytest.LogCaptureFixture, breaks_at: int
) -> None:
    plain = _tokens(TokenGenerator(model.t3), model)
    assert len(plain) == TOKENS
    generator = _on_gpu(model, cuda)
    cuda.breaks_at = breaks_at
    assert _tokens(generator, model) == plain
    assert _tokens(generator, model) == plain
    assert cuda.captured == breaks_at
    assert (
        caplog.text.count(
            "CUDA graphs of the language model cannot be captured here, its steps run without (no memory for it)"
        )
        == 1
    )


def test_warming_up_captures_what_usual_utterances_need(
    model: Any, cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(captured_steps, "TYPICAL_POSITIONS", 384)
    generator = _on_gpu(model, cuda)
    with torch.inference_mode():
        generator.capture()
    assert cuda.captured == 384 // 32
    assert _tokens(generator, model) == _tokens(TokenGenerator(model.t3), model)
    assert cuda.captured == 384 // 32


SPEECH = torch.randint(0, 6561, (40,), generator=torch.Generator().manual_seed(1)).tolist()


@pytest.fixture
def flow(model: Any, cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> StreamingFlow:
    """A flow decoder whose steps are captured, up to the prompt and 30 tokens."""
    real = FlowGraphs.step

    def seen(self: FlowGraphs, buffers: Any) -> None:
        real(self, buffers)
        cuda.saw(lambda: self.step(buffers))

    monkeypatch.setattr(FlowGraphs, "step", seen)
    usual = model.conds.gen["prompt_feat"].shape[1] + 60
    monkeypatch.setattr(graphs, "TYPICAL_FRAMES", -(-usual // 64) * 64)
    flow = StreamingFlow(model.s3gen.flow, graphs=True)
    assert flow._graphs is not None
    return flow


def _mel(flow: StreamingFlow, model: Any, cuts: tuple[int, ...], cancel: CancelToken | None = None) -> Any:
    with torch.inference_mode():
        state, begin, parts = flow.start(model.conds.gen, 0), 0, []
        for count in (*cuts, len(SPEECH)):
            piece = SPEECH[begin : begin + count]
            begin += len(piece)
            parts.append(flow.push(state, piece, final=begin == len(SPEECH), cancel=cancel or CancelToken()))
        return torch.cat(parts, dim=2)


@pytest.mark.parametrize("cuts", [(), (12, 9), (1, 11, 3)])
def test_a_flow_step_that_is_captured_says_what_the_other_says(
    flow: StreamingFlow, model: Any, cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch, cuts: tuple[int, ...]
) -> None:
    plain = _mel(StreamingFlow(model.s3gen.flow), model, cuts)
    with torch.inference_mode():
        flow.capture()
    assert cuda.captured == graphs.TYPICAL_FRAMES // 64
    calls = []
    replayed = FlowGraphs.solve

    def solve(self: FlowGraphs, x: Any, given: Any, cancel: CancelToken) -> Any:
        solved = replayed(self, x, given, cancel)
        calls.append(solved is not None)
        return solved

    monkeypatch.setattr(FlowGraphs, "solve", solve)
    for _ in range(2):  # what the first one left in the buffers changes nothing
        mel = _mel(flow, model, cuts)
        assert mel.shape == plain.shape
        assert (mel - plain).norm() / plain.norm() < 1e-5
    assert any(calls)
    assert cuda.captured == graphs.TYPICAL_FRAMES // 64, "none is captured on the way"


def test_more_frames_than_usual_are_decoded_without_a_graph(
    flow: StreamingFlow, model: Any, cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphs, "TYPICAL_FRAMES", 64)
    with torch.inference_mode():
        flow.capture()
    assert cuda.captured == 1
    assert torch.equal(_mel(flow, model, (12,)), _mel(StreamingFlow(model.s3gen.flow), model, (12,)))


def test_a_flow_that_cannot_be_captured_decodes_without_graphs(
    flow: StreamingFlow, model: Any, cuda: FakeCuda, caplog: pytest.LogCaptureFixture
) -> None:
    cuda.breaks_at = 1
    with torch.inference_mode():
        flow.capture()
    assert "CUDA graphs of the flow decoder cannot be captured here" in caplog.text
    assert torch.equal(_mel(flow, model, (12,)), _mel(StreamingFlow(model.s3gen.flow), model, (12,)))


def test_cancelling_stops_before_the_next_replay(flow: StreamingFlow, model: Any) -> None:
    with torch.inference_mode():
        flow.capture()
    cancel = CancelToken()
    cancel.set()
    with pytest.raises(Cancelled):
        _mel(flow, model, (), cancel)


@pytest.mark.parametrize("steps", [1, 4])
def test_coarser_flow_steps_can_be_captured_too(model: Any, flow: StreamingFlow, cuda: FakeCuda, steps: int) -> None:
    coarse = StreamingFlow(model.s3gen.flow, graphs=True, precision="bfloat16", steps=steps)
    assert coarse._graphs is not None
    with torch.inference_mode():
        coarse.capture()
    assert cuda.captured == graphs.TYPICAL_FRAMES // 64
    plain = _mel(StreamingFlow(model.s3gen.flow, precision="bfloat16", steps=steps), model, (12,))
    mel = _mel(coarse, model, (12,))
    assert (mel - plain).norm() / plain.norm() < 0.03


def test_every_family_warms_up_and_captures_on_one_lasting_stream_of_its_own(
    flow: StreamingFlow, model: Any, cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On one stream, cuBLAS gives both families one workspace, and each overwrites the other's partial sums."""
    monkeypatch.setattr(captured_steps, "TYPICAL_POSITIONS", 128)
    generator = _on_gpu(model, cuda)
    with torch.inference_mode():
        generator.capture()
        tokens = {graph.stream for graph in cuda.graphs}
        flow.capture()
    frames = {graph.stream for graph in cuda.graphs[4:]}
    assert len(cuda.graphs) > 6
    assert len(tokens) == len(frames) == 1
    assert not tokens & frames
    assert DEFAULT_CAPTURE_STREAM not in tokens | frames
    assert {*cuda.streams} == tokens | frames, "each stream has a workspace of 32 MiB"
    for graph in cuda.graphs:
        assert graph.stream in graph.warmed_up_on, "what a capture allocates is freed with it"
    cuda.streams.clear()
    _tokens(generator, model)  # needs graphs of a longer cache
    assert len(cuda.graphs) > 6
    assert not cuda.streams


@pytest.mark.parametrize("breaks_at", [0, 1])
def test_a_failed_capture_leaves_the_thread_on_its_stream(
    flow: StreamingFlow, model: Any, cuda: FakeCuda, breaks_at: int
) -> None:
    cuda.breaks_at = breaks_at
    with torch.inference_mode():
        _on_gpu(model, cuda).capture()
        assert cuda.current_stream() is cuda.default
        cuda.captured = 0
        flow.capture()
    assert cuda.current_stream() is cuda.default


def test_a_capture_that_loses_the_gpu_says_so(flow: StreamingFlow, model: Any, cuda: FakeCuda) -> None:
    cuda.breaks_at, cuda.error = 0, torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
    with torch.inference_mode():
        for captured in (_on_gpu(model, cuda), flow):
            with pytest.raises(EngineBroken, match="illegal memory access"):
                captured.capture()


def _another_token(cuda: FakeCuda) -> None:
    cuda.last_sequence.token.add_(1)


def _wrong_keys(cuda: FakeCuda) -> None:
    last = cuda.last_sequence.cache.layers[-1]
    position = int(cuda.last_sequence.position) - 1
    last[0, 0, :, position] *= 1.5


@pytest.mark.parametrize("fault", [_another_token, _wrong_keys])
def test_tokens_are_made_without_graphs_that_compute_something_else(
    model: Any,
    cuda: FakeCuda,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    fault: Callable[[FakeCuda], None],
) -> None:
    monkeypatch.setattr(captured_steps, "TYPICAL_POSITIONS", 256)
    generator = _on_gpu(model, cuda)
    cuda.spoil = lambda: fault(cuda)
    with torch.inference_mode():
        generator.capture()
    assert "CUDA graphs of the language model do not compute here what its steps compute without them" in caplog.text
    assert "32 positions" in caplog.text
    assert _tokens(generator, model) == _tokens(TokenGenerator(model.t3), model)


def test_frames_are_decoded_without_graphs_that_compute_something_else(
    flow: StreamingFlow, model: Any, cuda: FakeCuda, caplog: pytest.LogCaptureFixture
) -> None:
    graphs = flow._graphs
    assert graphs is not None

    def spoil() -> None:
        for buffers in graphs._captured.values():
            buffers.x.mul_(1.1)

    cuda.spoil = spoil
    with torch.inference_mode():
        flow.capture()
    assert "CUDA graphs of the flow decoder do not compute here" in caplog.text
    assert torch.equal(_mel(flow, model, (12,)), _mel(StreamingFlow(model.s3gen.flow), model, (12,)))


@pytest.mark.parametrize("disturbed", [False, True])
def test_graphs_that_disturb_each_other_are_not_used(
    model: Any,
    flow: StreamingFlow,
    cuda: FakeCuda,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    disturbed: bool,
) -> None:
    monkeypatch.setattr(captured_steps, "TYPICAL_POSITIONS", 256)
    plan = choose_plan(ComputeSettings(profile="exact"), torch.device("cpu"))
    decoder = SeamlessDecoder(model, plan)
    decoder.cuda_stream = cuda.Stream()
    decoder.tokens, decoder.flow = _on_gpu(model, cuda), flow
    replays = []

    def seldom_wrong() -> None:
        beside = cuda.current_stream() is decoder.cuda_stream
        replays.append(beside)
        if disturbed and beside and sum(replays) == 7:
            cuda.last_sequence.cache.layers[-1].mul_(1 + 1e-6)

    cuda.spoil = seldom_wrong
    decoder.capture(GenerationSettings())
    decoder.close()
    assert sum(replays) >= 7, "one family is replayed in the stream of its utterances' tokens"
    assert decoder.tokens.decoder.captured is not disturbed
    assert bool(flow._graphs and flow._graphs._captured) is not disturbed
    assert ("a replay beside the other graphs gives another result" in caplog.text) is disturbed
    assert cuda.current_stream() is cuda.default
