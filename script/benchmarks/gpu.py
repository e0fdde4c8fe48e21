"""What a GPU gives: precisions, CUDA graphs on and off, and several utterances at once.

**RTF** here is what each listener finds: seconds from the request to the utterance's end by its length (the median of
all). Several utterances, one sentence each, take turns on the engine's thread, as in the server: one after the
other. All are asked for at the same moment.
**tokens/s** are T3's alone, for one utterance.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wyoming_chatterbox.engine.registry import ORIGINAL

from .checkpoint import Checkpoint
from .comparison import EXACT, UTTERANCES, per_second, run
from .job import Job
from .progress import Progress

AT_ONCE = (1, 4, 16, 64)
QUICK_AT_ONCE = (1, 4, 16)


def variants(profiles: Sequence[str]) -> list[dict[str, Any]]:
    """Returns the compute settings that are measured: every profile, the exact one in both precisions, graphs on and
    off."""
    found: list[dict[str, Any]] = []
    for profile in profiles:
        if profile == EXACT:
            found += [{"profile": profile, "dtype": dtype} for dtype in ("bfloat16", "float32")]
        else:
            found.append({"profile": profile})
        found.append({"profile": profile, "cuda_graphs": False})
    return found


def measure(
    checkpoint: Checkpoint,
    device: str,
    profiles: Sequence[str],
    progress: Progress,
    *,
    quick: bool,
    model: str = ORIGINAL.name,
) -> tuple[list[dict[str, Any]], list[str]]:
    """Returns a row for every variant and number of utterances, and what went wrong.

    Raises:
        ValueError: the device is no GPU of NVIDIA.
    """
    if not device.startswith("cuda"):
        raise ValueError(f"{device} is no GPU of NVIDIA")
    return in_turns(checkpoint, device, variants(profiles), QUICK_AT_ONCE if quick else AT_ONCE, progress, model=model)


def in_turns(
    checkpoint: Checkpoint,
    device: str,
    settings: Sequence[dict[str, Any]],
    at_once: Sequence[int],
    progress: Progress,
    *,
    timeout: float | None = None,
    model: str = ORIGINAL.name,
) -> tuple[list[dict[str, Any]], list[str]]:
    """As `measure`, on any device; a variant that takes longer than `timeout` seconds counts as gone wrong."""
    rows: list[dict[str, Any]] = []
    errors = []
    utterance = UTTERANCES[5]
    if checkpoint.ends_where_told:
        # Which tokens makes no difference to what they cost.
        utterance = dataclasses.replace(utterance, given=[97 * index % 6561 for index in range(utterance.tokens)])
    for compute in settings:
        name = " ".join(f"{key}={value}" if value is False else value for key, value in compute.items())
        job = Job(
            model_dir=str(checkpoint.path),
            device=device,
            decoder="seamless",
            name=name,
            compute=compute,
            tiny=checkpoint.tiny,
            model=model,
            ends_where_told=checkpoint.ends_where_told,
            began=progress.began,
            in_turns=utterance,
            at_once=list(at_once),
        )
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            result = run(job, Path(folder), timeout=timeout)
        if "error" in result:
            errors.append(f"{name}: {result['error']}")
            progress.say(f"{name} failed: {result['error']}")
            continue
        for row in result["in_turns"]:
            tokens_per_s, vram = per_second(row.pop("spans")), row.pop("peak_vram")
            rows.append(
                {
                    "variant": name,
                    **row,
                    "tokens_per_s": tokens_per_s,
                    "peak_vram_mb": None if vram is None else vram / 1e6,
                }
            )
    return rows, errors
