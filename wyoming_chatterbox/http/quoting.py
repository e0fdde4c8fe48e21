"""What a client chose, fit for a line of the log."""

from __future__ import annotations

from ..limits import MAX_LOGGED_CHARS


def quoted(value: object) -> str:
    """Returns `str(value)` in printable ASCII and on one line, whatever is in it, and shortened.

    A path of `/%0A2026-01-01 ERROR …` would otherwise begin a line of the client's choice.
    """
    text = str(value)
    if len(text) > MAX_LOGGED_CHARS:
        text = text[: MAX_LOGGED_CHARS - 3] + "..."
    return "".join(character if " " <= character <= "~" else ascii(character)[1:-1] for character in text)
