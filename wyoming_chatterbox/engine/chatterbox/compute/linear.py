"""Linear layers in the precision that was chosen: several of them may share one matrix product."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from . import microbench

Layer: TypeAlias = Callable[[Tensor], Tensor]
"""x of shape (…, in) → (…, out)."""

PRECISIONS = ("float32", "float16", "bfloat16", "half", "int8")

FEW_ROWS = 2
"""Of a language model's step: one with guidance, one without."""

_MUCH_FASTER = 1.5
"""Times. Where it is true it is 2 to 4, elsewhere about 1."""

_TIMED = (1024, 4096)
"""(inputs, outputs) of the product that is timed in two ways: T3's largest layer."""


class Linear:
    """x of shape (…, in) → (…, out).

    float32, bfloat16: weights, input and output are of that type.
    half: the same with float16, for GPUs that have no arithmetic in bfloat16; what exceeds 65504 becomes infinite.
    float16: the weights are, everything else is float32; 2e-4 off. On a CPU only.
    int8: weights are 8-bit integers with one scale per output, inputs are rounded to 8 bits with one scale per row (up
    to `FEW_ROWS` rows share one); what comes in and goes out is float32; 1 % off. On a CPU only.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor | None = None, precision: str = "float32", *, weight_first: bool = False
    ) -> None:
        """
        Args:
            weight: shape (out, in), float32.
            bias: shape (out,) or None.
            precision: one of PRECISIONS.
            weight_first: in float32, multiply inputs of `FEW_ROWS` rows with the weight as the left factor, see
                `weight_first_is_faster`.
        """
        self._packed: Any = None
        self._precision = precision
        self._weight_first = weight_first and bias is None and precision == "float32"
        if precision == "int8":
            self._packed = _packed(weight)
            self._bias = None if bias is None else bias.detach().float()
        elif precision == "float16":
            self._packed = torch.ops.quantized.linear_prepack_fp16(weight.detach().float().contiguous(), bias)
        else:
            dtype = activations(precision)
            self._weight = weight.to(dtype)
            self._bias = None if bias is None else bias.to(dtype)
            if precision == "bfloat16" and weight.device.type == "cpu" and _packs_bfloat16():
                self._packed = torch.ops.mkldnn._reorder_linear_weight(self._weight.detach().contiguous(), None)
                del self._weight

    def __call__(self, x: Tensor) -> Tensor:
        product: Tensor
        if self._packed is None:
            if self._weight_first and x.numel() == FEW_ROWS * x.shape[-1]:
                turned = torch.mm(self._weight, x.reshape(FEW_ROWS, -1).t())
                return turned.t().reshape(*x.shape[:-1], -1)
            return torch.nn.functional.linear(x, self._weight, self._bias)
        if self._precision == "bfloat16":
            product = torch.ops.mkldnn._linear_pointwise(x, self._packed, self._bias, "none", [], "")
        elif self._precision == "float16":
            product = torch.ops.quantized.linear_dynamic_fp16(x, self._packed)
        else:
            product = self._in_int8(x)
        return product

    def plus(self, x: Tensor, residual: Tensor) -> Tensor:
        """`residual` + the product, of shape (…, out) and in one kernel where the layer has no bias and all are of one
        type; its sum is rounded once then, not twice."""
        if self._packed is not None or self._weight_first or self._bias is not None:
            return residual + self(x)
        flat, rows = residual.reshape(-1, residual.shape[-1]), x.reshape(-1, x.shape[-1])
        return torch.addmm(flat, rows, self._weight.t()).view(residual.shape)

    def _in_int8(self, x: Tensor) -> Tensor:
        reduced = not has_int8_dot_product()
        if x.numel() <= FEW_ROWS * x.shape[-1]:
            # The rows of a step are alike, with guidance and without; scaling each costs a fifth of the product's time.
            product: Tensor = torch.ops.quantized.linear_dynamic(x, self._packed, reduced)
            return product if self._bias is None else product.add_(self._bias)
        # linear_dynamic has one scale for all rows. A row with a large channel, as trained language models have at
        # their first position, would leave the others hardly any of the 8 bits.
        scales = x.abs().amax(dim=-1, keepdim=True).clamp_min_(torch.finfo(torch.float32).tiny)
        product = torch.ops.quantized.linear_dynamic(x / scales, self._packed, reduced).mul_(scales)
        return product if self._bias is None else product.add_(self._bias)


def fused(layers: Sequence[Any], precision: str, *, weight_first: bool = False) -> Layer:
    """One layer that gives the outputs of several torch.nn.Linear with the same input, side by side; see Linear.

    In float32 the layers stay apart: on a CPU it is as fast, and their weights, which may be a file's own pages, need
    no second copy. Not on an NVIDIA GPU, where every kernel has its price.
    """
    if len(layers) > 1 and precision == "float32" and layers[0].weight.device.type != "cuda":
        apart = [fused((layer,), precision, weight_first=weight_first) for layer in layers]
        return lambda x: torch.cat([layer(x) for layer in apart], dim=-1)
    weight = layers[0].weight if len(layers) == 1 else torch.cat([layer.weight for layer in layers])
    bias = None
    if layers[0].bias is not None:
        bias = torch.cat([layer.bias for layer in layers]).detach()
    return Linear(weight.detach(), bias, precision, weight_first=weight_first)


def weight_first_is_faster() -> bool:
    """Returns True if this CPU multiplies few rows faster with the weight as the left factor.

    It is the same product; MKL has different kernels for the two, and on AMD's processors one of them reads weights
    four times as fast. Timed once in a process (0.3 s, 0.2 GB). A gain below `_MUCH_FASTER` does not count, so that
    every start comes to the same verdict.
    """
    inputs, outputs = _TIMED

    def works() -> dict[str, Callable[[], Any]]:
        random = torch.Generator().manual_seed(0)
        weights = [torch.rand(outputs, inputs, generator=random) for _ in range(microbench.copies(inputs * outputs))]
        x = torch.rand(FEW_ROWS, inputs, generator=random)
        return {
            "rows": lambda: [torch.nn.functional.linear(x, weight) for weight in weights],
            "weight_first": lambda: [torch.mm(weight, x.t()) for weight in weights],
        }

    with torch.inference_mode():
        shape = f"{FEW_ROWS} x {inputs} x {outputs}"
        return (
            microbench.fastest("few rows in float32", shape, ("rows", "weight_first"), works, _MUCH_FASTER)
            == "weight_first"
        )


def activations(precision: str) -> torch.dtype:
    """Returns the torch type of what goes into such layers and comes out."""
    return {"bfloat16": torch.bfloat16, "half": torch.float16}.get(precision, torch.float32)


def reduced(precision: str) -> bool:
    """Returns True if activations have less than single precision: then the last norm and the head are computed in
    that, since 8 bits of a logit of 20 are off by as much as decides between two tokens."""
    return bool(activations(precision) != torch.float32)


def has_int8_dot_product() -> bool:
    """Returns True if this CPU adds up products of 8-bit integers in 32 bits (VNNI). Older ones saturate at 16: there
    the inputs must do with 7 bits."""
    cpu: Any = torch.cpu
    return any(bool(test()) for name in _VNNI_TESTS if (test := getattr(cpu, name, None)) is not None)


_VNNI_TESTS = ("_is_vnni_supported", "_is_avx512_vnni_supported")


@functools.cache
def _packs_bfloat16() -> bool:
    """Returns True if weights in bfloat16 can be laid out for oneDNN's kernels once. `torch.nn.functional.linear` does
    that at every call, a fifth of its time for 50 to 200 rows; the products are the same to the last bit."""
    try:
        with torch.inference_mode():
            weight, x = torch.ones(16, 32, dtype=torch.bfloat16), torch.ones(2, 32, dtype=torch.bfloat16)
            packed = torch.ops.mkldnn._reorder_linear_weight(weight, None)
            product = torch.ops.mkldnn._linear_pointwise(x, packed, None, "none", [], "")
            return bool((product == 32).all())
    except (
        AttributeError,
        NotImplementedError,
        RuntimeError,
    ):  # a torch without oneDNN, a CPU that it does not support
        return False


def _packed(weight: Tensor) -> Any:
    """Returns the weight as PyTorch's dynamically quantized layers keep it, without a bias."""
    weight = weight.detach().float()
    scales = (weight.abs().amax(dim=1) / 127).clamp_min(1e-12)
    zeros = torch.zeros(weight.shape[0], dtype=torch.int64)
    with warnings.catch_warnings():
        # PyTorch means to drop such tensors some day; then int8 is not chosen any more, see plan.py.
        warnings.simplefilter("ignore", UserWarning)
        quantized = torch.quantize_per_channel(weight.contiguous(), scales, zeros, 0, torch.qint8)
    return torch.ops.quantized.linear_prepack(quantized, None)
