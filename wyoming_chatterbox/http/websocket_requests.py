"""Messages of a WebSocket's client → the utterances it asks for."""

from __future__ import annotations

import time
from typing import Any

from pydantic import ValidationError

from ..limits import MAX_NAME_CHARS, MAX_UNANSWERED_UTTERANCES
from ..speech.errors import EmptyText, InvalidEvent, ServerBusy, ShuttingDown
from ..speech.request import SpeechRequest
from ..speech.service import SpeechService
from ..speech.turns import Turn, TurnQueue
from ..speech.utterance import Utterance
from .disconnects import CloseCode, PolicyViolation
from .messages import CLIENT, Start
from .validation import to_speech_error


class PendingUtterance(Turn):
    """One utterance of a connection, from its start message to its metrics."""

    def __init__(self, request: SpeechRequest, name: str | None, response_format: str) -> None:
        """`name`: the client's own id of the utterance."""
        super().__init__(request)
        self.name = name
        self.response_format = response_format
        self.utterance: Utterance | None = None
        """What speaks it; None before it is its turn, and where it is refused."""

        self.frames = 0
        """Binary frames that were sent."""

        self.samples = 0
        """Samples that went into them."""

        self.first_audio: float | None = None
        """Seconds from its start message to the first frame."""

        self.all_cached = True
        """All audio that was sent comes from the cache."""

    @property
    def elapsed(self) -> float:
        """Seconds since its start message was read."""
        return time.perf_counter() - self.request.received


class UtteranceInput:
    """Makes the utterances that a connection's client asks for, and feeds them their texts."""

    def __init__(self, service: SpeechService, utterances: TurnQueue[PendingUtterance]) -> None:
        self._service = service
        self._utterances = utterances
        self._current: PendingUtterance | None = None  # the utterance whose text is arriving

    def on_start(self, message: dict[str, Any]) -> None:
        """Handle a `start` message, as JSON: one that is wrong is answered as an utterance that failed.

        Raises:
            PolicyViolation: too many utterances are not answered.
        """
        if self._current is not None:
            # Two texts in one answer would be worse than none.
            self._current.request.text.fail(InvalidEvent("start came before the end of the text before it"))
            self._current = None
        utterance = self._new_utterance(message)
        count = len(self._utterances)
        if count >= MAX_UNANSWERED_UTTERANCES:
            raise PolicyViolation(
                InvalidEvent(f"{count} utterances of this connection are not answered"), CloseCode.POLICY_VIOLATION
            )
        error = utterance.error
        if error is None and self._utterances.is_full:
            error = ServerBusy(f"{count} utterances of this connection are waiting already")
        if self._utterances.is_closed:
            error = ShuttingDown("The server is stopping")
        if error is not None:
            utterance.refuse(error)
        self._utterances.add(utterance)

    def on_text(self, text: str) -> None:
        """Handle a `text` message. Raises InvalidEvent where no text is open."""
        if self._current is None:
            raise InvalidEvent("text came without a start whose text is open")
        self._current.request.text.feed(text)

    def on_end(self) -> None:
        """Handle an `end` message. Raises InvalidEvent where no text is open."""
        if self._current is None:
            raise InvalidEvent("end came without a start whose text is open")
        self._current.request.text.close()
        self._current = None

    def on_cancel(self, name: str | None) -> None:
        """Handle a `cancel` message: for the utterance of this id, or the one that is spoken."""
        for utterance in self._utterances:
            if name is None or utterance.name == name:
                utterance.cancel()
                if utterance is self._current:
                    utterance.request.text.drop()
                return

    def _new_utterance(self, message: dict[str, Any]) -> PendingUtterance:
        """Returns the utterance that a start message asks for, with an error where that is not possible."""
        try:
            start = CLIENT.validate_python(message)
            assert isinstance(start, Start)
        except ValidationError as error:
            name = message.get("id") if isinstance(message.get("id"), str) else None
            request = SpeechRequest(self._service.new_text(), edge="ws")
            utterance = PendingUtterance(request, name and name[:MAX_NAME_CHARS], "pcm")
            utterance.error = to_speech_error(list(error.errors()))[0]
            if message.get("text") is None:
                self._current = utterance
            return utterance
        streamed = start.text is None
        request = SpeechRequest(
            self._service.new_text() if start.text is None else self._service.whole_text(start.text),
            voice=start.voice or None,
            language=start.language or None,
            speaker=start.speaker or None,
            settings=start.overrides(),
            streamed=streamed,
            edge="ws",
        )
        utterance = PendingUtterance(request, start.id, start.response_format or "pcm")
        if start.text == "":
            utterance.error = EmptyText("The start message has an empty text; leave it out where the text follows")
        if streamed:
            self._current = utterance
        return utterance
