"""How many speech tokens a text can take: what lies outside is no speech of this text."""

from __future__ import annotations

import re
import unicodedata

MAX_SPEECH_TOKENS = 1000
"""Upstream's cap, 40 seconds; the model was not trained on longer speech."""

_MARGIN_TOKENS = 75
_TOKENS_PER_CHARACTER = 5
_TOKENS_PER_WORD_CHARACTER = 15
"""Slow speech has 8 characters per second, 3 tokens each, and a character that is read as a word or two (a digit of
"1,234,567", "§", "±", "©") takes 0.6 s; a model that goes on for longer has lost its text. The margin of 3 s is for
breaths and pauses."""

_LEAST_TOKENS_PER_LETTER = 0.5
"""50 letters per second. Newsreaders have about 15; the fastest speakers on record have 10 to 11 words per second,
about 50 letters."""

_PAUSES = frozenset(".,:;!?'\"…·•¿¡")
"""Punctuation (of Unicode's category Po) that is not read aloud. Brackets, dashes and quotation marks have categories
of their own."""

_SPELLED = re.compile(r"\b[A-Z]{2,5}\b")
"""Words in capitals that may be read letter by letter; "W" has three syllables. Longer ones are read as words."""


def max_tokens_for(text: str) -> int:
    """Returns the number of tokens that no speech of this text exceeds."""
    words = sum(_is_read_as_word(character) for character in text)
    words += sum(len(match) for match in _SPELLED.findall(text))
    tokens = _TOKENS_PER_CHARACTER * (len(text) - words) + _TOKENS_PER_WORD_CHARACTER * words
    return min(MAX_SPEECH_TOKENS, _MARGIN_TOKENS + tokens)


def min_tokens_for(text: str) -> int:
    """Returns the number of tokens, at least 1, that every speech of this text has."""
    letters = sum(character.isalnum() for character in text)
    return min(MAX_SPEECH_TOKENS, max(1, int(_LEAST_TOKENS_PER_LETTER * letters)))


def _is_read_as_word(character: str) -> bool:
    category = unicodedata.category(character)
    if category == "Po":
        return character not in _PAUSES
    if category == "Lo":  # a syllable or a word of Chinese, Japanese or Korean
        return unicodedata.east_asian_width(character) in "WF"
    return category[0] in "NS"
