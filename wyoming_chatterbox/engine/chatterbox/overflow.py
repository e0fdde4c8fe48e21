"""Whether float16 is wide enough for a model's sums."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

import torch

from ..base import CancelToken
from ..errors import FloatOverflow
from .compute.plan import Plan
from .specs import ORIGINAL, ChatterboxSpec
from .t3.tokens import TokenGenerator
from .text import text_tokens

_LOGGER = logging.getLogger(__name__)

_OVERFLOW_TEXT, _OVERFLOW_TOKENS = "Good morning, the kettle is on.", 25
"""What is spoken to see whether float16 will do; large sums appear at the first positions already."""


def without_overflow(plan: Plan, model: Any, spec: ChatterboxSpec = ORIGINAL) -> Plan:
    """Returns the plan, or where float16 is too narrow for a language model's sums, one in float32. A few tokens of the
    built-in voice tell; without one, an utterance that overflows ends in an error.

    Args:
        model: upstream's ChatterboxTTS, with all its weights.
        spec: which model it is.
    """
    if plan.token_precision != "half" or model.conds is None:
        return plan
    generator = TokenGenerator(model.t3, "half", graphs=False)
    text = text_tokens(model.tokenizer, _OVERFLOW_TEXT, spec, "en")
    options: dict[str, Any] = {
        "cfg_weight": 0.5 if spec.t3.guided else 0.0,
        "temperature": 0.8,
        "seed": 0,
        "limit": _OVERFLOW_TOKENS,
    }
    try:
        with torch.inference_mode():
            for _ in generator.tokens(model.conds.t3, text, cancel=CancelToken(), **options):
                pass
    except FloatOverflow:
        _LOGGER.warning(
            "These weights need larger numbers than float16 has: the language model is computed in float32, slower"
        )
        return dataclasses.replace(plan, token_precision="float32")
    return plan
