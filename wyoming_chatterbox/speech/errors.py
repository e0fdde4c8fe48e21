"""What can go wrong with a request. Every edge sends the code and the message to its client.

Codes are part of the interface: clients may rely on them, so they do not change.
"""

from __future__ import annotations

from ..errors import WyomingChatterboxError


class SpeechError(WyomingChatterboxError):
    """A request cannot be answered; the message names the thing, the value and the remedy.

    The message is for the client that asked, and may quote what it said.
    """

    code = "internal-error"

    def __init__(self, message: str = "", *, public: str | None = None) -> None:
        """`public`: the message for everybody else, which quotes no text; None: the message does not either."""
        super().__init__(message)
        self.public = message if public is None else public
        """What may be logged."""


class EmptyText(SpeechError):
    """The request carried no text at all (blank text is no error: it is spoken as silence of no length)."""

    code = "empty-text"


class TextTooLong(SpeechError):
    """The text exceeds what one request may carry."""

    code = "text-too-long"


class TextTimeout(SpeechError):
    """A streamed text paused for longer than a client may."""

    code = "text-timeout"


class UnsupportedTextFormat(SpeechError):
    """The text is in a format that is neither plain text nor SSML."""

    code = "unsupported-text-format"


class VoiceNotFound(SpeechError):
    """No voice of that name, speaker or language."""

    code = "voice-not-found"


class InvalidSetting(SpeechError):
    """A setting of this utterance is unknown or out of its range."""

    code = "invalid-setting"


class ProgramNotFound(SpeechError):
    """The client selected a program that this server does not offer."""

    code = "program-not-found"


class ModelUnavailable(SpeechError):
    """The model cannot speak now and nothing may speak in its place."""

    code = "model-unavailable"


class EngineFailed(SpeechError):
    """The engine broke on this text."""

    code = "engine-failed"


class ServerBusy(SpeechError):
    """More is asked for than the server takes at once."""

    code = "server-busy"


class ShuttingDown(SpeechError):
    """The server stops before the utterance was finished."""

    code = "shutting-down"


class InvalidEvent(SpeechError):
    """The client sent what the protocol does not allow here."""

    code = "invalid-event"
