"""Which torch device the model runs on."""

from __future__ import annotations

import logging

import torch

from ...errors import EngineUnavailable
from ...hardware import nvidia_gpu_present

_LOGGER = logging.getLogger(__name__)


def pick_device(wanted: str) -> str:
    """Returns the torch device for the `device` setting: auto, cpu, mps, cuda or cuda:N.

    Raises:
        EngineUnavailable: the wanted device is not available.
    """
    if wanted == "auto":
        if torch.cuda.is_available():
            return "cuda"
        if torch.backends.mps.is_available():
            return "mps"
        if nvidia_gpu_present():
            _LOGGER.warning(
                "There is an NVIDIA GPU, but torch %s cannot use it (an old driver, or a build of torch without CUDA): "
                "Chatterbox runs on the CPU, far slower than speech",
                torch.__version__,
            )
        return "cpu"
    name, _, index = wanted.partition(":")
    if name == "cuda":
        if not torch.cuda.is_available():
            raise EngineUnavailable(
                f"device {wanted}: torch {torch.__version__} finds no CUDA GPU; use --device auto or cpu, or install "
                "the NVIDIA driver and a build of torch with CUDA"
            )
        count = torch.cuda.device_count()
        if index and int(index) >= count:
            raise EngineUnavailable(f"device {wanted}: there are only {count} CUDA GPUs here, counted from cuda:0")
    elif name == "mps" and not torch.backends.mps.is_available():
        raise EngineUnavailable(f"device mps: torch {torch.__version__} finds no Metal GPU; use --device auto or cpu")
    return wanted
