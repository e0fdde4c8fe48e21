"""Parts of the model in their real shapes, with random weights, to be timed in each precision.

Each has its products, its attention and its convolutions, since what one gains another may lose.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from . import microbench
from .attention import attend
from .linear import FEW_ROWS, Linear, activations, weight_first_is_faster


@dataclass(frozen=True)
class Layers:
    """Linear layers and attention of one block of a transformer."""

    name: str
    rows: int
    """Rows of every product: positions, with guidance and without."""

    products: tuple[tuple[int, int], ...]
    """(inputs, outputs) of each; a convolution of the flow decoder is one of three frames side by side."""

    heads: int
    keys: int
    """Positions attended to; a head has 64 channels."""

    guided: bool = True
    """Half of the rows are with guidance, half without; False: they are one sequence's."""

    @property
    def shapes(self) -> str:
        shapes = ", ".join(f"{self.rows} x {inputs} x {outputs}" for inputs, outputs in self.products)
        return f"{shapes}; {self.heads} heads, {self.keys} positions"

    @property
    def copies(self) -> int:
        """How many times `work` computes the block: so many of them are in no cache when their turn comes again."""
        weights = sum(inputs * outputs for inputs, outputs in self.products)
        return microbench.copies(weights + self._memory)

    @property
    def _memory(self) -> int:
        """Numbers in keys and values."""
        return 2 * (2 if self.guided else 1) * self.heads * self.keys * 64

    def work(self, precision: str) -> Callable[[], Any]:
        """Returns what computes the block once for each of several copies. Raises what a missing instruction raises."""
        random = torch.Generator().manual_seed(0)
        dtype = activations(precision)
        rows = 2 if self.guided else 1
        weight_first = precision == "float32" and self.rows == FEW_ROWS and weight_first_is_faster()
        with torch.inference_mode():
            blocks = []
            randoms = [torch.rand(outputs, inputs, generator=random) for inputs, outputs in self.products]
            past = torch.rand(2, rows, self.heads, self.keys, 64, generator=random).to(dtype)
            for _ in range(self.copies):
                layers = [
                    Linear(
                        weight.clone(), None, precision, weight_first=weight_first
                    )  # a layer may use a weight as it is
                    for weight in randoms
                ]
                blocks.append((layers, past.clone()))
            inputs = {inputs: torch.rand(self.rows, inputs, generator=random).to(dtype) for inputs, _ in self.products}
            query = torch.rand(rows, self.heads, self.rows // rows, 64, generator=random).to(dtype)

        def compute() -> None:
            with torch.inference_mode():
                for layers, (key, value) in blocks:
                    attend(query, key, value)
                    for (width, _), layer in zip(self.products, layers, strict=True):
                        layer(inputs[width])

        return compute


@dataclass(frozen=True)
class Convolutions:
    """One-dimensional convolutions, as incremental_hift.py computes them."""

    name: str
    convolutions: tuple[tuple[int, int, int], ...]
    """(channels in and out, kernel, outputs) of each."""

    copies = 1

    @property
    def shapes(self) -> str:
        return ", ".join(f"{width} channels, {kernel} x {outputs}" for width, kernel, outputs in self.convolutions)

    def work(self, precision: str) -> Callable[[], Any]:
        """Returns what computes each convolution once."""
        random = torch.Generator().manual_seed(0)
        dtype = getattr(torch, precision)
        with torch.inference_mode():
            layers = [
                (
                    torch.rand(channels, channels, kernel, generator=random).to(dtype),
                    torch.rand(1, channels, outputs + kernel - 1, generator=random),
                )
                for channels, kernel, outputs in self.convolutions
            ]

        def compute() -> None:
            with torch.inference_mode():
                for weight, x in layers:
                    torch.nn.functional.conv1d(x.to(dtype), weight).to(x.dtype)

        return compute


TOKEN_STEP = Layers(
    "a language model's layer", FEW_ROWS, ((1024, 3072), (1024, 1024), (1024, 8192), (4096, 1024)), heads=16, keys=300
)
"""One token of T3, with guidance: bound by memory. 300 positions are the voice, a sentence and 4 s of its speech."""

FLOW_CHUNK = Layers(
    "a flow decoder's block",
    64,
    ((256, 1536), (512, 256), (256, 1024), (1024, 256), (768, 256)),
    heads=8,
    keys=560,
)
"""32 frames, with guidance and without, after 10 s of prompt and one earlier chunk: bound by arithmetic."""

MEAN_FLOW_CHUNK = dataclasses.replace(FLOW_CHUNK, name="a mean flow decoder's block", rows=32, guided=False)
"""The same without guidance."""

VOCODER_CHUNK = Convolutions(
    "a vocoder's stages",
    tuple(
        (channels, kernel, 32 * rate) for channels, rate in ((256, 8), (128, 40), (64, 120)) for kernel in (3, 7, 11)
    ),
)
"""32 frames in each of HiFT's three stages, which have 8, 40 and 120 steps for a frame."""
