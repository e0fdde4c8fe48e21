"""One request of a Wyoming client, from the event that makes it to the event that ends its answer."""

from __future__ import annotations

import asyncio

from ..speech.request import SpeechRequest
from ..speech.turns import Turn


class PendingRequest(Turn):
    """A request on a connection, until it is answered."""

    def __init__(self, request: SpeechRequest) -> None:
        super().__init__(request)
        self.text_ended = asyncio.Event()
        """The client sent all of its text: set at once for `synthesize`, by `synthesize-stop` for a stream."""

        self.failed = False
        """The client was told of an error."""

        self.unended_since: float | None = None
        """time.monotonic() since which it is answered, but its text goes on."""

        if not request.streamed:
            self.text_ended.set()

    @property
    def has_failed(self) -> bool:
        """True once the client was, or will be, told of an error instead of the rest of the audio."""
        return self.failed or self.error is not None

    def end_text(self) -> None:
        """The client sent all of its text."""
        self.request.text.close()
        self.text_ended.set()
