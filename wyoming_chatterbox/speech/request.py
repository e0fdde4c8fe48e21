"""One request to speak, as every edge hands it to the service."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..errors import WyomingChatterboxError
from ..timeouts import wait_for
from .errors import SpeechError, TextTimeout, TextTooLong

_ids = itertools.count(1)


class TextPaused(WyomingChatterboxError):
    """No text came for a while; it goes on."""


class TextStream:
    """The text of one request while it arrives: an edge feeds it, the service reads it.

    What waits in it is bounded by `max_chars`; an empty piece counts as one character, so that the number
    of pieces is bounded too.
    """

    def __init__(self, max_chars: int, timeout: float) -> None:
        """`timeout`: seconds that the text may pause before `read` raises TextTimeout."""
        self._pieces: asyncio.Queue[str | SpeechError | None] = asyncio.Queue()
        self._max_chars = max_chars
        self._timeout = timeout
        self._chars = 0
        self._over = False
        self.waiting_chars = 0
        """Characters that were fed and not read yet."""

        self.starved_since: float | None = None
        """time.monotonic() since which somebody waits to read; None: nobody does."""

    @classmethod
    def of(cls, text: str, max_chars: int) -> TextStream:
        """Returns a text that is complete already."""
        stream = cls(max_chars, timeout=0)
        stream.feed(text)
        stream.close()
        return stream

    def feed(self, piece: str) -> None:
        """Add a piece. A text that grows too long ends with TextTooLong where it is read."""
        if self._over:
            return
        self._chars += max(1, len(piece))
        if self._chars > self._max_chars:
            self.fail(
                TextTooLong(
                    f"The text is longer than {self._max_chars} characters; send less at once, "
                    "or raise --max-text-chars"
                )
            )
            return
        self._pieces.put_nowait(piece)
        self.waiting_chars += len(piece)

    def close(self) -> None:
        """The text is complete."""
        if not self._over:
            self._over = True
            self._pieces.put_nowait(None)

    def fail(self, error: SpeechError) -> None:
        """The text will not be completed: whoever reads it gets the error, at once."""
        if not self._over:
            self.drop()
            self._pieces.put_nowait(error)

    def drop(self) -> None:
        """Nobody will read it: keep none of it, take no more."""
        self._over = True
        self.waiting_chars = 0
        while not self._pieces.empty():
            self._pieces.get_nowait()

    @property
    def is_starved(self) -> bool:
        """Whether who reads now has to wait for the client."""
        return self._pieces.empty()

    async def read(self, patience: float | None = None) -> str | None:
        """Returns the next piece, or None at the end.

        Args:
            patience: seconds after which TextPaused is raised; None waits for as long as the text may pause.

        Raises:
            TextPaused: nothing came yet; read again.
            TextTimeout: the text paused for longer than it may.
            SpeechError: it failed.
        """
        if self._pieces.empty():
            soon = patience is not None and patience < self._timeout
            if self.starved_since is None:
                self.starved_since = time.monotonic()
            try:
                piece = await wait_for(patience if soon else self._timeout, self._pieces.get())
            except asyncio.TimeoutError:
                if soon:
                    raise TextPaused from None
                raise TextTimeout(
                    f"No text came for {self._timeout:g} s; end the text, or raise --text-timeout"
                ) from None
        else:
            piece = self._pieces.get_nowait()
        self.starved_since = None
        if isinstance(piece, SpeechError):
            raise piece
        self.waiting_chars -= len(piece or "")
        return piece


@dataclass
class SpeechRequest:
    """A text to speak, in which voice and how. It belongs to one client and is used once."""

    text: TextStream
    voice: str | None = None
    """Name of a voice, or None for the default one (or that of `language`)."""

    model: str | None = None
    """Name of the model that has to speak; a name that no model here has means any of them."""

    language: str | None = None
    """Ignored when `voice` is set, unless that voice speaks several."""

    speaker: str | None = None
    settings: Mapping[str, object] = field(default_factory=dict)
    """Settings of this utterance alone, by the name of their knob; not validated yet."""

    ssml: bool = False
    streamed: bool = False
    """The text arrives in pieces."""

    edge: str = "wyoming"
    """The protocol it came by, for the log and the metrics: wyoming, http or ws."""

    client: str = ""
    """The network address of the client; empty where it has none, as on stdio. It is not logged."""

    id: int = field(default_factory=lambda: next(_ids))
    """Number of the utterance in the log."""

    received: float = field(default_factory=time.perf_counter)
    """When the request was read (time.perf_counter())."""
