"""Which errors of a GPU end all work on it: after them every call fails until the process starts anew.

CUDA calls such an error sticky: it has corrupted the process's context. Memory that runs out is not one of them.
"""

from __future__ import annotations

from .base import EngineBroken

_STICKY = (
    "device-side assert triggered",
    "illegal memory access",
    "illegal instruction",
    "illegal address",
    "misaligned address",
    "invalid program counter",
    "operation not supported on global/shared address space",
    "hardware stack error",
    "launch failure",
    "launch timed out",
    "uncorrectable ecc error",
    "uncorrectable nvlink error",
    "gpu is lost",
    "cudaerrorassert",
    "cudaerrorillegal",
    "cudaerrormisaligned",
    "cudaerrorlaunchfailure",
    "cudaerrorlaunchtimeout",
    "cudaerrorhardwarestack",
    "cudaerroreccuncorrectable",
    "cuda error: unknown error",
)
"""What cudaGetErrorString says of the errors after which CUDA asks for a new process, and their names. "unknown error"
is what a driver says that lost its GPU, as after a suspended machine woke up."""

_ABOUT_CUDA = ("cuda", "cublas", "cudnn", "nvrtc")
"""One of these must be in the message, too: libraries for CPUs have words of their own for failing."""


def is_sticky(error: BaseException) -> bool:
    """Returns True if an error, or one that caused it, ended all work of this process on its GPU."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        text = str(link).lower()
        if isinstance(link, EngineBroken):
            return True
        if any(word in text for word in _ABOUT_CUDA) and any(words in text for words in _STICKY):
            return True
        link = link.__cause__ or link.__context__
    return False


def raise_if_sticky(error: BaseException) -> None:
    """Raise EngineBroken in the place of an error after which nothing works on the GPU any more."""
    if is_sticky(error):
        lines = str(error).strip().splitlines()
        raise EngineBroken(
            f"the GPU failed, nothing can be computed on it until the process starts anew "
            f"({lines[0] if lines else type(error).__name__})"
        ) from error
