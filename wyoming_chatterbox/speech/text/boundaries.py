"""Where sentences end, in a text that arrives character by character.

This is the one place that knows abbreviations, initials, list numbers and ordinals. A boundary that is missed costs
nothing but a longer sentence; one that is wrong is heard as a full stop inside a sentence, and leaves a piece so short
that Chatterbox babbles. So where the text leaves it open, the sentence goes on.
"""

from __future__ import annotations

import enum

import regex


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


BREAK = "\n"
"""Ends a sentence whatever stands before it; no other line ends may come in."""

MIN_SENTENCE_LETTERS = 4
"""A shorter sentence ("Yes.", "OK!") is spoken together with the next one: of a text of one syllable Chatterbox makes
a second of anything. Chinese and Japanese, which say a sentence in two characters, are not counted."""

_MARKS = frozenset(".!?…؟।॥")
_WIDE_MARKS = frozenset("。！？")
"""They end a sentence without a space behind them."""

_CLOSERS = frozenset("'\")]}’”»›」』）》】〕〉")
_ASCII_CLOSERS = "'\")]}’”»"
_OPENERS = frozenset("'\"([{‘“«‹„‚¿¡_`「『（《【〔〈")
"""What may stand between the space and the first letter of the next sentence."""

_WIDE_LETTER = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}]")
_PICTOGRAPH = regex.compile(r"[\p{Extended_Pictographic}\uFE0F\u200D\U0001F3FB-\U0001F3FF]")
_FIRST_NUMBER, _LAST_NUMBER = regex.compile(r"^\d{1,3}(?!\d)"), regex.compile(r"\d{1,3}$")
_DOTTED = regex.compile(r"\p{L}(?:\.\p{L})+")

_TITLES = _words(
    """
    Dr Mr Mrs Ms Mx Messrs Prof Rev Hon Gov Sen Rep Pres Supt Msgr Capt Cpt Sgt Cpl Lt Col Gen Maj Cmdr Adm Mt Ft
    Ste Hr Hrn Fr Frl Mme Mmes Mlle MM Sra Srta Dra Sig Dott Ing Dipl
    """
)
"""Stand before a name, so they never end a sentence; written with a capital letter only."""

_ALWAYS_GO_ON = _words(
    """
    vs e.g eg i.e cf viz approx incl esp resp z.b d.h u.a o.ä i.d.r bzw vgl ca ggf evtl sog inkl zzgl p.ej p.ex bijv
    d.w.z m.a.w
    """
)
"""Need something behind them, whatever it is, in capitals or not."""

_MAY_END = _words(
    """
    etc inc ltd corp co bros jr sr ave blvd rd st dept est usw uvm min max sec hr hrs ft oz lb lbs yr yrs str tel
    abb abs núm Jan Feb Mar Apr Jun Jul Aug Sep Sept Oct Okt Nov Dec Dez Mon Tue Tues Wed Thu Thur Thurs Fri Sat Sun
    """
)
"""May end a sentence. The names of months and days are abbreviated with a capital letter only: "he sat." is none."""

_LOWER_MAY_END = frozenset(word for word in _MAY_END if word.islower())

_STARTERS = _words(
    """
    a an the this that these those there here it it's i i'm i'll i've you you're he he's she she's we we're we'll
    they they're that's there's my your his her our their its all both each some no not yes please and but or so if
    when while then also however because since although in on at for from with after before once until by as to now
    today tomorrow tonight yesterday what who how why where which would could should can do don't does did is are
    was were will have has let let's der die das ein eine es er sie wir ich ihr und aber wenn dann le les il elle je
    nous vous ils elles los las una ella ellos
    """
)
"""Words that begin a sentence, and hardly a name: behind what may end one they prove that it did."""

_BEFORE_ORDINAL = _words(
    """
    am der die das den dem des im vom zum zur beim ab bis seit jeder jeden jede jedes ein eine einen einem ihr sein
    mein dein unser und det til fra dne od do
    """
)
"""Words before which a number with a full stop is an ordinal, in languages that write them so ("am 3. Oktober")."""

