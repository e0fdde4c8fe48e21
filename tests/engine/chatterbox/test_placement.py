"""What a GPU's memory gets of the model, on torch's meta device: it takes tensors as a GPU does, and keeps nothing."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.engine.chatterbox.tiny import load_model
from wyoming_chatterbox.engine.base import CancelToken
from wyoming_chatterbox.engine.chatterbox.compute import placement
from wyoming_chatterbox.engine.chatterbox.compute.plan import Plan, choose_plan
from wyoming_chatterbox.engine.chatterbox.loader import load_model as load
from wyoming_chatterbox.engine.chatterbox.t3.tokens import TokenGenerator
from wyoming_chatterbox.engine.weights.files import find_files
from wyoming_chatterbox.settings import ComputeSettings

META = torch.device("meta")


class _Moved(TorchDispatchMode):  # type: ignore[misc, unused-ignore]
    """Writes down what is copied to the meta device."""

    def __init__(self) -> None:
        super().__init__()
        self.types: dict[tuple[int, ...], set[Any]] = {}
        """Of the tensors, by their shape."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function is torch.ops.aten._to_copy.default and torch.device(kwargs.get("device") or "cpu") == META:
            self.types.setdefault(tuple(args[0].shape), set()).add(args[0].dtype)
        return function(*args, **kwargs)


def _plan(**changes: str) -> Plan:
    plan = choose_plan(ComputeSettings(profile="exact"), torch.device("cpu"))
    return dataclasses.replace(plan, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("precision", "dtype"), [("bfloat16", torch.bfloat16), ("half", torch.float16), ("float32", torch.float32)]
)
def test_the_language_models_weights_are_moved_in_the_precision_they_are_used_in(
    tiny_checkpoint: Path, precision: str, dtype: Any
) -> None:
    plan = _plan(token_precision=precision, flow_precision="bfloat16")
    with _Moved() as moved:
        model = load(find_files(tiny_checkpoint), "meta", 0, plan)
    matrices = [part.weight for part in model.t3.tfmr.layers.modules() if isinstance(part, torch.nn.Linear)]
    assert len(matrices) == 70
    for matrix in matrices:
        assert (matrix.device, matrix.dtype) == (META, dtype)
    assert moved.types[tuple(model.t3.tfmr.layers[0].mlp.gate_proj.weight.shape)] == {dtype}
    assert model.t3.speech_head.weight.dtype == torch.float32, "it is computed in float32"
    elsewhere = (*model.t3.named_parameters(), *model.s3gen.flow.named_parameters())
    assert all(value.device == META for _, value in elsewhere)
    assert model.s3gen.trim_fade.device == META


def test_what_only_clips_need_is_not_moved(tiny_checkpoint: Path) -> None:
    model = load(find_files(tiny_checkpoint), "meta", 0, _plan(token_precision="bfloat16"))
    for module in (model.ve, model.s3gen.tokenizer, model.s3gen.speaker_encoder):
        assert {value.device.type for value in (*module.parameters(), *module.buffers())} == {"cpu"}
    for module in (model.s3gen.flow, model.s3gen.mel2wav):
        assert {value.device.type for value in (*module.parameters(), *module.buffers())} == {"meta"}


@pytest.mark.parametrize("plan", [None, "float32"])
def test_upstreams_own_decoder_finds_all_of_it_on_the_device(tiny_checkpoint: Path, plan: str | None) -> None:
    model = load(find_files(tiny_checkpoint), "meta", 0, None if plan is None else _plan())
    for module in (model.ve, model.t3, model.s3gen):
        assert {value.device.type for value in module.parameters()} == {"meta"}
    assert model.s3gen.device == META


def test_a_clips_modules_are_on_the_device_for_as_long_as_it_takes(tiny_checkpoint: Path) -> None:
    s3gen = load_model(tiny_checkpoint).s3gen
    modules = [getattr(s3gen, name) for name in placement.CLIP_MODULES]

    def tensors() -> list[Any]:
        return [tensor for module in modules for tensor in (*module.parameters(), *module.buffers())]

    before = tensors()
    assert len(before) > 100
    with pytest.raises(ZeroDivisionError), placement.borrowed(modules, META):
        assert {tensor.device for tensor in tensors()} == {META}
        raise ZeroDivisionError
    assert all(tensor is known for tensor, known in zip(tensors(), before, strict=True))


@pytest.mark.parametrize("precision", ["bfloat16", "half"])
def test_weights_that_were_converted_before_give_the_same_tokens(tiny_checkpoint: Path, precision: str) -> None:
    def tokens(model: Any) -> list[int]:
        generator = TokenGenerator(model.t3, precision)
        text = model.tokenizer.text_to_tokens("The kettle is on.")
        options: dict[str, Any] = {"cfg_weight": 0.5, "temperature": 0.8, "seed": 1, "limit": 40}
        with torch.inference_mode():
            return list(generator.tokens(model.conds.t3, text, cancel=CancelToken(), **options))

    converted = load_model(tiny_checkpoint)
    placement._convert_linear_layers(converted.t3.tfmr.layers, placement.activations(precision))
    assert tokens(converted) == tokens(load_model(tiny_checkpoint))
