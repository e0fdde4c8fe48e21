"""Why a client's connection ends before it is done."""

from __future__ import annotations

import enum

from ..errors import WyomingChatterboxError
from ..speech.errors import SpeechError


class CloseCode(enum.IntEnum):
    """Codes that a WebSocket is closed with."""

    GOING_AWAY = 1001
    POLICY_VIOLATION = 1008
    INTERNAL_ERROR = 1011
    SERVICE_RESTART = 1012
    TRY_AGAIN_LATER = 1013
    UNAUTHORIZED = 3000
    """Registered for "Unauthorized"."""


class ClientDisconnected(WyomingChatterboxError):
    """The client is gone."""


class WriteTimeout(WyomingChatterboxError):
    """The client does not read what it is sent."""


class PolicyViolation(WyomingChatterboxError):
    """A WebSocket is closed for what its client did, or did not do."""

    def __init__(self, error: SpeechError, code: CloseCode) -> None:
        super().__init__(str(error))
        self.error = error
        self.code = code
