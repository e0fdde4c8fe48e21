"""What of the model a GPU's memory holds: weights in the precision they are used in, and nothing that only clips need.

The language model's weights are two thirds of all. They are converted on the host, so that no GPU ever holds them in
two precisions; rounding to bfloat16 or float16 is the same on both.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from .linear import activations
from .pages import release_pages
from .plan import Plan


def move_to_device(voice_encoder: Any, t3: Any, s3gen: Any, device: torch.device, plan: Plan | None) -> None:
    """Move upstream's modules from the CPU to a device.

    Args:
        voice_encoder, t3, s3gen: VoiceEncoder, T3 and S3Gen.
        device: a torch.device.
        plan: how the model will be computed; None, or one that keeps the original: all of it is moved as it is.
    """
    if device.type == "cpu":
        return
    if plan is None or plan.upstream_weights_intact:
        for module in (voice_encoder, t3, s3gen):
            module.to(device)
        return
    _convert_linear_layers(network_layers(t3), activations(plan.token_precision))
    t3.to(device)
    for name, module in s3gen.named_children():
        if name not in CLIP_MODULES:
            module.to(device)
    for name, buffer in s3gen.named_buffers(recurse=False):
        setattr(s3gen, name, buffer.to(device))


def network_layers(t3: Any) -> Any:
    """Returns the layers of a T3's network, a LlamaModel or a GPT2Model."""
    return getattr(t3.tfmr, "layers", None) or t3.tfmr.h


CLIP_MODULES = ("tokenizer", "speaker_encoder")
"""Of S3Gen: 0.5 GB that only reference clips need. The voice encoder (6 MB) is for them too, and works on the CPU."""


@contextlib.contextmanager
def borrowed(modules: Sequence[Any], device: torch.device) -> Iterator[None]:
    """Within it, the weights of modules are on a device; afterwards they are where they were, and the same memory."""
    holders = [part for module in modules for part in module.modules()]
    before = [(dict(part._parameters), dict(part._buffers)) for part in holders]
    try:
        for part in holders:
            for name, value in part._parameters.items():
                if value is not None:
                    part._parameters[name] = torch.nn.Parameter(value.detach().to(device), requires_grad=False)
            for name, value in part._buffers.items():
                if value is not None:
                    part._buffers[name] = value.to(device)
        yield
    finally:
        for part, (parameters, buffers) in zip(holders, before, strict=True):
            part._parameters.update(parameters)
            part._buffers.update(buffers)
        if device.type == "cuda":
            torch.cuda.empty_cache()


def _convert_linear_layers(layers: Any, dtype: torch.dtype) -> None:
    """Convert the matrices of linear layers, which our decoder reads in this type; pages of a file are given back."""
    if dtype == torch.float32:
        return
    from transformers.pytorch_utils import Conv1D  # GPT-2's linear layer

    for part in layers.modules():
        if isinstance(part, (torch.nn.Linear, Conv1D)):
            weight = part.weight.data
            part.weight.data = weight.to(dtype)
            release_pages([weight])
