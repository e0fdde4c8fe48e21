"""What a language model thinks before it answers is not spoken."""

from __future__ import annotations

import regex

from ...limits import MAX_THOUGHT_CHARS

_NAMES = "think|thinking|thought|thoughts|reasoning|reflection|scratchpad|tool_call|tool_response"
"""Elements in which models put what is not part of the answer; programs around them mostly take them out."""

_OPENING = regex.compile(rf"<({_NAMES})\s?>", regex.I)
_MAX_TAG_CHARS = len("</tool_response >")


class ThoughtFilter:
    """Drops `<think>…</think>` and the like from a text that may arrive in pieces of any size.

    A block that is never closed is dropped to the end of the text, but no more than MAX_THOUGHT_CHARS of it. Tags alone
    are left to `cleaning`.
    """

    def __init__(self) -> None:
        self._held = ""  # what may be the beginning of a tag
        self._closing: regex.Pattern[str] | None = None  # of the block that is being dropped
        self._room = 0  # characters that may still be dropped

    def strip(self, piece: str) -> str:
        """Feed a piece, get the text that it completes."""
        if not self._held and self._closing is None and "<" not in piece:
            return piece
        text, self._held = self._held + piece, ""
        spoken = []
        while text:
            begin, text = self._drop(text) if self._closing is not None else self._pass(text)
            spoken.append(begin)
        return "".join(spoken)

    def finish(self) -> str:
        """Returns the text that was held back in case a tag went on."""
        rest, self._held = ("" if self._closing is not None else self._held), ""
        self._closing = None
        return rest

    def _pass(self, text: str) -> tuple[str, str]:
        """(what is spoken, what has still to be looked at) of a text outside a block."""
        opening = _OPENING.search(text)
        if opening is not None:
            self._closing = regex.compile(rf"</{opening.group(1)}\s?>", regex.I)
            self._room = MAX_THOUGHT_CHARS
            return text[: opening.start()] + " ", text[opening.end() :]
        tag = text.rfind("<", -_MAX_TAG_CHARS)
        if tag >= 0 and _OPENING.fullmatch(text, tag, partial=True):
            self._held = text[tag:]
            return text[:tag], ""
        return text, ""

    def _drop(self, text: str) -> tuple[str, str]:
        """Returns the same of a text inside a block, of which nothing is spoken."""
        assert self._closing is not None
        closing = self._closing.search(text)
        if closing is not None and closing.start() <= self._room:
            self._closing = None
            return " ", text[closing.end() :]
        if len(text) >= self._room + _MAX_TAG_CHARS:
            rest, self._closing = text[self._room :], None
            return "", rest
        dropped = max(0, min(self._room, len(text) - _MAX_TAG_CHARS + 1))
        self._room -= dropped
        self._held = text[dropped:]
        return "", ""
