"""From `--profile` and the settings beside it to what is done on this machine.

| profile | language model | flow decoder | attention | steps | prompt |
|---|---|---|---|---|---|
| exact | float32 (GPU: bfloat16) | float32 | full | 10 | 10 s |
| balanced | float16 or bfloat16 where that is faster (GPU: bfloat16) | the same | causal (GPU: full) | 10 | 10 s |
| fast | int8 where that is faster (GPU: bfloat16) | the same | causal (GPU: full) | 4 | 3 s |

Turbo and Nano, whose flow decoder was distilled to two steps, take 2 of them, with fast 1, and 3 s of prompt with
balanced too.

GPUs before NVIDIA's Ampere only emulate bfloat16: there the language model is computed in float16 ("half"), with sums
from layer to layer in float32, and the flow decoder in float32.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from ....compute_settings import ComputeSettings
from ...base import EngineError
from ..upstream_stream import describe_error
from . import microbench
from .linear import FEW_ROWS, Linear, weight_first_is_faster
from .timed_parts import FLOW_CHUNK, TOKEN_STEP, VOCODER_CHUNK, Convolutions, Layers

_LOGGER = logging.getLogger(__name__)

_STEPS = {"exact": 10, "balanced": 10, "fast": 4}
_PROMPT_SECONDS = {"exact": 10.0, "balanced": 10.0, "fast": 3.0}

_MEAN_FLOW_STEPS = {"exact": 2, "balanced": 2, "fast": 1}
_MEAN_FLOW_PROMPT_SECONDS = {"exact": 10.0, "balanced": 3.0, "fast": 3.0}
"""Where a step costs so little, the prompt is most of what a chunk costs."""

_GROWTH = {"exact": 4.0, "balanced": 3.0, "fast": 2.0}
"""On a CPU, see `Plan.chunk_growth`: every chunk has a price, and what is slower than speech has gaps anyway."""

_LOOKAHEAD_TOKENS = {"exact": 16, "balanced": 4, "fast": 2}
"""On a CPU, see `Plan.lookahead_tokens`: at most a quarter of the cost of one more chunk, which takes as long as 150
tokens with exact, 20 with balanced and 8 with fast. On a GPU tokens do not wait for chunks."""


@dataclass(frozen=True)
class PlanOptions:
    """What of a model decides how it is computed."""

    token_step: Layers = TOKEN_STEP
    """One of its language model's layers, to be timed."""

    flow_chunk: Layers = FLOW_CHUNK
    """One of its flow decoder's blocks, to be timed."""

    mean_flow: bool = False
    """See `S3GenSpec`."""

    cpu_profile: str = "exact"
    """What profile auto means on a CPU."""

    gapless_chunk: int | None = None
    """Tokens of every chunk with fast on a CPU, for a model that is twice as fast as speech there: the next chunk is
    made while the first one is heard. None: the first sound comes earlier, and a gap behind it."""


@dataclass(frozen=True)
class Plan:
    """How a model is computed."""

    token_precision: str
    """Of the language model, see linear.py."""

    token_weight_first: bool
    """How it multiplies in float32, see linear.py."""

    flow_precision: str
    flow_attention: str
    """full or causal, see flow.py."""

    flow_steps: int
    flow_prompt: float
    """Seconds of the voice's prompt."""

    incremental_vocoder: bool
    """Whether the vocoder keeps its layers' state (incremental_vocoder.py), a third less work than windows with context
    (vocoder.py). Not where frames that were decoded may be replaced, nor on a GPU."""

    vocoder_precision: str
    """Of the incremental vocoder's convolutions: float32 or bfloat16."""

    chunk_size: int
    """Tokens of the first chunk, where a request does not say."""

    chunk_growth: float
    """How much longer each chunk is than the one before, where a request does not say."""

    single_chunk_if_short: bool
    """Whether a text that is hardly longer than the first chunk is made in one: where every chunk costs about the same,
    two of them would take twice as long."""

    lookahead_tokens: int
    """Tokens that are made before a chunk is decoded, but for the first one: where the speech ends among them they are
    decoded with it, and a chunk is saved that costs as much as many tokens."""

    low_memory: bool
    """Whether memory comes before the last percent of speed: what a stage freed goes back to the system before the next
    one begins, and the vocoder has its frames in windows. For chunks that take many seconds."""

    parallel: bool
    """Whether tokens are made in a thread of their own while others are decoded."""

    graphs: bool
    """Whether steps of the language model and of the flow decoder are CUDA graphs."""

    @property
    def upstream_weights_intact(self) -> bool:
        """Whether upstream's own modules can still be used: nothing of them was converted."""
        return self.token_precision == self.flow_precision == "float32"

    def __str__(self) -> str:
        by_columns = " weight first" if self.token_weight_first else ""
        beside = ", in two threads" if self.parallel else ""
        vocoder = "" if self.vocoder_precision == "float32" else f"; vocoder {self.vocoder_precision}"
        token_precision = "float16" if self.token_precision == "half" else self.token_precision
        return (
            f"language model {token_precision}{by_columns}; "
            f"flow decoder {self.flow_precision}, {self.flow_attention} attention, {self.flow_steps} steps, "
            f"{self.flow_prompt:g} s of prompt{vocoder}{beside}"
        )


