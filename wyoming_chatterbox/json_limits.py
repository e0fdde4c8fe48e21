"""Parses JSON from the network at a bounded cost: counts the values before any of them is created."""

from __future__ import annotations

import json
import re
from typing import Any

from .errors import WyomingChatterboxError
from .limits import MAX_JSON_DEPTH, MAX_JSON_DIGITS, MAX_JSON_VALUES

_BRACKETS = re.compile(r"[^\[\]{}]+")


class TooMuchJSON(WyomingChatterboxError, ValueError):
    """The document has more than MAX_JSON_VALUES values, or is nested deeper than MAX_JSON_DEPTH."""


def parse(document: bytes) -> Any:
    """Returns the value of a JSON document in UTF-8.

    Raises:
        ValueError: it is not JSON, or exceeds a limit.
    """
    text = document.decode("utf-8", "surrogatepass")
    _check(text)
    return json.loads(text, parse_int=_integer, parse_float=_float)


def _check(text: str) -> None:
    """Raises TooMuchJSON if a document has too many values or is nested too deeply. 1 MiB takes some milliseconds."""
    outside = text
    if _values(text) > MAX_JSON_VALUES or text.count("[") + text.count("{") > MAX_JSON_DEPTH:
        # Only now, as it is slower: ignore the contents of strings. Without escapes, every quote begins or ends a
        # string.
        plain = text.replace("\\\\", "").replace('\\"', "")
        if plain.count('"') > 2 * MAX_JSON_VALUES:
            raise TooMuchJSON(f"more than {MAX_JSON_VALUES} values")
        outside = "".join(plain.split('"')[::2])
        if _values(outside) > MAX_JSON_VALUES:
            raise TooMuchJSON(f"more than {MAX_JSON_VALUES} values")
    depth = 0
    for bracket in _BRACKETS.sub("", outside):
        depth += 1 if bracket in "[{" else -1
        if depth > MAX_JSON_DEPTH:
            raise TooMuchJSON(f"nested deeper than {MAX_JSON_DEPTH}")


def _values(text: str) -> int:
    """Returns at least the number of values minus one: all but the first follow one of these characters."""
    return sum(map(text.count, ",:[{"))


def _integer(digits: str) -> int:
    return int(_checked(digits))


def _float(digits: str) -> float:
    return float(_checked(digits))


def _checked(digits: str) -> str:
    if len(digits) > MAX_JSON_DIGITS:
        raise ValueError(f"a number of {len(digits)} digits")
    return digits
