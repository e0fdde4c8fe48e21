"""Logging unexpected exceptions without what people said.

The message of a foreign exception may quote the value it stumbled over, and that value may be spoken text. Above the
level DEBUG the log therefore shows where an exception was raised and of which type it is, never its message.
"""

from __future__ import annotations

import itertools
import logging
import re
import traceback

_TELLING_WORD = re.compile(r"\w{4,}")
"""Shorter words are in every message; a PIN of four digits is not."""


def log_fault(logger: logging.Logger, error: BaseException, message: str, *arguments: object) -> None:
    """Log an unexpected exception as an error: its traceback without messages; the messages at DEBUG only.

    Args:
        message, arguments: what failed, as for `logger.error`; must not contain spoken text.
    """
    if logger.isEnabledFor(logging.ERROR):  # the traceback is no part of the message, which is one line
        record = logger.makeRecord(
            logger.name, logging.ERROR, __file__, 0, message, arguments, None, sinfo=_stack(error)
        )
        logger.handle(record)
    logger.debug("The same with its messages", exc_info=error)


def without_spoken(detail: str, text: str) -> str:
    """Returns what went wrong, or a pointer to the debug log where the detail repeats a word of the spoken text.

    Args:
        detail: a message of a library or of another program.
        text: what was to be spoken.
    """
    detail_words, text_words = _words(detail), _words(text)
    quoted = f" {' '.join(text_words)} " in f" {' '.join(detail_words)} "
    pairs = set(itertools.pairwise(text_words)) & set(itertools.pairwise(detail_words))
    telling = set(filter(_TELLING_WORD.fullmatch, detail_words)).intersection(text_words)
    if not (quoted or pairs or telling):
        return detail
    return "the details contain spoken text, see --log-level DEBUG"


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def _stack(error: BaseException) -> str:
    """Returns the traceback of an exception and of its causes, the first cause first, without their messages."""
    parts: list[str] = []
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        frames = "".join(traceback.format_tb(current.__traceback__))
        parts.append(f"{frames}{type(current).__qualname__}")
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return "\nwhich led to\n".join(reversed(parts))
