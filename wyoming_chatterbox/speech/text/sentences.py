"""A text that may still be arriving → the sentences to speak, in order, as soon as each is complete.

`boundaries.py` knows where sentences end, `lines.py` what line breaks mean. Here stand the things that a voice needs
besides: sentences too long for an engine are cut, and the first piece may end at a clause so that the first sound does
not wait for a long sentence.

The text is read one character at a time, however it arrives: the same text gives the same sentences whether it came at
once or in a language model's half words.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import regex

from .boundaries import SentenceDetector, looks_complete
from .lines import LineJoiner

_CLAUSE_END = regex.compile(r"[,;:][\"'”’)\]]*\s|\s[-–—]+\s|—(?=\S)|[，、；：]")

_TAIL_CHARS = 24
"""What is looked at of the end of a text: an abbreviation and what closes behind it are shorter."""

_REST_WORDS = 3
"""Words that must follow a clause before it is spoken by itself: "…, please." stays in one piece."""


@dataclass(frozen=True)
class Sentence:
    """One piece of text for the engine, not cleaned yet."""

    text: str
    ends_inside: bool = False
    """It was cut at a clause: what follows belongs to the same sentence."""


class SentenceSplitter:
    """Splits one utterance; `feed` it what arrives, then `flush`."""

    def __init__(self, max_chars: int, first_clause_words: int) -> None:
        """
        Args:
            max_chars: no sentence is longer; longer ones are cut at a clause, else at a space.
            first_clause_words: the first piece may end at a clause with this many words; 0: it may not.
        """
        self._max_chars = max_chars
        self._clause_words = (
            regex.compile(rf"(?:\S++\s++){{{first_clause_words - 1}}}\S") if first_clause_words else None
        )
        self._detector = SentenceDetector()
        self._lines = LineJoiner()
        self._spoken = False

    def feed(self, piece: str) -> Iterator[Sentence]:
        """Add text, get the sentences it completes. Consume the iterator before feeding again."""
        for char in piece:
            settled = self._lines.add(char)
            if settled:
                yield from self._add(settled)

    @property
    def may_be_complete(self) -> bool:
        """Whether what is held looks like a whole sentence, which only the next one's beginning would prove."""
        return looks_complete((self._detector.text + self._lines.pending)[-_TAIL_CHARS:].rstrip("*_ "))

    def flush(self) -> Iterator[Sentence]:
        """Give out what is held as a sentence: the text is complete, or pauses. More may be fed afterwards."""
        yield from self._add(self._lines.flush())
        rest = self._detector.take()
        if rest:
            self._spoken = True
            yield Sentence(rest)

    def _add(self, settled: str) -> list[Sentence]:
        found = []
        for char in settled:
            sentence = self._detector.add(char)
            if sentence is not None:
                self._spoken = True
                found.append(Sentence(sentence))
            text = self._detector.text
            if len(text) > self._max_chars:
                if len(text.rstrip()) > self._max_chars:
                    found.append(self._cut(self._best_cut(text)))
            elif self._clause_words is not None and not self._spoken and char.isspace():
                cut = self._first_clause(text)
                if cut:
                    found.append(self._cut(cut))
        return found

    def _cut(self, position: int) -> Sentence:
        self._spoken = True
        return Sentence(self._detector.keep_from(position), ends_inside=True)

    def _first_clause(self, text: str) -> int:
        """Returns where the first clause with enough words ends, once enough words stand behind it; else 0."""
        words = self._clause_words.match(text) if self._clause_words is not None else None
        clause = _CLAUSE_END.search(text, words.end()) if words else None
        return int(clause.end()) if clause and len(text[clause.end() :].split()) >= _REST_WORDS else 0

    def _best_cut(self, text: str) -> int:
        """Returns the last clause end within the limit, else the last space, else the limit."""
        head = text[: self._max_chars]
        clauses: list[int] = [match.end() for match in _CLAUSE_END.finditer(head)]
        # A clause end near the start would leave the long rest as long as it was.
        if clauses and clauses[-1] > self._max_chars // 4:
            return clauses[-1]
        within = text[: self._max_chars + 1]
        space = within.rfind(" ")
        if space <= 0:
            space = max(within.rfind("\u00a0"), within.rfind("\u202f"))
        return space if space > 0 else self._max_chars
