"""Linear layers in each precision."""

from __future__ import annotations

import types
from typing import Any

import pytest
import torch

from wyoming_chatterbox.engine.chatterbox.compute import linear, microbench
from wyoming_chatterbox.engine.chatterbox.compute.verdicts import VERDICTS


def _layers(bias: bool) -> list[Any]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return [torch.nn.Linear(64, width, bias=bias) for width in (48, 64, 16)]


@pytest.mark.parametrize(
    ("precision", "most"), [("float32", 1e-6), ("float16", 1e-3), ("bfloat16", 0.01), ("int8", 0.02)]
)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("count", [1, 3])
def test_several_layers_are_one(precision: str, most: float, bias: bool, count: int) -> None:
    layers = _layers(bias)[:count]
    x = torch.randn(2, 5, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = torch.cat([layer(x) for layer in layers], dim=-1)
        got = linear.fused(layers, precision)(x.to(linear.activations(precision)))
    assert got.dtype == linear.activations(precision)
    assert got.shape == expected.shape
    error = float((got.float() - expected).norm() / expected.norm())
    assert error < most
    assert error > 1e-5 or precision == "float32"


@pytest.mark.skipif(not linear._packs_bfloat16(), reason="this torch has no oneDNN for this CPU")
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("rows", [1, 2, 7, 98])
def test_weights_in_bfloat16_that_are_packed_give_the_same_products(
    bias: bool, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers = _layers(bias)
    x = torch.randn(rows, 64, generator=torch.Generator().manual_seed(1)).bfloat16()
    packed = linear.fused(layers, "bfloat16")
    monkeypatch.setattr(linear, "_packs_bfloat16", lambda: False)
    plain = linear.fused(layers, "bfloat16")
    assert isinstance(packed, linear.Linear) and packed._packed is not None
    assert isinstance(plain, linear.Linear) and plain._packed is None
    with torch.inference_mode():
        assert torch.equal(packed(x), plain(x))
        assert torch.equal(packed(x[None]), plain(x)[None])


def test_on_a_cpu_single_precision_needs_no_second_copy() -> None:
    layers = _layers(False)
    fused = linear.fused(layers, "float32")
    with torch.inference_mode():
        before = fused(torch.ones(1, 64))
        layers[1].weight.mul_(2)
        after = fused(torch.ones(1, 64))
    assert torch.allclose(after[:, 48:112], 2 * before[:, 48:112]) and torch.equal(after[:, :48], before[:, :48])


class _OnGPU(torch.Tensor):
    """A tensor that says so."""

    device = property(lambda self: torch.device("cuda"))  # type: ignore[assignment]


def test_on_a_gpu_it_is_one_product_in_single_precision_too() -> None:
    layers = [types.SimpleNamespace(weight=each.weight.data.as_subclass(_OnGPU), bias=None) for each in _layers(False)]
    fused = linear.fused(layers, "float32")
    assert isinstance(fused, linear.Linear)
    x = torch.randn(2, 64, generator=torch.Generator().manual_seed(1))
    expected = torch.cat([x @ each.weight.as_subclass(torch.Tensor).T for each in layers], dim=-1)
    assert torch.allclose(fused(x), expected, atol=1e-6)


@pytest.fixture
def weight_first(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """A machine on which the weight as the left factor is faster, or as the test says."""
    times = {"rows": 4.0, "weight_first": 1.0}
    monkeypatch.setattr(microbench, "best_times", lambda works: [work() for work in works.values()] and times)
    monkeypatch.setattr(linear, "_TIMED", (8, 8))
    monkeypatch.setattr(microbench, "_BYTES", 1000.0)
    monkeypatch.setattr(VERDICTS, "_known", {})
    return times


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("rows", [1, 2, 3])
def test_two_rows_are_multiplied_as_columns_where_that_is_faster(
    monkeypatch: pytest.MonkeyPatch, rows: int, count: int
) -> None:
    layers = _layers(False)[:count]
    fused = linear.fused(layers, "float32", weight_first=True)
    x = torch.randn(rows, 1, 64, generator=torch.Generator().manual_seed(1))
    turned = []
    real = torch.mm
    monkeypatch.setattr(torch, "mm", lambda *given: turned.append(given) or real(*given))
    with torch.inference_mode():
        got = fused(x)
        assert torch.allclose(got, torch.cat([layer(x) for layer in layers], dim=-1), atol=1e-6)
    assert len(turned) == (count if rows == 2 else 0)


def test_columns_are_taken_where_they_are_much_faster(weight_first: dict[str, float]) -> None:
    assert linear.weight_first_is_faster()
    weight_first["weight_first"] = 3.0
    assert linear.weight_first_is_faster(), "the verdict stays"
    VERDICTS._known.clear()
    assert not linear.weight_first_is_faster(), "so little could be chance, and another start's verdict another"


@pytest.mark.parametrize(("precision", "bias"), [("bfloat16", False), ("float32", True)])
def test_only_float32_without_a_bias_is_multiplied_as_columns(
    monkeypatch: pytest.MonkeyPatch, precision: str, bias: bool
) -> None:
    layer = _layers(bias)[0]
    monkeypatch.setattr(torch, "mm", None)
    x = torch.randn(2, 1, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        got = linear.fused([layer], precision, weight_first=True)(x.to(linear.activations(precision)))
        assert torch.allclose(got.float(), layer(x), atol=0.05)


def test_a_row_of_zeros_is_no_trouble() -> None:
    layer = torch.nn.Linear(8, 4, bias=False)
    with torch.inference_mode():
        layer.weight.zero_()
        assert torch.equal(linear.fused([layer], "int8")(torch.ones(1, 8)), torch.zeros(1, 4))
        assert torch.equal(linear.fused(_layers(False)[:1], "int8")(torch.zeros(1, 64)), torch.zeros(1, 48))


@pytest.mark.parametrize("height", [100.0, 1000.0])
@pytest.mark.parametrize("bias", [False, True])
def test_a_row_with_a_large_channel_leaves_the_other_rows_their_precision(height: float, bias: bool) -> None:
    """Trained language models have such a row at their first position. With one scale for all rows, the others were
    12 % off at 100 standard deviations and 92 % at 1000."""
    layers = _layers(bias)[:1]
    x = torch.randn(1, 34, 64, generator=torch.Generator().manual_seed(1))
    x[0, 0, 5] = height
    with torch.inference_mode():
        expected = layers[0](x)
        got = linear.fused(layers, "int8")(x)
    errors = (got - expected).norm(dim=-1) / expected.norm(dim=-1)
    assert errors[0, 1:].max() < 0.03
    assert errors[0, 0] < 0.05


def test_what_a_row_becomes_in_int8_does_not_depend_on_how_loud_the_rows_beside_it_are() -> None:
    layer = linear.fused(_layers(True), "int8")
    x = torch.randn(6, 64, generator=torch.Generator().manual_seed(1))
    louder = torch.cat((x[:3], 500 * x[3:]))
    with torch.inference_mode():
        assert torch.equal(layer(x)[:3], layer(louder)[:3])
