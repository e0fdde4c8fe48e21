"""What is left of upstream's modules once our decoder has converted their weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.engine.chatterbox.tiny import load_model
from wyoming_chatterbox.compute_settings import ComputeSettings
from wyoming_chatterbox.engine.chatterbox.compute.plan import choose_plan
from wyoming_chatterbox.engine.chatterbox.loader import free_converted_weights
from wyoming_chatterbox.engine.chatterbox.streaming import SeamlessDecoder

REDUCED = {"token_precision": "int8", "flow_precision": "bfloat16", "vocoder_precision": "bfloat16"}


def _left(model: Any, **precisions: str) -> dict[str, int]:
    """Returns the bytes of matrices and convolutions that each part still holds, its decoder made."""
    plan = choose_plan(ComputeSettings(profile="exact"), torch.device("cpu"))
    plan = dataclasses.replace(plan, incremental_vocoder=True, **precisions)
    with torch.no_grad():
        SeamlessDecoder(model, plan)
    free_converted_weights(model, plan)
    flow, hift = model.s3gen.flow, model.s3gen.mel2wav
    parts = {
        "language model": (model.t3.tfmr.layers, model.t3.speech_head),
        "flow": (flow.decoder.estimator, flow.encoder.encoders, flow.encoder.up_encoders),
        "vocoder": (hift.conv_pre, hift.resblocks, hift.source_downs, hift.source_resblocks),
    }
    kinds = (torch.nn.Linear, torch.nn.Conv1d)
    return {
        name: sum(module.weight.nbytes for root in roots for module in root.modules() if isinstance(module, kinds))
        for name, roots in parts.items()
    } | {
        "positions": sum(
            embed.pos_enc.pe.nbytes
            for embed in (flow.encoder.embed, flow.encoder.up_embed)
            if embed.pos_enc.pe is not None
        )
    }


def test_converted_weights_are_not_held_twice(tiny_checkpoint: Path) -> None:
    assert _left(load_model(tiny_checkpoint), **REDUCED) == dict.fromkeys(
        ("language model", "flow", "vocoder", "positions"), 0
    )


@pytest.mark.parametrize("precision", REDUCED)
def test_what_is_used_as_it_is_stays(precision: str, tiny_checkpoint: Path) -> None:
    left = _left(load_model(tiny_checkpoint), **(REDUCED | {precision: "float32"}))
    part = {"token_precision": "language model", "flow_precision": "flow", "vocoder_precision": "vocoder"}[precision]
    assert [name for name, size in left.items() if size] == [part]


def test_upstreams_modules_stay_where_they_can_be_used(tiny_checkpoint: Path) -> None:
    assert all(_left(load_model(tiny_checkpoint), token_precision="float32", flow_precision="float32").values())
