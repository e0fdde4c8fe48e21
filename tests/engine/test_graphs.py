"""CUDA graphs without a GPU: what is captured, when and in which state, on a device that only says it is one.

Work on it is done at once, also while it is captured; what was captured is done again by `replay()`. What a real GPU
says to the captured kernels cannot be seen here.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.checkpoint_fixture import SKIP_REASON, TOKENS
from tests.engine.tiny import load_model
from wyoming_chatterbox.engine import t3, upstream
from wyoming_chatterbox.engine.base import Cancel
from wyoming_chatterbox.engine.t3 import TokenGenerator

if not upstream.is_installed():
    pytest.skip(SKIP_REASON, allow_module_level=True)

import torch

pytestmark = pytest.mark.filterwarnings("ignore:.*sdp_kernel:FutureWarning")

TEXT = "The kettle is on."


class _Device(str):
    """The CPU, called another name."""

    type = "cuda"


class _Stream:
    def __init__(self, device: Any = None) -> None:
        pass

    def wait_stream(self, other: Any) -> None:
        pass


class _Graph:
    def __init__(self) -> None:
        self.replay: Callable[[], None] = lambda: pytest.fail("nothing was captured")


class _Cuda:
    """In the place of `torch.cuda`."""

    Stream, CUDAGraph = _Stream, _Graph

    def __init__(self) -> None:
        self.captured = 0
        self.breaks_at: int | None = None
        self._capturing: _Graph | None = None

    def current_stream(self, device: Any) -> _Stream:
        return _Stream()

    def stream(self, stream: _Stream) -> Any:
        return contextlib.nullcontext()

    @contextlib.contextmanager
    def graph(self, graph: _Graph, capture_error_mode: str) -> Iterator[None]:
        if self._capturing is not None:
            raise RuntimeError("something else is captured")
        self._capturing = graph
        try:
            time.sleep(0.01)
            if self.captured == self.breaks_at:
                raise torch.cuda.OutOfMemoryError("no memory for it")
            yield
            self.captured += 1
        finally:
            self._capturing = None

    def saw(self, generator: TokenGenerator, cache: Any, end: int) -> None:
        if self._capturing is not None:
            self._capturing.replay = lambda: generator._static_step(cache, end)


class _Torch:
    def __init__(self, cuda: _Cuda) -> None:
        self.cuda = cuda

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


@pytest.fixture(scope="module")
def model(tiny_checkpoint: Path) -> Any:
    return load_model(tiny_checkpoint)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> _Cuda:
    monkeypatch.setattr(t3, "_CACHE_STEP", 32)  # so that an utterance needs several graphs
    cuda, real = _Cuda(), TokenGenerator._static_step

    def seen(self: TokenGenerator, cache: Any, end: int) -> None:
        real(self, cache, end)
        cuda.saw(self, cache, end)

    monkeypatch.setattr(TokenGenerator, "_static_step", seen)
    return cuda


def _on_gpu(model: Any, cuda: _Cuda) -> TokenGenerator:
    generator = TokenGenerator(model.t3, graphs=True)
    generator.device, generator._torch = _Device("cpu"), _Torch(cuda)
    return generator


def _tokens(generator: TokenGenerator, model: Any, seed: int = 0) -> list[int]:
    with torch.inference_mode():
        text = model.tokenizer.text_to_tokens(TEXT)
        options: dict[str, Any] = {"cfg_weight": 0.5, "temperature": 0.8, "limit": 200, "cancel": Cancel()}
        return list(generator.tokens(model.conds.t3, text, seed=seed, prompt_key="a", **options))


def test_graphs_that_are_captured_on_the_way_change_no_token_and_are_used_again(model: Any, cuda: _Cuda) -> None:
    plain = [_tokens(TokenGenerator(model.t3), model, seed) for seed in (0, 1)]
    generator = _on_gpu(model, cuda)
    assert _tokens(generator, model, 0) == plain[0]
    captured = cuda.captured
    assert captured > 1
    assert _tokens(generator, model, 1) == plain[1]
    assert cuda.captured == captured


def test_utterances_at_once_capture_one_after_the_other(model: Any, cuda: _Cuda) -> None:
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
    assert generator._graphs, "no capture failed"


@pytest.mark.parametrize("breaks_at", [0, 1])
def test_an_utterance_goes_on_without_graphs_that_cannot_be_captured(
    model: Any, cuda: _Cuda, caplog: pytest.LogCaptureFixture, breaks_at: int
) -> None:
    plain = _tokens(TokenGenerator(model.t3), model)
    assert len(plain) == TOKENS
    generator = _on_gpu(model, cuda)
    cuda.breaks_at = breaks_at
    assert _tokens(generator, model) == plain
    assert _tokens(generator, model) == plain
    assert cuda.captured == breaks_at
    assert caplog.text.count("CUDA graphs cannot be captured here, steps run without (no memory for it)") == 1


def test_warming_up_captures_what_usual_utterances_need(
    model: Any, cuda: _Cuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(t3, "_USUAL_POSITIONS", 384)
    generator = _on_gpu(model, cuda)
    with torch.inference_mode():
        generator.capture()
    assert cuda.captured == 384 // 32
    assert _tokens(generator, model) == _tokens(TokenGenerator(model.t3), model)
    assert cuda.captured == 384 // 32
