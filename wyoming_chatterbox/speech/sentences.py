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

_SPACES, _LINE_ENDS = "\r\f\v\x1c\x1d\x1e", "\x85\u2028\u2029"
"""What separates words, and what separates lines, besides the usual."""

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
"""Of one character that is no letter and no digit."""

_OPERAND_END, _OPERAND_START = regex.compile(r"[\d)\]]"), regex.compile(r"[\d(\[]")

_LINE_START_CHARS = 12
"""A line's kind is known from its first word; a word longer than this is none of the marks above."""

_CLAUSE_END = regex.compile(r"[,;:][\"'”’)\]]*\s|\s[-–—]+\s|—(?=\S)|[，、；：]")

_WHOLE_SENTENCE = regex.compile(r"(?<!\b\p{L}|\d)[.!?…。！？][\"'”’)\]]*\s*$")
"""Not a single letter's full stop ("J."), nor a number's."""

_ABBREVIATION = regex.compile(r"\b(?:Dr|Mrs?|Ms|St|Prof|Jr|Sr|vs|etc|approx|e\.g|i\.e)\.$", regex.I)

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
        self._first_clause_words = first_clause_words
        self._detector = SentenceBoundaryDetector()
        self._lines = _LineJoiner()
        self._spoken = False

    def feed(self, piece: str) -> Iterator[Sentence]:
        """Add text, get the sentences it completes. Consume the iterator before feeding again."""
        for char in piece:
            for settled in self._lines.add(char):
                yield from self._add(settled)

    @property
    def may_be_complete(self) -> bool:
        """Whether what is held looks like a whole sentence, which only the next one's beginning would prove."""
        held = (self._buffered() + self._lines.pending)[-24:].rstrip("*_ ")
        return _WHOLE_SENTENCE.search(held) is not None and _ABBREVIATION.search(held) is None

    def flush(self) -> Iterator[Sentence]:
        """Give out what is held as a sentence: the text is complete, or pauses. More may be fed afterwards."""
        for settled in self._lines.flush():
            yield from self._add(settled)
        rest = self._buffered().strip()
        self._keep("")
        if rest:
            self._spoken = True
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
        self._broken = True  # a break was given out already, or nothing came before
        self._in_item = False
        self._stars = ""
        self._previous = self._last = " "
        self._word = ""  # the last one of the line
        self._between_words = True
        self._repeated = 0
        self._length = 0  # of the current line

    def add(self, char: str) -> Iterator[str]:
        if char in _SPACES:
            char = " "
        elif char in _LINE_ENDS:
            char = "\n"
        if self._at_start:
            yield from self._add_to_start(char)
        elif char == "\n":
            yield from self._settle_stars(" ")
            self._at_start = True
            self._start = ""
        else:
            yield from self._emit(char)

    @property
    def pending(self) -> str:
        """What was not given out yet, because the line's kind is not known."""
        return self._start if self._at_start else ""

    def flush(self) -> Iterator[str]:
        if self._at_start and self._start.strip():
            yield from self._begin_line()
        yield from self._settle_stars(" ")

    def _add_to_start(self, char: str) -> Iterator[str]:
        if char == "\n":
            if self._start.strip():
                yield from self._begin_line()
                yield from self._settle_stars(" ")
            elif not self._broken:  # a blank line: at once, a voice may be waiting for it
                yield from "\n\n"
                self._broken = True
                self._in_item = False
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
        item = _ITEM.match(word + "\n") is not None
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
                yield from "\n\n"
            elif not self._previous.isspace():
                yield " "
            self._previous = " "
        self._in_item = item
        self._broken = False
        self._at_start = False
        self._length = 0
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
        # Nobody hears the difference, and sentence-stream looks at all of a run for every character of it.
        self._repeated = self._repeated + 1 if char == self._previous and not char.isalnum() else 0
        if self._repeated >= _LONGEST_RUN:
            return
        self._previous = char
        if not char.isspace():
            self._word = char if self._between_words else (self._word + char)[-_LINE_START_CHARS:]
            self._last = char
        self._between_words = char.isspace()
        self._length += 1
        yield char

    def _settle_stars(self, following: str) -> Iterator[str]:
        """Asterisks against a word are emphasis; between spaces, or numbers and brackets, they are arithmetic."""
        alone = self._previous.isspace() and following.isspace()
        between = _OPERAND_END.match(self._previous) and _OPERAND_START.match(following)
        if self._stars and (alone or between):
            yield from {"*": "×", "**": "^"}.get(self._stars, "")
        self._stars = ""
