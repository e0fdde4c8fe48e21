"""Which failures to load a model may pass by themselves."""

from __future__ import annotations

import errno
from collections.abc import Iterator

_PASSING = frozenset(
    {
        errno.EAGAIN,
        errno.EBUSY,
        errno.EIO,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOBUFS,
        errno.ENODEV,
        errno.ENOMEM,
        errno.ENOSPC,
        errno.ENOTCONN,
        errno.ESTALE,
        errno.ETIMEDOUT,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETUNREACH,
    }
)
"""What the system says of memory, descriptors, disks and shares that other programs use up, or that come back."""

_OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory")
"""In RuntimeErrors of torch, whose allocators have no class of their own for it on CPUs."""


def may_pass(error: BaseException) -> bool:
    """Returns True if loading may succeed later without anybody changing a setting: memory, descriptors or a disk were
    short, or the error says so itself (`retryable`)."""
    return any(
        getattr(cause, "retryable", False)
        or isinstance(cause, MemoryError)
        or (isinstance(cause, OSError) and cause.errno in _PASSING)
        or type(cause).__name__ == "OutOfMemoryError"
        or (isinstance(cause, RuntimeError) and any(words in str(cause).casefold() for words in _OUT_OF_MEMORY))
        for cause in _causes(error)
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yields the error and what it was raised from or while handling."""
    current: BaseException | None = error
    for _ in range(20):  # a chain may be a circle
        if current is None:
            return
        yield current
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
