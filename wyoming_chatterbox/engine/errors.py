"""What can go wrong in an engine. Importing it imports neither numpy nor torch."""

from __future__ import annotations

from ..errors import WyomingChatterboxError


class EngineError(WyomingChatterboxError):
    """An engine could not do what it was asked to; the message says what happened and what to do."""


class EngineUnavailable(EngineError):
    """The engine's packages, weights or device are missing."""


class EngineBroken(EngineError):
    """The engine cannot work any more in this process, as after a GPU error that is fatal to the process; a new
    process can."""


class FloatOverflow(EngineError):
    """A value exceeded the range of the computation's number format."""


class NothingToSay(EngineError):
    """The text has nothing this engine can pronounce, as Chinese for an English voice; the next text may."""


class Cancelled(EngineError):
    """The work was cancelled. Raised inside an engine; never shown to a client."""
