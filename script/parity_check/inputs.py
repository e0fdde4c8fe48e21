"""What the family's own code and ours are both given, so that what comes out can be compared without any weights.

It imports neither code.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

T3_TOKENS = 40
"""Speech tokens that are compared."""

TEXT_TOKENS = 24
SEED = 7
SPEECH_TOKENS = 6561

PROMPT_TOKENS, MEL_TOKENS = 12, 8
"""Speech tokens of the voice and of the speech that become mel frames, two each."""


def fill(module: torch.nn.Module) -> torch.nn.Module:
    """Give a module weights that hang on their names alone, and return it."""
    for name, tensor in module.state_dict().items():
        if not tensor.is_floating_point():
            continue
        values = torch.randn(tensor.shape, generator=_generator(name))
        if tensor.ndim > 1:
            values /= max(1, tensor[0].numel()) ** 0.5
        elif name.endswith(("weight", "alpha", "original0", "running_var")):
            values = (1 + 0.1 * values).abs()
        else:
            values *= 0.1
        tensor.copy_(values)
    return module


def fill_t3(t3: Any) -> Any:
    """As `fill`, and no speech ends, and no token that is no speech is likely."""
    fill(t3)
    head = t3.speech_head
    if head.bias is None:
        head.weight.data[SPEECH_TOKENS:] = 0
    else:
        head.bias.data[SPEECH_TOKENS:] = -50
    return t3


def speaker(width: int = 256) -> Tensor:
    """Returns a voice encoder's vector, shape (1, width)."""
    return torch.randn(1, width, generator=_generator("speaker"))


def text_tokens(vocabulary: int) -> Tensor:
    """Returns tokens of a text, shape (1, TEXT_TOKENS), none of which is a mark."""
    return torch.randint(300, vocabulary, (1, TEXT_TOKENS), generator=_generator("text"))


def speech_tokens(count: int, name: str) -> Tensor:
    """Returns speech tokens, shape (1, count)."""
    return torch.randint(0, SPEECH_TOKENS, (1, count), generator=_generator(name))


def prompt() -> dict[str, Tensor]:
    """Returns a voice as S3Gen takes it: tokens, mel frames, and who speaks."""
    return {
        "prompt_token": speech_tokens(PROMPT_TOKENS, "prompt"),
        "prompt_token_len": torch.tensor([PROMPT_TOKENS]),
        "prompt_feat": torch.randn(1, 2 * PROMPT_TOKENS, 80, generator=_generator("feat")),
        "embedding": torch.randn(1, 192, generator=_generator("embedding")),
    }


def noise() -> Tensor:
    """Returns the noise of all mel frames, the prompt's included, shape (1, n, 80)."""
    return torch.randn(1, 2 * (PROMPT_TOKENS + MEL_TOKENS), 80, generator=_generator("noise"))


def names_and_shapes(state: Mapping[str, Tensor]) -> str:
    """Returns a hash of the names and shapes of a state dict."""
    lines = sorted(f"{name} {tuple(tensor.shape)}" for name, tensor in state.items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _generator(name: str) -> torch.Generator:
    return torch.Generator().manual_seed(zlib.crc32(name.encode()))