MONTHS = _words(
    """
    januar jänner februar märz april mai juni juli august september oktober november dezember mars maj marts juin
    desember december jan feb mär apr jun jul aug sep sept okt nov dez
    """
)
"""Before them a number with a full stop is a day, in languages that write it so."""

_MAX_ITEM = 99
"""Lists inside a line are not longer; "In 2025." is none."""


class _End(enum.Enum):
    """What a mark may be."""

    SURE = enum.auto()
    OPEN = enum.auto()  # the next word tells
    NUMBER = enum.auto()  # of a list, an ordinal, or the end of a sentence: the next word tells
    NONE = enum.auto()


class _State(enum.Enum):
    TEXT = enum.auto()
    MARK = enum.auto()  # behind end marks and what closes
    GAP = enum.auto()  # behind the space after them
    WORD = enum.auto()  # in the next word, which tells whether they ended a sentence
    NUMBER = enum.auto()  # in a number that may be that of a list item
    ITEM = enum.auto()  # behind that number's mark


class SentenceDetector:
    """Holds the sentence that is being written; `add` characters, get it when it is complete."""

    def __init__(self) -> None:
        self.text = ""
        """What is held: it begins with no space."""

        self._state = _State.TEXT
        self._end = 0  # where the sentence ends, if the mark turns out to end it
        self._kind = _End.NONE
        self._wide = False
        self._next = 0  # where the next word or number begins
        self._item = 0  # the last number of the list that is being read

    def add(self, char: str) -> str | None:
        """Add one character; returns the sentence that it shows to be complete."""
        if char == BREAK:
            self._item = 0
            return self._cut(len(self.text))
        if not self.text and char.isspace():
            return None
        self.text += char
        if self._state is _State.TEXT:
            if char in _MARKS or char in _WIDE_MARKS:
                self._begin_mark(char)
            return None
        return self._add_after_mark(char)

    def keep_from(self, position: int) -> str:
        """Cut what is held in two, hold the second part and return the first."""
        head, rest = self.text[:position], self.text[position:].lstrip()
        removed = len(self.text) - len(rest)
        self.text = rest
        self._end -= removed
        self._next -= removed
        if self._end <= 0:
            self._state = _State.TEXT
        return head.strip()

    def take(self) -> str:
        """Return all that is held, as a sentence or a part of one, and hold nothing."""
        self._item = 0
        return self.keep_from(len(self.text))

    def _begin_mark(self, char: str) -> None:
        self._state, self._end, self._wide = _State.MARK, len(self.text), char in _WIDE_MARKS

    def _add_after_mark(self, char: str) -> str | None:
        if self._state is _State.MARK:
            return self._add_to_mark(char)
        if self._state is _State.GAP:
            return self._add_to_gap(char)
        if self._state is _State.WORD:
            if char.isalpha() or char in "'’":
                return None
            word = self.text[self._next : -1].replace("’", "'").rstrip("'").casefold()
            if not self._is_end_before(word):
                return self._go_on(char)
        elif self._state is _State.NUMBER:
            if char.isdecimal():
                return None
            if char not in ".)":
                return self._go_on(char)
            self._state = _State.ITEM
            return None
        elif not char.isspace():
            return None if char in ".)" else self._go_on(char)
        else:
            self._item = _number_at(_FIRST_NUMBER, self.text[self._next :])
        return self._cut_at_end()

    def _add_to_mark(self, char: str) -> str | None:
        if char in _MARKS or char in _WIDE_MARKS or char in _CLOSERS:
            self._wide = self._wide or char in _WIDE_MARKS
            self._end = len(self.text)
            return None
        if self._wide or (_WIDE_LETTER.match(char) and self.text[self._end - 1] in "!?"):
            return self._cut_at_end()
        if not char.isspace():
            return self._go_on(char)
        self._kind = _kind_of_end(self.text[: self._end])
        if self._kind is _End.NONE:
            return self._go_on(char)
        self._state = _State.GAP
        return None

    def _add_to_gap(self, char: str) -> str | None:
        if char.isspace() or char in _OPENERS or (not char.isalnum() and _PICTOGRAPH.match(char)):
            return None
        self._next = len(self.text) - 1
        if char.isdecimal() and self._kind is not _End.NUMBER:
            self._state = _State.NUMBER
            return None
        if not char.isalpha() or char.islower():
            return self._go_on(char)
        if self._kind is _End.SURE:
            return self._cut_at_end()
        self._state = _State.WORD
        return None

    def _is_end_before(self, word: str) -> bool:
        """Returns True if a mark that left it open ended the sentence, now that the next word (casefolded) is known."""
        if self._kind is _End.OPEN:
            return word in _STARTERS
        words = self.text[: self._end].rstrip(".'\")]}’”»").rsplit(None, 2)
        number = _number_at(_LAST_NUMBER, words[-1])
        if number == self._item + 1 <= _MAX_ITEM:
            self._item = number
            return False
        return word not in MONTHS and not (len(words) > 1 and words[-2].casefold() in _BEFORE_ORDINAL)

    def _go_on(self, char: str) -> str | None:
        """Handles a mark that ended no sentence; returns None."""
        self._state = _State.TEXT
        if char in _MARKS or char in _WIDE_MARKS:
            self._begin_mark(char)
        return None

    def _cut_at_end(self) -> str | None:
        end = self._end
        if not self._wide and end <= 4 * MIN_SENTENCE_LETTERS:
            head = self.text[:end]
            if sum(map(str.isalnum, head)) < MIN_SENTENCE_LETTERS and not _WIDE_LETTER.search(head):
                return self._go_on(self.text[-1])
        return self._cut(end)

    def _cut(self, end: int) -> str | None:
        sentence = self.keep_from(end)
        self._state = _State.TEXT
        if self.text and (self.text[-1] in _MARKS or self.text[-1] in _WIDE_MARKS) and not self._is_item():
            self._begin_mark(self.text[-1])
        return sentence or None

    def _is_item(self) -> bool:
        return self.text[:-1].isdigit()


