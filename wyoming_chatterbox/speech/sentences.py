"""A text that may still be arriving → the sentences to speak, in order, as soon as each is complete.

Sentence ends are found by `sentence-stream`. Around it stand the things a voice assistant's answers need:
list items and headings that end without a full stop, sentences too long for an engine, and a first piece
that may end at a clause so that the first sound does not wait for a long sentence.

The text is looked at one character at a time, however it arrives: the same text gives the same sentences
whether it came at once or in a language model's half words.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import regex
from sentence_stream import SentenceBoundaryDetector

_ITEM = regex.compile(r"(?:[-*+•–—]|\d{1,3}[.)]|#{1,6}|>+|`{3,}\S*|~{3,}\S*)\s|\||[-*_=|:]{3,}$")
"""How a line begins that is a sentence of its own: bullet, number, heading, quote, fence, table row, rule."""

_LINE_START_CHARS = 12
"""A line's kind is known from its first word; a word longer than this is none of the marks above."""

_CLAUSE_END = regex.compile(r"[,;:][\"'”’)\]]*\s|\s[-–—]+\s|—(?=\S)|[，、；：]")

_REST_WORDS = 3
"""Words that must follow a clause before it is spoken by itself: "…, please." stays in one piece."""


@dataclass(frozen=True)
class Sentence:
    """One piece of text for the engine, not cleaned yet."""

    text: str
    ends_inside: bool = False
    """It was cut at a clause: what follows belongs to the same sentence."""


class SentenceSplitter:
    """Splits one utterance; `feed` it what arrives, then `finish`."""

    def __init__(self, max_chars: int, first_clause_words: int) -> None:
        """
        Args:
            max_chars: no sentence is longer; longer ones are cut at a clause, else at a space.
            first_clause_words: the first piece may end at a clause with this many words; 0: it may not.
        """
        self._max_chars = max_chars
        self._first_clause_words = first_clause_words
        self._detector = SentenceBoundaryDetector()
        self._lines = _LineJoiner()
        self._spoken = False

    def feed(self, piece: str) -> Iterator[Sentence]:
        """Add text, get the sentences it completes. Consume the iterator before feeding again."""
        for char in piece:
            for settled in self._lines.add(char):
                yield from self._add(settled)

    def finish(self) -> Iterator[Sentence]:
        """The text is complete: what is left is the last sentence."""
        for settled in self._lines.finish():
            yield from self._add(settled)
        rest = self._buffered().strip()
        self._keep("")
        if rest:
            yield Sentence(rest)

    def _add(self, char: str) -> Iterator[Sentence]:
        for text in self._detector.add_chunk(char):
            self._spoken = True
            yield Sentence(text)
        buffered = self._buffered()
        if not self._spoken and self._first_clause_words and char.isspace():
            cut = self._first_clause(buffered)
            if cut:
                yield self._cut(cut)
        elif len(buffered) > self._max_chars and len(buffered.strip()) > self._max_chars:
            yield self._cut(self._best_cut(buffered))

    # The detector's two buffers are its public attributes: what it has, and what it set aside because it may
    # end in an abbreviation.
    def _buffered(self) -> str:
        return self._detector.current_sentence + self._detector.remaining_text

    def _keep(self, text: str) -> None:
        self._detector.current_sentence = ""
        self._detector.remaining_text = text

    def _cut(self, position: int) -> Sentence:
        buffered = self._buffered()
        self._keep(buffered[position:].lstrip())
        self._spoken = True
        return Sentence(buffered[:position].strip(), ends_inside=True)

    def _first_clause(self, text: str) -> int:
        for match in _CLAUSE_END.finditer(text):
            if (
                len(text[: match.start()].split()) >= self._first_clause_words
                and len(text[match.end() :].split()) >= _REST_WORDS
            ):
                return int(match.end())
        return 0

    def _best_cut(self, text: str) -> int:
        """The last clause end within the limit, else the last space, else the limit."""
        head = text[: self._max_chars]
        clauses: list[int] = [match.end() for match in _CLAUSE_END.finditer(head)]
        # A clause end near the start would leave the long rest as long as it was.
        if clauses and clauses[-1] > self._max_chars // 4:
            return clauses[-1]
        space = text[: self._max_chars + 1].rfind(" ")
        return space if space > 0 else self._max_chars


class _LineJoiner:
    """Decides for every line break whether the sentence goes on behind it, and drops emphasis asterisks.

    Emits the text one character at a time: a blank line where a sentence must end, a space where it goes on.
    """

    def __init__(self) -> None:
        self._start = ""  # the current line's beginning, while its kind is unknown
        self._at_start = True
        self._break = False  # an item or a blank line came before
        self._in_item = False
        self._first = True
        self._stars = ""
        self._previous = " "

    def add(self, char: str) -> Iterator[str]:
        if char == "\r":
            return
        if self._at_start:
            yield from self._add_to_start(char)
        elif char == "\n":
            yield from self._settle_stars(" ")
            self._break = self._in_item
            self._at_start = True
            self._start = ""
        else:
            yield from self._emit(char)

    def finish(self) -> Iterator[str]:
        if self._at_start and self._start.strip():
            yield from self._begin_line()
        yield from self._settle_stars(" ")

    def _add_to_start(self, char: str) -> Iterator[str]:
        if char == "\n":
            if self._start.strip():
                yield from self._begin_line()
                self._break = self._in_item
            else:
                self._break = True
            self._at_start = True
            self._start = ""
            return
        self._start += char
        word = self._start.lstrip()
        if word and (char.isspace() or len(word) > _LINE_START_CHARS):
            yield from self._begin_line()

    def _begin_line(self) -> Iterator[str]:
        word = self._start.lstrip()
        # The line break that may have ended the word is not part of it.
        self._in_item = _ITEM.match(word + "\n") is not None
        if not self._first:
            yield from "\n\n" if self._break or self._in_item else " "
            self._previous = " "
        self._first = False
        self._break = False
        self._at_start = False
        # "1." would end a sentence, and "* " would be taken for emphasis.
        if self._in_item:
            word = regex.sub(r"^(\d{1,3})\.", r"\1)", word)
            word = regex.sub(r"^\*(?=\s)", "-", word)
        for char in word:
            yield from self._emit(char)

    def _emit(self, char: str) -> Iterator[str]:
        if char == "*":
            self._stars += char
            return
        yield from self._settle_stars(char)
        self._previous = char
        yield char

    def _settle_stars(self, following: str) -> Iterator[str]:
        """Asterisks against a word are emphasis; one between spaces is a multiplication."""
        if self._stars == "*" and self._previous.isspace() and following.isspace():
            yield "×"
        self._stars = ""
