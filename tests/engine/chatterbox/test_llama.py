"""T3's network: what a GPU's kernels are saved with says the same, and how many there are."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.engine.chatterbox.tiny import load_model
from wyoming_chatterbox.engine.base import CancelToken, FloatOverflow
from wyoming_chatterbox.engine.chatterbox.compute import linear, pages
from wyoming_chatterbox.engine.chatterbox.compute.linear import Linear
from wyoming_chatterbox.engine.chatterbox.t3.decode import Decoder
from wyoming_chatterbox.engine.chatterbox.t3.llama import Llama
from wyoming_chatterbox.engine.chatterbox.t3.tokens import TokenGenerator

pytestmark = pytest.mark.filterwarnings("ignore:.*sdp_kernel:FutureWarning")

PER_LAYER, AROUND = 13, 41
"""Kernels of a captured step in bfloat16; in T3's size, 30 layers, 431. AROUND is mostly sampling."""


@pytest.fixture(scope="module")
def model(tiny_checkpoint: Path) -> Any:
    return load_model(tiny_checkpoint)


class _Kernels(TorchDispatchMode):  # type: ignore[misc, unused-ignore]
    """Counts operations that write memory: each is a kernel on a GPU. What changes only shapes and strides is none."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[str] = Counter()
        self._inside = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        read = {each.untyped_storage().data_ptr() for each in args if isinstance(each, torch.Tensor)}
        written = [
            each for each in (result if isinstance(result, tuple | list) else (result,)) if torch.is_tensor(each)
        ]
        fresh = any(each.untyped_storage().data_ptr() not in read for each in written)
        if not self._inside and (function._schema.is_mutable or fresh):
            self.count[str(function)] += 1
        return result

    @contextlib.contextmanager
    def fusing(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """Count what a CPU does in several steps, but a GPU in one, as one."""
        for name in ("rms_norm", "scaled_dot_product_attention"):
            monkeypatch.setattr(torch.nn.functional, name, self._one(name, getattr(torch.nn.functional, name)))
        with self:
            yield

    def _one(self, name: str, real: Any) -> Any:
        def counted(*args: Any, **options: Any) -> Any:
            # With several types, torch has no fused kernel for it.
            fused = name != "rms_norm" or len({each.dtype for each in args if torch.is_tensor(each)}) == 1
            self.count[name] += 1 if fused else 8
            self._inside += 1
            try:
                return real(*args, **options)
            finally:
                self._inside -= 1

        return counted


@pytest.mark.parametrize(("precision", "per_layer", "around"), [("bfloat16", PER_LAYER, AROUND), ("half", 17, 43)])
def test_a_captured_step_has_no_more_kernels_than_before(
    model: Any, monkeypatch: pytest.MonkeyPatch, precision: str, per_layer: int, around: int
) -> None:
    monkeypatch.setattr(linear, "_packs_bfloat16", lambda: False)  # a GPU has no such weights
    kernels = _Kernels()
    with kernels.fusing(monkeypatch):  # also while it is made, since norms look up their function then
        decoder = Decoder(model.t3, precision, captured=True)
        with torch.inference_mode(), decoder.sequence(256) as sequence:
            sequence.position.fill_(20)
            kernels.count.clear()
            decoder.captured_step(sequence, 256)
    assert kernels.count.total() <= per_layer * len(model.t3.tfmr.layers) + around, kernels.count


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "half"])
def test_positions_are_turned_as_in_transformers_and_values_are_not(model: Any, precision: str) -> None:
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    llama = Llama(model.t3.tfmr, precision)
    layer, rows, length = llama.layers[3], 2, 5
    with torch.inference_mode():
        hidden = torch.randn(rows, length, 64, generator=torch.Generator().manual_seed(0)).to(llama.residual)
        positions = torch.tensor([7, 8, 9, 200, 3])
        table = llama.position_table(256, "cpu")
        query, (key, value) = llama.project(layer, hidden, table.index_select(4, positions))
        parts = layer.projections(layer.norm(hidden)).view(rows, length, 3, llama.heads, llama.head_size)
        queries, keys, values = parts.permute(2, 0, 3, 1, 4)
        cos, sin = model.t3.tfmr.rotary_emb(hidden.float(), positions[None])
        expected = apply_rotary_pos_emb(queries.float(), keys.float(), cos, sin)
    most = {"float32": 1e-6, "half": 2e-3, "bfloat16": 1e-2}[precision]
    for got, right in zip((query, key), expected, strict=True):
        assert (got.float() - right).norm() / right.norm() < most
    assert torch.equal(value, values)


def _logits(decoder: Decoder, steps: int = 3) -> Any:
    """Of a few steps with the same tokens, whatever they would draw."""
    logits, real = [], decoder.logits
    decoder.logits = lambda hidden: logits.append(real(hidden)) or logits[-1]  # type: ignore[method-assign, func-returns-value]
    with torch.inference_mode(), decoder.sequence(256) as sequence:
        for position in range(steps):
            sequence.token.fill_(100 + position)
            sequence.position.fill_(position)
            sequence.index.fill_(position)
            decoder.captured_step(sequence, 256)
    return torch.stack(logits)


@pytest.mark.parametrize("precision", ["bfloat16", "half"])
def test_fewer_kernels_are_no_less_exact(model: Any, precision: str) -> None:
    exact = _logits(Decoder(model.t3, captured=True))
    lean, plain = (Decoder(model.t3, precision, captured=True) for _ in range(2))
    plain.network = Llama(model.t3.tfmr, precision)

    def error(decoder: Decoder) -> float:
        return float((_logits(decoder) - exact).norm() / exact.norm())

    assert error(lean) < 1.2 * error(plain) < 0.05


def test_float32_is_the_same_with_fewer_kernels(model: Any) -> None:
    exact, lean = (Decoder(model.t3, captured=True) for _ in range(2))
    exact.network = Llama(model.t3.tfmr)
    right = _logits(exact)
    assert (_logits(lean) - right).norm() / right.norm() < 1e-6


@pytest.mark.parametrize("precision", ["bfloat16", "half"])
def test_logits_are_not_rounded_to_the_precision_of_the_layers(model: Any, precision: str) -> None:
    """A logit of 20 in bfloat16 is one of two numbers 0.125 apart."""
    decoder = Decoder(model.t3, precision)
    with torch.inference_mode():
        hidden = torch.randn(2, 1, 64, generator=torch.Generator().manual_seed(0)).to(decoder.network.residual)
        logits = decoder.logits(hidden)
        right = model.t3.speech_head(model.t3.tfmr.norm(hidden.float()))[:, 0]
    assert (logits - right).norm() / right.norm() < 1e-6


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "half", "float16", "int8"])
def test_a_sum_is_part_of_the_product_where_it_can_be(precision: str) -> None:
    random = torch.Generator().manual_seed(0)
    weight, x = torch.randn(48, 64, generator=random), torch.randn(2, 3, 64, generator=random)
    residual = torch.randn(2, 3, 48, generator=random)
    linear = Linear(weight, None, precision)
    x, residual = x.to(linear_dtype := {"bfloat16": torch.bfloat16, "half": torch.float16}.get(precision)), residual
    residual = residual.to(linear_dtype)
    right = residual.float() + torch.nn.functional.linear(x.float(), weight)
    got = linear.plus(x, residual)
    assert got.shape == right.shape and got.dtype == residual.dtype
    most = {"float32": 1e-6, "float16": 1e-3, "half": 2e-3}.get(precision, 2e-2)
    assert (got.float() - right).norm() / right.norm() < most


def test_sums_from_layer_to_layer_may_be_larger_than_float16_holds(model: Any) -> None:
    llama = Llama(model.t3.tfmr, "half", lean=True)
    adding = Linear(torch.full((64, 64), 30000.0 / 64), None, "half")
    layer = dataclasses.replace(llama.layers[0], out=adding)
    with torch.inference_mode():
        hidden = torch.full((2, 1, 64), 60000.0).to(llama.residual)
        mixed = torch.ones(2, llama.heads, 1, llama.head_size, dtype=llama.dtype)
        assert llama.feed(layer, hidden, mixed).mean() == pytest.approx(90000, rel=0.01)


@pytest.mark.parametrize("graphs", [False, True])
def test_an_utterance_that_float16_cannot_hold_ends_in_an_error(tiny_checkpoint: Path, graphs: bool) -> None:
    model = load_model(tiny_checkpoint)
    generator = TokenGenerator(model.t3, "half", graphs=graphs)
    options: dict[str, Any] = {"cfg_weight": 0.5, "temperature": 0.8, "seed": 0, "limit": 100, "cancel": CancelToken()}
    text = model.tokenizer.text_to_tokens("The kettle is on.")
    with torch.inference_mode():
        assert list(generator.tokens(model.conds.t3, text, **options))
        tokens = generator.tokens(model.conds.t3, text, **options)
        next(tokens)
        model.t3.speech_emb.weight[:] = float("inf")  # from here on
        with pytest.raises(FloatOverflow, match="--dtype float32"):
            list(tokens)


@pytest.mark.parametrize("precision", ["float32", "int8", "bfloat16"])
def test_converted_layers_leave_memory_one_by_one(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    released: list[int] = []

    def release(tensors: Any) -> int:
        released.append(pages.release_pages(tensors))
        return released[-1]

    monkeypatch.setattr("wyoming_chatterbox.engine.chatterbox.t3.llama.release_pages", release)
    tfmr = load_model(tiny_checkpoint).t3.tfmr
    weights = [layer.mlp.up_proj.weight.clone() for layer in tfmr.layers]
    Llama(tfmr, precision)
    assert len(released) == (0 if precision == "float32" else len(tfmr.layers))
    if sys.platform.startswith("linux"):
        assert all(each > 0 for each in released)
    assert all(torch.equal(layer.mlp.up_proj.weight, was) for layer, was in zip(tfmr.layers, weights, strict=True))
