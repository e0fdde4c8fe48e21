"""Limits how often the log says that the process has no file descriptors left for new clients."""

from __future__ import annotations

import asyncio
import errno
import logging
import time
from typing import Any

_LOGGER = logging.getLogger(__name__)

REPEAT_SECONDS = 60.0
"""Minimum time between two such log lines. asyncio reports up to 128 failed accepts a second for every listener, each
with a traceback: 50 MB in 15 s."""

_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


def report_exhaustion_briefly(loop: asyncio.AbstractEventLoop) -> None:
    """Makes the event loop log at most one line a minute about accepts that fail for lack of descriptors or memory.

    asyncio itself pauses the listener for a second and retries, so clients are served as soon as descriptors are
    available; until then they wait in the listener's backlog.
    """
    before = loop.get_exception_handler()
    reported: float | None = None

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        nonlocal reported
        error = context.get("exception")
        if isinstance(error, OSError) and error.errno in _EXHAUSTED and "accept" in context.get("message", ""):
            now = time.monotonic()
            if reported is None or now - reported >= REPEAT_SECONDS:
                reported = now
                _LOGGER.error(
                    "New clients wait: %s. Raise the limit (ulimit -n, LimitNOFILE=) or lower --max-connections",
                    error.strerror,
                )
        elif before is not None:
            before(loop, context)
        else:
            loop.default_exception_handler(context)

    loop.set_exception_handler(handle)
