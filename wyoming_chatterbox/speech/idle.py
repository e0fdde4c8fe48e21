"""How long something has not been used."""

from __future__ import annotations

import asyncio
import time


class IdleTracker:
    """Counts the users of something; for the event loop. `with tracker:` around each use."""

    def __init__(self) -> None:
        self._users = 0
        self._unused = asyncio.Event()
        self._unused.set()
        self._since = time.monotonic()

    def __enter__(self) -> None:
        self.begin()

    def __exit__(self, *args: object) -> None:
        self.end()

    @property
    def in_use(self) -> bool:
        return bool(self._users)

    def begin(self) -> None:
        """Add a user."""
        self._users += 1
        self._unused.clear()

    def end(self) -> None:
        """Remove a user."""
        self._users -= 1
        if not self._users:
            self._since = time.monotonic()
            self._unused.set()

    async def idle(self, seconds: float) -> None:
        """Wait until there has been no user for so long; there is none at the moment this returns."""
        while True:
            await self._unused.wait()
            remaining = self._since + seconds - time.monotonic()
            # A user may have come between the end of the last use and this line.
            if remaining <= 0 and not self._users:
                return
            await asyncio.sleep(max(remaining, 0.0))
