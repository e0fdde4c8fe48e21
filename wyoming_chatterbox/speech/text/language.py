"""The language of a sentence, where a request names neither a voice nor a language.

First the script decides: Greek letters are Greek. Between languages of one script lingua decides, among those of the
house only; its models of letter sequences tell two of them apart by three words.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import regex

if TYPE_CHECKING:
    from lingua import LanguageDetector as Lingua

_LOGGER = logging.getLogger(__name__)

_SCRIPTS: Mapping[str, tuple[str, ...]] = {
    "Hangul": ("ko",),
    "Hiragana": ("ja",),
    "Katakana": ("ja",),
    "Han": ("zh", "ja"),
    "Greek": ("el",),
    "Hebrew": ("he",),
    "Arabic": ("ar",),
    "Devanagari": ("hi",),
    "Cyrillic": ("ru",),
}
"""Scripts other than Latin and the languages of Chatterbox that are written in them."""

_LETTERS = {script: regex.compile(rf"\p{{Script={script}}}") for script in (*_SCRIPTS, "Latin")}

_LINGUA_CODES = {"no": "nb"}
"""Codes of models → lingua's, where they differ."""

_FIRST_RATIO = 1.5
"""How much likelier than the default language another must be for an utterance to begin in it."""

_LATER_RATIO = 4.0
"""How much likelier than the language spoken so far another must be to go on in it: a song's title is not a change."""


class LanguageDetector:
    """Tells the languages of a house apart. What it says of a text depends on nothing but the text."""

    def __init__(self, languages: Sequence[str]) -> None:
        """
        Args:
            languages: codes as models have them, at least two.
        """
        self.languages = tuple(languages)
        self._of_script = {
            script: tuple(code for code in self.languages if code in codes) for script, codes in _SCRIPTS.items()
        }
        elsewhere = {code for codes in _SCRIPTS.values() for code in codes}
        self._of_script["Latin"] = tuple(code for code in self.languages if code not in elsewhere)
        self._lingua: Lingua | None = None

    def load(self) -> None:
        """Load lingua's models of these languages; blocks, some 0.1 s and 60 MB for each. Without it, and without
        lingua, only scripts are told apart."""
        if all(len(codes) < 2 for script, codes in self._of_script.items() if script != "Han"):
            return
        try:
            from lingua import IsoCode639_1, LanguageDetectorBuilder
        except ImportError as error:
            _LOGGER.warning(
                "Languages of one script cannot be told apart without the package lingua-language-detector (%s); the "
                "voice's language is spoken",
                error,
            )
            return
        codes = [_LINGUA_CODES.get(code, code).upper() for code in self._of_script["Latin"]]
        builder = LanguageDetectorBuilder.from_iso_codes_639_1(*(getattr(IsoCode639_1, code) for code in codes))
        self._lingua = builder.with_preloaded_language_models().build()

    def confidences(self, text: str) -> dict[str, float]:
        """Returns how likely a text is of each language that it may be of, 0 to 1; nothing where it does not show.

        A text without letters shows none, and one in a script of other languages. It takes less than a millisecond for
        a sentence.
        """
        script = _script(text)
        candidates = self._of_script.get(script, ())
        if script == "Han" and len(candidates) > 1:
            candidates = ("zh",)  # Japanese has kana among its Han
        if len(candidates) < 2:
            return dict.fromkeys(candidates, 1.0)
        if self._lingua is None:
            return {}
        codes = {lingua: code for code, lingua in _LINGUA_CODES.items()}
        found = self._lingua.compute_language_confidence_values(text)
        values = {value.language.iso_code_639_1.name.lower(): value.value for value in found}
        return {codes.get(code, code): value for code, value in values.items()}


class UtteranceLanguage:
    """The language of one utterance's sentences: it changes only where that is clear."""

    def __init__(self, detector: LanguageDetector, default: str) -> None:
        """
        Args:
            default: code of the language that is spoken where nothing shows another.
        """
        self._detector = detector
        self._current = default
        self._begun = False

    def next(self, text: str) -> str:
        """Returns the code of the language in which to speak the next sentence."""
        confidences = self._detector.confidences(text)
        if confidences:
            best = max(confidences, key=lambda code: confidences[code])
            ratio = _LATER_RATIO if self._begun else _FIRST_RATIO
            if confidences[best] >= ratio * confidences.get(self._current, 0.0):
                self._current = best
            self._begun = True
        return self._current


def _script(text: str) -> str:
    """Returns the script of most of a text's letters; any kana make it Japanese, and no letters none."""
    counts = Counter({script: len(pattern.findall(text)) for script, pattern in _LETTERS.items()})
    kana = counts["Hiragana"] + counts["Katakana"]
    if kana and kana + counts["Han"] > counts["Latin"]:
        return "Hiragana"
    script, count = counts.most_common(1)[0]
    return script if count else ""
