"""What a line break means: a new sentence in lists and headings, a space in text that somebody wrapped."""

from __future__ import annotations

import regex

from .boundaries import BREAK

_ITEM = regex.compile(
    r"(?:[-*+•–—]|\d{1,3}[.)]|\d\uFE0F?\u20E3|#{1,6}|>+|`{3,}\S*|~{3,}\S*)\s|\||[-*_=|:]{3,}$",
)
"""How a line begins that is a sentence of its own: bullet, number, heading, quote, fence, table row, rule."""

_SHORT_LINE = 40
"""Characters; text that somebody wrapped mostly has longer lines."""

_NEW_SENTENCE = regex.compile(r"[\p{Lu}*_`\"“'‘¿¡(\[]")

_GOES_ON = frozenset(
    {
        *("a", "an", "the", "and", "or", "but", "nor", "for", "of", "to", "in", "on", "at", "by", "with", "from", "as"),
        *("is", "are", "was", "were", "be", "been", "has", "have", "had", "will", "would", "can", "could", "not", "if"),
        *("my", "your", "our", "their", "his", "her", "its", "this", "that", "these", "those", "which", "who", "than"),
        *("then", "into", "over", "about"),
    }
)
"""Words with which no line of its own ends."""

_LONGEST_RUN = 3
"""Of one character that is no letter and no digit: nobody hears the difference."""

_OPERAND_END, _OPERAND_START = regex.compile(r"[\d)\]]"), regex.compile(r"[\d(\[]")

_LINE_START_CHARS = 12
"""A line's kind is known from its first word; a word longer than this is none of the marks above."""

_LINE_ENDS = frozenset("\n\x85\u2028\u2029")
_NO_BREAK_SPACES = frozenset("\u00a0\u202f")
"""Kept as they are, since they group the digits of a number; every other space becomes the usual one."""


class LineJoiner:
    """Decides for every line break whether the sentence goes on behind it, and drops emphasis asterisks.

    Returns the text with one space where there were several, and BREAK where a sentence must end. No character costs
    more than another, whatever came before.
    """

    def __init__(self) -> None:
        self._start = ""  # the current line's first word, while the line's kind is unknown
        self._at_start = True
        self._broken = True  # a break was given out already, or nothing came before
        self._in_item = False
        self._stars = ""
        self._previous = self._last = " "
        self._word = ""  # the last one of the line
        self._repeated = 0
        self._length = 0  # of the current line

    @property
    def pending(self) -> str:
        """What was not given out yet, because the line's kind is not known."""
        return self._start if self._at_start else ""

    def add(self, char: str) -> str:
        """Add one character; returns the text that it completes."""
        if self._at_start:
            return self._add_to_start(char)
        if char in _LINE_ENDS:
            self._at_start = True
            return self._settle_stars(" ")
        return self._emit(char)

    def flush(self) -> str:
        """Return what is held: the text is complete, or pauses."""
        begun = self._begin_line() if self._at_start and self._start else ""
        return begun + self._settle_stars(" ")

    def _add_to_start(self, char: str) -> str:
        if char in _LINE_ENDS:
            if self._start:
                begun = self._begin_line() + self._settle_stars(" ")
                self._at_start = True
                return begun
            if self._broken:
                return ""
            self._broken = True
            self._in_item = False
            return BREAK  # a blank line: at once, a voice may be waiting for it
        if char.isspace():
            return self._begin_line(char) if self._start else ""
        self._start += char
        return self._begin_line() if len(self._start) > _LINE_START_CHARS else ""

    def _begin_line(self, space: str = "") -> str:
        word, self._start = self._start, ""
        # The line break that may have ended the word is not part of it.
        item = _ITEM.match(word + (" " if len(word) <= _LINE_START_CHARS else "")) is not None
        before = ""
        if not self._broken:
            # A short line before one that begins like a sentence is a line of its own: "Milk", "Kitchen: 21 °C". A
            # long one was wrapped, and so was one that cannot end where it does.
            apart = (
                self._length <= _SHORT_LINE
                and self._last not in ",;("
                and self._word.lower() not in _GOES_ON
                and _NEW_SENTENCE.match(word)
            )
            if item or self._in_item or apart:
                before = BREAK
            elif not self._previous.isspace():
                before = " "
            self._previous = " "
        self._in_item = item
        self._broken = False
        self._at_start = False
        self._length = 0
        if item and word == "*":  # it would be taken for emphasis
            word = "-"
        return before + "".join(map(self._emit, word + space))

    def _emit(self, char: str) -> str:
        previous = self._previous
        if char.isalnum() and not self._stars:  # most of all text
            self._word = char if previous.isspace() else (self._word + char)[-_LINE_START_CHARS:]
            self._previous = self._last = char
            self._repeated = 0
            self._length += 1
            return char
        if char == "*":
            self._stars = (self._stars + char)[:_LONGEST_RUN]
            return ""
        settled = self._settle_stars(char)
        previous = self._previous
        if char.isspace():
            if previous.isspace():
                return settled
            char = char if char in _NO_BREAK_SPACES else " "
        else:
            self._repeated = self._repeated + 1 if char == previous and not char.isalnum() else 0
            if self._repeated >= _LONGEST_RUN:
                return settled
            self._word = char if previous.isspace() else (self._word + char)[-_LINE_START_CHARS:]
            self._last = char
        self._previous = char
        self._length += 1
        return settled + char

    def _settle_stars(self, following: str) -> str:
        """Asterisks against a word are emphasis; between spaces, or numbers and brackets, they are arithmetic."""
        if not self._stars:
            return ""
        alone = self._previous.isspace() and following.isspace()
        between = _OPERAND_END.match(self._previous) and _OPERAND_START.match(following)
        sign = {"*": "×", "**": "^"}.get(self._stars, "") if alone or between else ""
        self._stars = ""
        self._previous = sign or self._previous
        return sign