def looks_complete(text: str) -> bool:
    """Returns True if a text ends like a sentence, so that it may be spoken when nothing follows for a while.

    Args:
        text: the end of what was written so far; a few words are enough.
    """
    stripped = text.rstrip().rstrip("".join(_CLOSERS))
    if not stripped or (stripped[-1] not in _MARKS and stripped[-1] not in _WIDE_MARKS):
        return False
    if stripped[-1] == "." and stripped[-2:-1].isdigit():
        return False
    return _kind_of_end(stripped) is _End.SURE


def _number_at(place: regex.Pattern[str], text: str) -> int:
    """Returns the number of a list item; 0 where there is none, or one too long for a list."""
    match = place.search(text)
    return int(match.group(0)) if match else 0


def _kind_of_end(text: str) -> _End:
    """Returns what the mark is with which a text ends, closing quotation marks and brackets behind it included."""
    stripped = text.rstrip(_ASCII_CLOSERS)
    if not stripped.endswith(".") or stripped.endswith(".."):
        return _End.SURE
    words = stripped[:-1].rsplit(None, 1)
    if not words:
        return _End.NONE
    word = words[-1].lstrip("'\"([{‘“«‹„¿¡_`-–—/")
    if word.isdecimal() and len(word) <= 3:
        return _End.NUMBER if len(words) > 1 or stripped != word + "." else _End.NONE
    folded = word.casefold()
    if word in _TITLES or folded in _ALWAYS_GO_ON:
        return _End.NONE
    initial = len(word) == 1 and word.upper() != word.lower()
    if initial or word in _MAY_END or folded in _LOWER_MAY_END or _DOTTED.fullmatch(word):
        return _End.OPEN
    return _End.SURE
