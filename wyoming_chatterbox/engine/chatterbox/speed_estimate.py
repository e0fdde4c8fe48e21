"""Estimates how fast a model would speak on this CPU, from a few of its layers with random weights.

    python -m wyoming_chatterbox.engine.chatterbox.speed_estimate JOB

prints `{"rtf": 0.5}` as its last line for the job `{"model": "nano", "compute": {}, "data": null}`. It takes a few
seconds, and half a GB for as long. A process of its own, so that a server that will not load torch does not either.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

import torch

from ...compute_settings import ComputeSettings
from .compute import microbench
from .compute.plan import choose_plan
from .compute.threads import use_threads
from .compute.timed_parts import VOCODER_CHUNK, Convolutions, Layers
from .compute.verdicts import VERDICTS
from .specs import SPECS, plan_options
from .t3.spec import GPT2_SIZES

_TOKENS_PER_SECOND = 25
_FLOW_BLOCKS = 56
"""Of the flow decoder's estimator: 4 in each of 14 stages."""

_CHUNKS_PER_SECOND = 50 / 32
"""The parts that are timed have 32 frames."""

_WHOLE = 2.1
"""What a second of speech costs over what the timed parts cost: encoder, small operators, chunk edges. Measured with
Nano and `fast`: RTF 0.52 where the parts make 0.25 (docs/performance.md)."""

_ROUNDS = 5


def estimate_rtf(model: str, compute: ComputeSettings) -> float:
    """Returns seconds of processing per second of speech, about.

    Args:
        model: a GPT-2 model of the family, turbo or nano, in a profile that attends causally.
    """
    use_threads(compute.threads)
    spec = SPECS[model]
    options = plan_options(spec)
    plan = choose_plan(compute, torch.device("cpu"), options)
    layers = GPT2_SIZES[spec.t3.llama_config_name]["n_layer"]
    token = layers * _seconds(options.token_step, plan.token_precision)
    chunk = plan.flow_steps * _FLOW_BLOCKS * _seconds(options.flow_chunk, plan.flow_precision)
    chunk += _seconds(VOCODER_CHUNK, plan.vocoder_precision)
    return _WHOLE * (_TOKENS_PER_SECOND * token + _CHUNKS_PER_SECOND * chunk)


def _seconds(part: Layers | Convolutions, precision: str) -> float:
    """Returns what a part takes once, at best."""
    work = part.work(precision)
    work()  # the first time kernels are chosen
    return min(microbench.duration(work) for _ in range(_ROUNDS)) / part.copies


def main() -> None:
    job = json.loads(sys.argv[1])
    logging.basicConfig(level=logging.INFO, format="%(message)s")  # to standard error
    VERDICTS.keep_in(Path(job["data"]) / "timed-tests.json" if job["data"] else None)
    print(json.dumps({"rtf": round(estimate_rtf(job["model"], ComputeSettings(**job["compute"])), 3)}))


if __name__ == "__main__":
    main()
