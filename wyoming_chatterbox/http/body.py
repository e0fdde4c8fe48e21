"""A request's body on its way in, bounded in size and time."""

from __future__ import annotations

import asyncio

from starlette.datastructures import Headers
from starlette.types import Message, Receive

from ..timeouts import Timer
from .errors import BodyTimeout, BodyTooLarge


class Body:
    """Stands between an application and the `receive` of its server."""

    def __init__(self, receive: Receive, limit: int, timeout: float) -> None:
        """
        Args:
            limit: bytes.
            timeout: seconds, of those in which the event loop runs, in which all of it must be here.
        """
        self._receive = receive
        self._timeout = timeout
        self._timer: Timer | None = None
        self._late = asyncio.Event()
        self._size = 0
        self._complete = False
        self.limit = limit

    def check_length(self, headers: Headers) -> None:
        """Refuse at once what says that it is too long. Raises BodyTooLarge."""
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length[:20]) > self.limit:
            raise self._too_large()

    async def receive(self) -> Message:
        """Returns the next piece.

        Raises:
            BodyTooLarge: it is longer than `limit`.
            BodyTimeout: it was not complete in time.
        """
        if self._complete:
            return await self._receive()  # waits for the client's leaving
        message = await self._next()
        if message["type"] == "http.request":
            self._size += len(message.get("body", b""))
            self._complete = not message.get("more_body", False)
            if self._complete:
                self.close()
            if self._size > self.limit:
                raise self._too_large()
        return message

    def close(self) -> None:
        """Stop the clock."""
        if self._timer is not None:
            self._timer.cancel()

    async def _next(self) -> Message:
        if self._timer is None:
            self._timer = Timer(self._timeout, self._late.set)
        tasks = asyncio.ensure_future(self._receive()), asyncio.ensure_future(self._late.wait())
        receiving = tasks[0]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if not receiving.done():
                raise BodyTimeout("The body was not complete in time")
            return receiving.result()
        finally:
            for task in tasks:
                task.cancel()

    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(f"The body is longer than {self.limit} bytes")
