"""Numbers, units and signs of a house in English words, for voices that read English only.

What is open is decided so, whoever wrote it:

- A comma with exactly three digits behind it groups thousands ("1,500" is fifteen hundred), unless a zero stands before
  it ("0,125"). Any other comma between two digits is a decimal one ("21,5", "45,90", "1.234,56").
- A point is a decimal one ("1.500" is one point five). Two or more of them are a number's groups of three digits
  ("1.500.000"), a day ("25.11.2026"), an address ("192.168.1.10") or a version ("2.4.1").
- H:MM with an hour up to 24 and minutes up to 59 is a time; other numbers around a colon are a ratio ("3:1").
- Two numbers around a dash are a range; with an equals sign behind them, a subtraction.
- A unit is read as one directly behind its number only: "5 A" but not "A".

Words that need no help are left as they are, so that ordinary sentences come out unchanged.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

import regex

VERSION = 1
"""Part of the fingerprints of the engines that use it: what another version makes of a text sounds different."""

_MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November"),
    "December",
)
_SMALL = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
_TENS = ("", "", "twenty", "thirty", "forty", "fifty")

_CURRENCIES = {
    **dict.fromkeys(("€", "EUR"), ("euro", "euros", "cent", "cents")),
    **dict.fromkeys(("$", "USD"), ("dollar", "dollars", "cent", "cents")),
    **dict.fromkeys(("£", "GBP"), ("pound", "pounds", "penny", "pence")),
    **dict.fromkeys(("CHF", "Fr."), ("franc", "francs", "centime", "centimes")),
    **dict.fromkeys(("¥", "JPY"), ("yen", "yen", "", "")),
    **dict.fromkeys(("ct", "¢"), ("cent", "cents", "", "")),
    "kr": ("krone", "kroner", "øre", "øre"),
    "zł": ("zloty", "zlotys", "grosz", "groszy"),
}
"""Sign → one of it, several, one hundredth of it, several; without hundredths: read as any number."""

_UNITS = {
    "°C": ("degree Celsius", "degrees Celsius"),
    "°F": ("degree Fahrenheit", "degrees Fahrenheit"),
    "°": ("degree", "degrees"),
    "%": ("percent", "percent"),
    "‰": ("per mille", "per mille"),
    **{
        f"{sign}{unit}": (f"{prefix}{one}", f"{prefix}{several}")
        for sign, prefix in (("", ""), ("m", "milli"), ("k", "kilo"), ("M", "mega"), ("G", "giga"))
        for unit, one, several in (
            ("W", "watt", "watts"),
            ("Wh", "watt hour", "watt hours"),
            ("V", "volt", "volts"),
            ("A", "amp", "amps"),
            ("Ah", "amp hour", "amp hours"),
            ("VA", "volt-ampere", "volt-amperes"),
            ("Ω", "ohm", "ohms"),
            ("Hz", "hertz", "hertz"),
            ("Pa", "pascal", "pascals"),
            ("bar", "bar", "bar"),
        )
    },
    "hPa": ("hectopascal", "hectopascals"),
    "psi": ("P S I", "P S I"),
    "inHg": ("inch of mercury", "inches of mercury"),
    **{
        f"{sign}{unit}": (f"{prefix}{word}", f"{prefix}{word}s")
        for sign, prefix in (("k", "kilo"), ("M", "mega"), ("G", "giga"), ("T", "tera"))
        for unit, word in (("B", "byte"), ("bit", "bit"), ("b", "bit"))
    },
    "Mbps": ("megabit per second", "megabits per second"),
    "Gbps": ("gigabit per second", "gigabits per second"),
    "km": ("kilometer", "kilometers"),
    "m": ("meter", "meters"),
    "cm": ("centimeter", "centimeters"),
    "mm": ("millimeter", "millimeters"),
    "µm": ("micrometer", "micrometers"),
    **{
        f"{sign}m{power}": (f"{word} {prefix}meter", f"{word} {prefix}meters")
        for sign, prefix in (("", ""), ("c", "centi"), ("k", "kilo"))
        for power, word in (("²", "square"), ("2", "square"), ("³", "cubic"), ("3", "cubic"))
    },
    **dict.fromkeys(("l", "L"), ("liter", "liters")),
    **dict.fromkeys(("ml", "mL"), ("milliliter", "milliliters")),
    "kg": ("kilogram", "kilograms"),
    "g": ("gram", "grams"),
    "mg": ("milligram", "milligrams"),
    **dict.fromkeys(("µg", "μg"), ("microgram", "micrograms")),
    "s": ("second", "seconds"),
    "ms": ("millisecond", "milliseconds"),
    "min": ("minute", "minutes"),
    "h": ("hour", "hours"),
    "mph": ("mile per hour", "miles per hour"),
    "kn": ("knot", "knots"),
    "rpm": ("revolution per minute", "revolutions per minute"),
    "K": ("kelvin", "kelvins"),
    "lx": ("lux", "lux"),
    "lm": ("lumen", "lumens"),
    "dB": ("decibel", "decibels"),
    "dBm": ("D B M", "D B M"),
    "ppm": ("part per million", "parts per million"),
    "ppb": ("part per billion", "parts per billion"),
}
"""Sign → one, several. A slash between two of them is "per"."""

_NEVER_JOINED = frozenset({"s", "K"})
"""Units that are none without a space before them: "the 80s", "a 4K screen"."""

_SIGNS = {"≥": "at least", "≤": "at most", "≈": "about", "±": "plus or minus"}

_DOMAINS = (
    "com org net edu gov io co uk de fr info biz us ca au tv ai eu nl ch se dk fi pl cz jp cn es pt local lan home"
)
"""Ends of host names; those that are English words are left out."""


def _alternatives(words: Iterable[str]) -> str:
    return "|".join(regex.escape(word) for word in sorted(words, key=len, reverse=True))


_NUMBER = r"(?:\d{1,3}(?:,\d{3})++(?![\d])|\d++)(?:\.\d++)?"
_BEGIN = r"(?<![\w.,])"
_MINUS = r"(?P<minus>(?<![\w.,°%)\-–]|[\d°%)]\s)-)?"
_UNIT = _alternatives(_UNITS)
_MONEY = _alternatives(_CURRENCIES)
_LETTER_MONEY = r"(?![\p{L}])"

_TIMESTAMP = regex.compile(
    r"\b(\d{4})-(\d{2})-(\d{2})(?:(?:T|,? )(\d{2}):(\d{2})(?::\d{2}(?:[.,]\d+)?)?(?:Z|[+-]\d{2}:?\d{2})?)?(?![\w-])"
)
_DAY = regex.compile(r"(?<![\w.])(\d{1,2})\.(\d{1,2})\.(\d{4})(?!\d|\.\d)")
_GROUPED_BY_POINTS = regex.compile(r"(?<![\w.,])\d{1,3}(?:\.\d{3}){2,}+(?:,\d++)?(?![\w]|[.,]\d)")
_GERMAN = regex.compile(r"(?<![\w.,])\d{1,3}(?:\.\d{3})++,\d++(?![\w]|[.,]\d)")
_SEVERAL_POINTS = regex.compile(r"(?<![\w.,])([vV]?)(\d++(?:\.\d++){2,}+)(?::(\d{1,5}))?(?![\w:])")
_DECIMAL_COMMA = regex.compile(r"(?<![\d.,])(?:(\d++),(?!\d{3}(?!\d))(\d++)|(0),(\d{3}))(?![.,]?\d)")
_BARE_POINT = regex.compile(r"(?<![\w.,])\.(?=\d)")
_TIME = regex.compile(r"(?<![\d:.,])(\d{1,2}):(\d{2})(?::(\d{2}))?(?![\d:]|\.\d)(?P<half>\s?[AaPp]\.?[Mm]\b)?")
_RATIO = regex.compile(r"(?<![\w:.,])(\d++(?:\.\d++)?)\s?:\s?(\d++(?:\.\d++)?)(?![\w:]|\.\d)")
_RANGE = regex.compile(rf"{_BEGIN}(?<![-–])({_NUMBER})\s?[-–]\s?(?={_NUMBER}\s?(?:{_UNIT}|{_MONEY})(?!\w))")
_SUBTRACTION = regex.compile(r"(?<=\d) [-–] (?=[\d.,]++(?: [-–+×*/] [\d.,]++){0,4}+ ?=)")
_SPACED_DASH = regex.compile(r"(?<=\d) [-–] (?=\d)")
_TIMES = regex.compile(r"(?<![\d:.,])(\d{1,2}:\d{2}(?:\s?[AaPp]\.?[Mm]\.?)?)\s?[-–]\s?(?=\d{1,2}:\d{2}(?![\d:]))")
_MONEY_BEFORE = regex.compile(
    rf"(?<![\w]){_MINUS}(?P<sign>[€$£¥]|(?:EUR|USD|GBP|CHF|JPY)\s)\s?(?P<number>{_NUMBER})"
    r"(?!\d|[.,]\d|\s?(?:hundred|thousand|million|billion|trillion|[kKmMbB]\b))"
)
_MONEY_BEHIND = regex.compile(
    rf"{_MINUS}{_BEGIN}(?<![$€£])(?P<number>{_NUMBER})(?P<big>\s(?:hundred|thousand|million|billion|trillion))?"
    rf"\s?(?P<sign>{_MONEY})(?!\p{{L}})(?:/(?P<per>{_UNIT})(?!\w))?"
)
_MEASURE = regex.compile(
    rf"{_MINUS}{_BEGIN}(?<![$€£])(?P<number>{_NUMBER})(?:\s?(?P<unit>{_UNIT}))(?:/(?P<per>{_UNIT}))?(?![\w'’²³])(?!-\p{{L}})"
)
_NEGATIVE = regex.compile(r"(?<![\w.,°%)\-–+]|[\d°%)] )-(?=\d)")
_HOST = regex.compile(
    rf"(?<![\w.-])(?:([\w.+-]{{1,64}}+)@)?((?:[a-z0-9-]{{1,63}}\.){{1,8}}(?:{'|'.join(_DOMAINS.split())}))(?![\w-]|\.\w)",
    regex.I,
)
_HAS_WORK = regex.compile(r"\d|[≥≤≈±]|\w\.\w")


def spoken_english(text: str) -> str:
    """Returns a sentence with its numbers, units, currencies, times, addresses and signs as an English voice reads
    them right. Numbers stay digits, with a decimal point; the voices read those.

    Args:
        text: one cleaned sentence of any language.
    """
    if not _HAS_WORK.search(text):
        return text
    text = spoken_signs(text)
    text = _HOST.sub(_host, text)
    text = _TIMESTAMP.sub(_timestamp, text)
    text = _DAY.sub(_day, text)
    text = _GROUPED_BY_POINTS.sub(_point_decimal, text)
    text = _GERMAN.sub(_point_decimal, text)
    text = _SEVERAL_POINTS.sub(_several_points, text)
    text = _DECIMAL_COMMA.sub(lambda match: f"{match[1] or match[3]}.{match[2] or match[4]}", text)
    text = _BARE_POINT.sub("0.", text)
    text = spoken_colons(text)
    text = _RANGE.sub(r"\1 to ", text)
    text = _MONEY_BEFORE.sub(_money, text)
    text = _MONEY_BEHIND.sub(_money, text)
    text = _MEASURE.sub(_measure, text)
    text = spoken_dashes(text)
    return str(_NEGATIVE.sub("minus ", text))


def spoken_signs(text: str) -> str:
    """Returns the text with the signs in words that voices pass over in silence ("≥ 5" → "at least 5")."""
    for sign, words in _SIGNS.items():
        if sign in text:
            text = " ".join(text.replace(sign, f" {words} ").split())
    return text


def spoken_colons(text: str) -> str:
    """Returns the text with its times ("07:05" → "seven oh five") and ratios ("3:1" → "3 to 1") in words."""
    if ":" not in text:
        return text
    return str(_RATIO.sub(r"\1 to \2", _TIME.sub(_time, _TIMES.sub(r"\1 to ", text))))


def spoken_dashes(text: str) -> str:
    """Returns the text with a dash apart from the numbers around it as "to", or as "minus" in a calculation."""
    return str(_SPACED_DASH.sub(" to ", _SUBTRACTION.sub(" minus ", text)))


@cache
def _below_60(number: int) -> str:
    if number < len(_SMALL):
        return _SMALL[number]
    tens, ones = divmod(number, 10)
    return _TENS[tens] + (f"-{_SMALL[ones]}" if ones else "")


def _time(match: regex.Match[str]) -> str:
    hour, minute, second = int(match[1]), int(match[2]), match[3]
    if hour > 24 or minute > 59 or (second and int(second) > 59):
        return str(match[0])
    half = match["half"] or ""
    words = _clock(hour, minute, bool(half or second))
    if second:
        words += f" and {_below_60(int(second))} second{'' if int(second) == 1 else 's'}"
    return f"{words} {half.strip()}" if half else words


def _clock(hour: int, minute: int, short: bool = False) -> str:
    """ "seven oh five"; `short`: something follows that says that it is a time."""
    if minute:
        return f"{_below_60(hour)} {'oh ' if minute < 10 else ''}{_below_60(minute)}"
    if short:
        return _below_60(hour)
    return "midnight" if hour in (0, 24) else f"{_below_60(hour)} o'clock"


def _timestamp(match: regex.Match[str]) -> str:
    day = _date(int(match[3]), int(match[2]), match[1])
    if day is None or (match[4] and (int(match[4]) > 24 or int(match[5]) > 59)):
        return str(match[0])
    return f"{day} at {_clock(int(match[4]), int(match[5]))}" if match[4] else day


def _day(match: regex.Match[str]) -> str:
    return _date(int(match[1]), int(match[2]), match[3]) or str(match[0])


def _date(day: int, month: int, year: str) -> str | None:
    if not (1 <= day <= 31 and 1 <= month <= 12):
        return None
    ending = "th" if 11 <= day <= 13 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")
    return f"{_MONTHS[month - 1]} {day}{ending}, {year}"


def _point_decimal(match: regex.Match[str]) -> str:
    return str(match[0]).replace(".", "").replace(",", ".")


def _several_points(match: regex.Match[str]) -> str:
    parts = match[2].split(".")
    word = " dot " if len(parts) == 4 and not match[1] else " point "
    port = f" port {match[3]}" if match[3] else ""
    return (f"{match[1]} " if match[1] else "") + word.join(parts) + port


def _host(match: regex.Match[str]) -> str:
    user = f"{match[1].replace('.', ' dot ')} at " if match[1] else ""
    return user + str(match[2]).replace(".", " dot ")


def _money(match: regex.Match[str]) -> str:
    groups = match.groupdict()
    one, several, cent, cents = _CURRENCIES[match["sign"].strip()]
    whole, _, hundredths = match["number"].partition(".")
    big, per = groups.get("big") or "", groups.get("per")
    if cent and len(hundredths) == 2 and not big:
        amount = _count(whole, one, several) if int(whole.replace(",", "")) or not int(hundredths) else ""
        rest = _count(str(int(hundredths)), cent, cents) if int(hundredths) else ""
        words = " and ".join(filter(None, (amount, rest)))
    else:
        words = _count(match["number"] + big, one, several)
    return ("minus " if match["minus"] else "") + words + (f" per {_UNITS[per][0]}" if per else "")


def _measure(match: regex.Match[str]) -> str:
    if match["unit"] in _NEVER_JOINED and match[0][-2:-1].isdigit():
        return str(match[0])
    one, several = _UNITS[match["unit"]]
    words = _count(match["number"], one, several) + (f" per {_UNITS[match['per']][0]}" if match["per"] else "")
    return ("minus " if match["minus"] else "") + words


def _count(number: str, one: str, several: str) -> str:
    return f"{number} {one if number == '1' else several}"
