"""Name of everything that decides how an engine of the original model sounds.

The speech cache goes by it, together with the text, the voice and the request's settings: speech that was cached under
one fingerprint may be played wherever an engine has the same one.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import platform
from pathlib import Path

import torch

from ... import __version__
from .compute.plan import Plan
from .t3.sampling import CURRENT, STREAMING, Sampling

_PACKAGES = (
    "chatterbox-streaming",
    "conformer",
    "diffusers",
    "librosa",
    "numpy",
    "pyloudnorm",
    "resemble-perth",
    "s3tokenizer",
    "torch",
    "torchaudio",
    "transformers",
)
"""Distributions whose code computes speech, conditionals or the watermark."""

_PACKAGE_FOLDER = Path(__file__).parents[2]


def fingerprint(
    weights: str,
    device: str,
    seed: int,
    plan: Plan,
    threads: int,
    sampling: tuple[Sampling, ...] = (CURRENT, STREAMING),
) -> str:
    """Returns 64 hexadecimal digits, the same in every process with the same arguments, packages and processor.

    Args:
        weights: identity of the weights, see `ModelFiles.fingerprint`.
        device: cpu, mps, cuda or cuda:N.
        seed: of the noise that upstream's decoder has.
        plan: how the model is computed. All of its fields count, so that none can be forgotten.
        threads: of a CPU: sums are rounded in another order with another number.
        sampling: ways to draw tokens that a request names; what it sets itself belongs to the request.
    """
    inputs = {
        "weights": weights,
        "seed": seed,
        "plan": dataclasses.asdict(plan),
        "hardware": [device, *_hardware(device, threads)],
        "sampling": [dataclasses.asdict(way) for way in sampling],
        "versions": versions(),
    }
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def versions() -> dict[str, str]:
    """Returns the version of each distribution that computes speech, and of our decoder; "" for a missing one."""
    versions_found = {"wyoming-chatterbox": __version__, "decoder": _source_digest()}
    for name in _PACKAGES:
        try:
            versions_found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions_found[name] = ""
    return versions_found


def _hardware(device: str, threads: int) -> list[str]:
    """Returns what chooses the kernels, which differ in their last bits."""
    if device.startswith("cuda"):
        return [torch.cuda.get_device_name(device)]
    if device == "cpu":
        return [platform.machine(), torch.backends.cpu.get_cpu_capability(), str(threads)]
    return [platform.machine()]


@functools.cache
def _source_digest() -> str:
    """Returns a hash of our decoder's source code: a version that is raised by hand would be forgotten."""
    digest = hashlib.sha256()
    for path in (*sorted((_PACKAGE_FOLDER / "engine").rglob("*.py")), _PACKAGE_FOLDER / "audio.py"):
        digest.update(f"{path.relative_to(_PACKAGE_FOLDER)}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()
