"""What Multilingual was trained to read instead of some languages' own writing, as its developers' tokenizer does it.

| language | read as | by |
|---|---|---|
| Chinese | Cangjie codes of every character, words apart | Cangjie5_TC.json, spacy-pkuseg |
| Japanese | hiragana in place of kanji | pykakasi |
| Korean | jamo | Unicode's arithmetic |
| Hebrew | with vowel points | dicta-onnx |
| Russian | with stress marks | russian-text-stresser |

Where a package is not installed, the text is read as it is, and the log says so once.
"""

from __future__ import annotations

import functools
import json
import logging
import unicodedata
from collections.abc import Callable
from pathlib import Path

_LOGGER = logging.getLogger(__name__)

_FIRST_SYLLABLE, _LAST_SYLLABLE = 0xAC00, 0xD7AF
_LEADS, _VOWELS, _TAILS = 0x1100, 0x1161, 0x11A7
_VOWEL_COUNT, _TAIL_COUNT = 21, 28
"""Of Hangul syllables, see the Unicode standard, 3.12."""


class LanguagePreparation:
    """Texts of a language, decomposed and in lower case → what the tokenizer is given."""

    def __init__(self, cangjie: Path | None) -> None:
        """`cangjie`: the table of codes; None: Chinese stays as it is."""
        self._cangjie_file = cangjie
        self._warned: set[str] = set()

    def __call__(self, text: str, language: str) -> str:
        prepare: dict[str, Callable[[str], str]] = {
            "zh": self._chinese,
            "ja": self._japanese,
            "ko": decompose_hangul,
            "he": self._hebrew,
            "ru": self._russian,
        }
        if language not in prepare:
            return text
        try:
            return prepare[language](text)
        except ImportError as error:
            self._warn(language, f"{error.name} is not installed")
        except Exception as error:  # a package's own data is missing, or it fails on this text
            self._warn(language, f"its package failed ({type(error).__name__})")
        return text

    def _warn(self, language: str, reason: str) -> None:
        if language not in self._warned:
            self._warned.add(language)
            _LOGGER.warning("Texts in %s are read as they are written, worse than they could be: %s", language, reason)

    @functools.cached_property
    def _cangjie(self) -> dict[str, str]:
        """The code of each character, with its place among those of the same code behind it."""
        assert self._cangjie_file is not None
        codes: dict[str, str] = {}
        counts: dict[str, int] = {}
        for entry in json.loads(self._cangjie_file.read_text("utf-8")):
            character, code = entry.split("\t")[:2]
            number = counts.get(code, 0)
            counts[code] = number + 1
            codes[character] = f"{code}{number or ''}"
        return codes

    def _chinese(self, text: str) -> str:
        if self._cangjie_file is None:
            self._warn("zh", "Cangjie5_TC.json is not beside the weights")
            return text
        return "".join(map(self._cangjie_tokens, self._chinese_words(text)))

    def _chinese_words(self, text: str) -> str:
        try:
            words = self._segmenter.cut(text)
        except ImportError as error:
            self._warn("zh", f"{error.name} is not installed")
            return text
        return " ".join(words)

    @functools.cached_property
    def _segmenter(self):  # type: ignore[no-untyped-def]
        from spacy_pkuseg import pkuseg

        return pkuseg()

    def _cangjie_tokens(self, character: str) -> str:
        code = self._cangjie.get(character) if unicodedata.category(character) == "Lo" else None
        return character if code is None else "".join(f"[cj_{sign}]" for sign in (*code, "."))

    @functools.cached_property
    def _kakasi(self):  # type: ignore[no-untyped-def]
        from pykakasi import kakasi

        return kakasi()

    def _japanese(self, text: str) -> str:
        read = []
        for word in self._kakasi.convert(text):
            written, hiragana = word["orig"], word["hira"]
            if any("\u4e00" <= character <= "\u9fff" for character in written):
                # Topic and direction are written so and read otherwise: apart from what is before them.
                read.append(f" {hiragana}" if hiragana[:1] in ("は", "へ") else hiragana)
            else:
                read.append(written)
        return unicodedata.normalize("NFKD", "".join(read))

    @functools.cached_property
    def _dicta(self):  # type: ignore[no-untyped-def]
        from dicta_onnx import Dicta

        return Dicta()

    def _hebrew(self, text: str) -> str:
        return str(self._dicta.add_diacritics(text))

    @functools.cached_property
    def _stresser(self):  # type: ignore[no-untyped-def]
        from russian_text_stresser.text_stresser import RussianTextStresser

        return RussianTextStresser()

    def _russian(self, text: str) -> str:
        return str(self._stresser.stress_text(text))


def decompose_hangul(text: str) -> str:
    """Returns a text with every Hangul syllable as its two or three jamo."""
    return "".join(map(_jamo, text)).strip()


def _jamo(character: str) -> str:
    if not _FIRST_SYLLABLE <= ord(character) <= _LAST_SYLLABLE:
        return character
    rest, tail = divmod(ord(character) - _FIRST_SYLLABLE, _TAIL_COUNT)
    lead, vowel = divmod(rest, _VOWEL_COUNT)
    return chr(_LEADS + lead) + chr(_VOWELS + vowel) + (chr(_TAILS + tail) if tail else "")
