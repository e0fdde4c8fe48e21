"""Whether a text of twice the length costs twice the work."""

from __future__ import annotations

import time
from collections.abc import Callable

SIZES = (8_000, 16_000)
"""Characters: small texts hide a quadratic cost behind a constant one."""

HOSTILE = [
    *(" ", "\u00a0", "\u202f", "\u2003 ", " \u00a0", "\t", "\u3000", "\u2028", "\x85\x1c", "\n", "\n\n", "\u00a0\n"),
    *('"', "'", "“”", '"(', "' ", '." ', ".", "...", ". ", " .", "…", "?!", "!?", ".) ", "。", "。」", ".\u00a0"),
    *("(", "[", "](", "[a](", "{", ")", "<", "<a ", "</", "< ", "<think>", "<think", "</think>", "<!--", "<a b='"),
    *("1", "1.", "1. ", "1 ", "1,", "1,000", "12:34:", "-1", "- 1 ", "1️⃣", "1.1", "1:1 ", "€1", "1 °C "),
    *("\u0301", "é\u0301", "\u200d", "\u200c", "\u0301\u200d", "\ufe0f", "😀", "👨\u200d", "\u202e", "\ud800", "🇩"),
    *("*", "**a", "_a", "_a ", "_", "~~", "~", "`", "```", "|", "| ", "#", "# ", "- ", "* ", "> ", "=", "-", "—", "–"),
    *("a", "A", "A. ", "a. ", "a.b.", "e.g. ", "Dr. ", "word ", "Word. ", "a.m. I", "I. A", "3. O", "www.", "http://"),
    *("http://a", "a@", "&", "&#", "&amp;", "&lt;", "\\", "%", "$", "a/", "://", "a.a", "@", ", ", ";", ":", "a\n"),
]
"""Each is repeated to the wanted length."""


def assert_linear(work: Callable[[str], object], unit: str) -> None:
    """Fail if twice the text takes more than three times as long, in the best of several tries."""

    def seconds(size: int) -> float:
        text = (unit * size)[:size]
        started = time.process_time()
        work(text)
        return time.process_time() - started

    ratios = []
    for _ in range(8):
        short, long = (min(seconds(size) for _ in range(2)) for size in SIZES)
        if long < 3 * short or long < 0.002:
            return
        ratios.append(long / short)
    raise AssertionError(
        f"{unit!r}: twice the text takes {', '.join(f'{ratio:.1f}' for ratio in ratios)} times as long"
    )
