"""Whether something is used, and since when it is not."""

from __future__ import annotations

import asyncio
import time


class Usage:
    """Counts who uses something; for the event loop. `with usage:` around each use."""

    def __init__(self) -> None:
        self._users = 0
        self._unused = asyncio.Event()
        self._unused.set()
        self._since = time.monotonic()

    def __enter__(self) -> None:
        self.begin()

    def __exit__(self, *args: object) -> None:
        self.end()

    def begin(self) -> None:
        """Somebody uses it from now on."""
        self._users += 1
        self._unused.clear()

    def end(self) -> None:
        """Who began no longer uses it."""
        self._users -= 1
        if not self._users:
            self._since = time.monotonic()
            self._unused.set()

    async def idle(self, seconds: float) -> None:
        """Wait until nobody has used it for so long; nobody uses it at the moment this returns."""
        while True:
            await self._unused.wait()
            left = self._since + seconds - time.monotonic()
            # Somebody may have come between the end of the last use and this line.
            if left <= 0 and not self._users:
                return
            await asyncio.sleep(max(left, 0.0))