def choose_plan(settings: ComputeSettings, device: torch.device, options: PlanOptions | None = None) -> Plan:
    """Returns what the settings mean on a device; on a CPU it may time parts of the model, once (5 s, 0.5 GB).

    Args:
        options: of the model; None: the original one's.

    Raises:
        EngineError: the settings ask for what this device cannot do.
    """
    options = options or PlanOptions()
    settings = with_profile(settings, device, options)
    cpu, on_cuda, profile = device.type == "cpu", device.type == "cuda", settings.profile
    if settings.quantize == "int8" and not cpu:
        raise EngineError(f"--quantize int8 is for CPUs, not for {device}; leave it away, or use --dtype bfloat16")
    if settings.quantize == "int8" and settings.dtype not in ("auto", "float32"):
        raise EngineError(f"--quantize int8 and --dtype {settings.dtype} exclude each other; leave one of them away")
    if settings.dtype == "float16" and not cpu and not on_cuda:
        raise EngineError(f"--dtype float16 is for CPUs and NVIDIA GPUs, not for {device}; leave it away")
    has_bfloat16 = on_cuda and computes_in_bfloat16(device)
    if on_cuda and settings.dtype == "bfloat16" and not has_bfloat16:
        _LOGGER.warning("This GPU only emulates bfloat16, slowly: leave --dtype away, or use --dtype float16")
    attention = settings.flow_attention
    if attention == "auto":
        attention = "causal" if cpu and profile != "exact" else "full"
    chunks_are_expensive = cpu and attention == "full"
    if on_cuda and (settings.dtype == "float16" or (settings.dtype == "auto" and not has_bfloat16)):
        token_precision, flow_precision = "half", "float32"
    else:
        token_precision = _precision(settings, cpu, options.token_step, gpu="bfloat16" if on_cuda else "float32")
        flow_gpu = "bfloat16" if on_cuda and profile != "exact" else "float32"
        flow_precision = _precision(settings, cpu, options.flow_chunk, gpu=flow_gpu)
    gapless = options.gapless_chunk if cpu and profile == "fast" and not chunks_are_expensive else None
    return Plan(
        token_precision=token_precision,
        token_weight_first=cpu
        and token_precision == "float32"
        and options.token_step.rows == FEW_ROWS
        and weight_first_is_faster(),
        flow_precision=flow_precision,
        flow_attention=attention,
        flow_steps=settings.flow_steps or (_MEAN_FLOW_STEPS if options.mean_flow else _STEPS)[profile],
        flow_prompt=settings.flow_prompt
        or (_MEAN_FLOW_PROMPT_SECONDS if options.mean_flow else _PROMPT_SECONDS)[profile],
        incremental_vocoder=cpu and attention == "causal",
        vocoder_precision=_vocoder_precision(settings, cpu and attention == "causal"),
        # 12 tokens are the least that can be heard; where playback keeps up, 16 give it a lead of 0.2 s.
        chunk_size=gapless or (12 if cpu and profile != "fast" else 16),
        chunk_growth=_chunk_growth(profile, cpu, chunks_are_expensive) if gapless is None else 1.0,
        single_chunk_if_short=chunks_are_expensive,
        lookahead_tokens=(_LOOKAHEAD_TOKENS["exact"] if chunks_are_expensive else _LOOKAHEAD_TOKENS[profile])
        if cpu
        else 0,
        low_memory=chunks_are_expensive,
        parallel=on_cuda,
        graphs=on_cuda and settings.cuda_graphs,
    )


def _chunk_growth(profile: str, cpu: bool, chunks_are_expensive: bool) -> float:
    if not cpu:
        return 1.5
    return 4.0 if chunks_are_expensive else _GROWTH[profile]


def with_profile(settings: ComputeSettings, device: torch.device, options: PlanOptions) -> ComputeSettings:
    """Returns settings that name their profile: what auto means for a model on a device."""
    if settings.profile != "auto":
        return settings
    return dataclasses.replace(settings, profile=options.cpu_profile if device.type == "cpu" else "exact")


def computes_in_bfloat16(device: torch.device) -> bool:
    """Returns True for an NVIDIA GPU of compute capability 8.0 (A100, RTX 30xx) or later. Older ones convert every
    operand to float32 and back."""
    return bool(torch.cuda.get_device_capability(device) >= (8, 0))


def _precision(settings: ComputeSettings, cpu: bool, part: Layers | Convolutions, *, gpu: str) -> str:
    asked = "int8" if settings.quantize == "int8" else settings.dtype
    if asked != "auto":
        try:
            Linear(torch.ones(8, 8), None, asked)
        except Exception as error:  # an instruction or a library that this machine lacks
            raise EngineError(
                f"{asked} does not work here ({describe_error(error)}); leave --dtype and --quantize away"
            ) from error
        return asked
    if not cpu:
        return gpu
    if settings.profile == "fast" and settings.quantize == "auto":
        return fastest(("float32", "float16", "bfloat16", "int8"), part)
    if settings.profile != "exact":
        return fastest(("float32", "float16", "bfloat16"), part)
    return "float32"


def _vocoder_precision(settings: ComputeSettings, incremental: bool) -> str:
    """Returns the precision of the vocoder's convolutions: bfloat16 only with fast, where this CPU gains from it."""
    if not incremental or settings.profile != "fast" or settings.dtype != "auto":
        return "float32"
    return fastest(("float32", "bfloat16"), VOCODER_CHUNK)


def fastest(precisions: tuple[str, ...], part: Layers | Convolutions) -> str:
    """Returns the precision in which this CPU computes a part fastest; an earlier one where a later one gains little.

    Args:
        precisions: from fine to coarse, see linear.py.
    """

    def works() -> dict[str, Callable[[], Any]]:
        works_found: dict[str, Callable[[], Any]] = {}
        for precision in precisions:
            try:
                work = part.work(precision)
                work()
                works_found[precision] = work
            except Exception as error:  # an engine or an instruction that this machine lacks
                _LOGGER.debug("No %s here: %s", precision, error)
        return works_found

    return microbench.fastest(part.name, part.shapes, precisions, works)
