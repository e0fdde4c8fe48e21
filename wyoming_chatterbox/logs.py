"""What the log may hold: one line per record, no flood of equal lines, no spoken text inside an error.

Much of what is logged repeats what a client sent. A client must not be able to forge a line, to fill the disk with one
that repeats, or to have what it said written down because an error's message quotes it.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from dataclasses import dataclass
from typing import Any

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
DATE_FORMAT = "%Y-%m-%d %H:%M:%S"

MAX_REPEATS = 100
"""Lines of one kind within REPEAT_SECONDS. A busy house speaks ten utterances a second for a while; a client that
sends nonsense in a loop makes twenty thousand lines a second."""

REPEAT_SECONDS = 10.0
"""How long a kind of line is counted: with lines of 150 bytes, one kind writes 1.5 kB a second at most."""

_UNLIMITED = ("wyoming_chatterbox.voices", "wyoming_chatterbox.model_factory")
"""Loggers of which no client decides how much they say: five hundred unusable clips are five hundred lines."""

_MAX_KINDS = 1000
"""Kinds that are counted at once; the program has some two hundred, libraries may put all they say into the message."""

_MAX_KIND_CHARS = 200
"""Of a message, by which it is known."""


class OneLineFormatter(logging.Formatter):
    """Writes a record's message as one line: control characters in it are escaped as in Python's strings.

    The lines of a traceback are indented, so that none of them is taken for a record.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = one_line(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:
        return _indented(super().formatException(ei))

    def formatStack(self, stack_info: str) -> str:
        return _indented(super().formatStack(stack_info))


def _indented(lines: str) -> str:
    return "\n".join(f"  {one_line(line)}" for line in lines.splitlines())


def one_line(text: str) -> str:
    """Returns `text` with every character escaped that would end a line or command a terminal."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


class RepeatLimit(logging.Filter):
    """A handler's filter that lets MAX_REPEATS records of one kind pass within REPEAT_SECONDS and counts the others.

    A kind is a logger and a message before its arguments are filled in. How many were left out is said in a line of its
    own, with the next record that passes once the time is over. Records below INFO always pass.
    """

    def __init__(self, handler: logging.Handler, repeats: int = MAX_REPEATS, seconds: float = REPEAT_SECONDS) -> None:
        super().__init__()
        self._handler = handler
        self._repeats = repeats
        self._seconds = seconds
        self._lock = threading.Lock()
        self._kinds: dict[tuple[str, str], _Kind] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Returns whether the record is written."""
        if record.levelno < logging.INFO or record.name.startswith(_UNLIMITED):
            return True
        with self._lock:
            now = time.monotonic()
            over = {key: kind for key, kind in self._kinds.items() if now - kind.since >= self._seconds}
            for key in over:
                del self._kinds[key]
            if len(self._kinds) >= _MAX_KINDS:
                self._kinds.clear()
            key = record.name, str(record.msg)[:_MAX_KIND_CHARS]
            kind = self._kinds.setdefault(key, _Kind(now, record.levelno))
            kind.count += 1
            passes = kind.count <= self._repeats
        for (name, message), kind in over.items():
            if kind.count > self._repeats:
                self._tell(name, message, kind)
        return passes

    def _tell(self, name: str, message: str, kind: _Kind) -> None:
        left_out = kind.count - self._repeats
        text = "%d more lines of this kind were left out within %g s: %s"
        arguments = (left_out, self._seconds, message)
        self._handler.emit(logging.LogRecord(name, kind.level, __file__, 0, text, arguments, None))


@dataclass
class _Kind:
    since: float
    """time.monotonic() of the first record."""

    level: int
    count: int = 0


def set_up(level: str) -> None:
    """Log to stderr from now on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLineFormatter(FORMAT, DATE_FORMAT))
    handler.addFilter(RepeatLimit(handler))
    logging.basicConfig(level=level, handlers=[handler])


def error_kind(error: BaseException) -> str:
    """Returns an error's type and those of its causes, "EngineError from RuntimeError".

    Unlike its message, which may quote a text, this may be logged and shown to anybody.
    """
    names = [type(error).__name__]
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    while cause is not None and len(names) < 4:
        names.append(type(cause).__name__)
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return " from ".join(dict.fromkeys(names))
