"""The streaming request of a connection: synthesize-start, its chunks, the whole text once more, synthesize-stop.

Home Assistant sends the whole text again as `synthesize` inside the stream, for servers that know no streaming.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from wyoming.event import Event

from ..speech.errors import InvalidEvent
from .events import SynthesizeChunk
from .requests import PendingRequest

GIVEN_UP_SECONDS = 2.0
"""A `synthesize` inside a stream that failed is the stream's whole text once more, and its synthesize-stop follows
within milliseconds, or it is a new request of a client that gave the stream up. After so long it is the latter."""


class StreamingText:
    """Tells a connection's streaming request from its other ones, and feeds it its text."""

    def __init__(self, add: Callable[[PendingRequest], None]) -> None:
        """`add`: lets a request be answered in its turn."""
        self._add = add
        self._current: PendingRequest | None = None  # the request whose text is arriving
        self._postponed: PendingRequest | None = None  # a `synthesize` that came inside a stream that failed
        self._timer: asyncio.TimerHandle | None = None

    def on_start(self, new_request: Callable[[], PendingRequest]) -> None:
        """Handle synthesize-start. `new_request` is called if the event is a request."""
        self._answer_postponed()
        if self._current is not None and not self._current.has_failed:
            # Two texts in one answer would be worse than none; its synthesize-stop is still to come.
            self._current.request.text.fail(
                InvalidEvent("synthesize-start came before the synthesize-stop of the stream before it")
            )
            return
        self._end_text()  # the client gave up the stream that failed
        self._current = new_request()
        self._add(self._current)

    def on_chunk(self, event: Event) -> None:
        """Handle synthesize-chunk. Raises InvalidEvent where there is no stream."""
        if self._current is None:
            raise InvalidEvent("synthesize-chunk came without a synthesize-start")
        text = self._current.request.text
        try:
            text.feed(SynthesizeChunk.from_event(event).text)
        except InvalidEvent as error:
            text.fail(error)

    def on_synthesize(self, new_request: Callable[[], PendingRequest]) -> None:
        """Handle synthesize. `new_request` is called if the event is, or may be, a request."""
        self._answer_postponed()
        if self._current is None:
            self._add(new_request())
        elif self._current.has_failed:
            self._postponed = new_request()
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(GIVEN_UP_SECONDS, self._answer_postponed)

    def on_stop(self) -> None:
        """Handle synthesize-stop. Raises InvalidEvent where there is no stream."""
        if self._current is None:
            raise InvalidEvent("synthesize-stop came without a synthesize-start")
        self.discard_postponed()
        self._end_text()

    def on_end_of_input(self) -> None:
        """Take what the client sent for complete."""
        self._answer_postponed()
        self._end_text()

    def discard_postponed(self) -> None:
        """Forget the request that may be one, see GIVEN_UP_SECONDS: it is the text of the stream."""
        self._postponed = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _answer_postponed(self) -> None:
        """Answer the request that was postponed, if there is one: the stream before it was given up."""
        request = self._postponed
        self.discard_postponed()
        if request is not None:
            self._end_text()
            self._add(request)

    def _end_text(self) -> None:
        if self._current is not None:
            self._current.end_text()
            self._current = None
