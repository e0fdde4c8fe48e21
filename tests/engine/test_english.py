"""Numbers, units and signs become what an English voice reads right."""

from __future__ import annotations

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from tests.speech.text.linearity import HOSTILE, assert_linear
from wyoming_chatterbox.engine.embedded import HibariEngine
from wyoming_chatterbox.engine.english import spoken_english


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        (
            "It is 21,5 °C and -3 °C, or 1 °C.",
            "It is 21.5 degrees Celsius and minus 3 degrees Celsius, or 1 degree Celsius.",
        ),
        ("21° or 70 °F", "21 degrees or 70 degrees Fahrenheit"),
        ("45,90 €", "45 euros and 90 cents"),
        ("€45,90, $1,299.99 and £1", "45 euros and 90 cents, 1,299 dollars and 99 cents and 1 pound"),
        ("12 €, 5 EUR, EUR 5, 3.50 £, 45.00 €", "12 euros, 5 euros, 5 euros, 3 pounds and 50 pence, 45 euros"),
        ("0,30 €/kWh or 30 ct/kWh", "30 cents per kilowatt hour or 30 cents per kilowatt hour"),
        ("$1.5 million and 5 million €", "$1.5 million and 5 million euros"),
        ("-5 €", "minus 5 euros"),
        (".5 and 0,125 and 1,500 and 12,5", "0.5 and 0.125 and 1,500 and 12.5"),
        ("1.234,56 and 1.500.000 and 1.5", "1234.56 and 1500000 and 1.5"),
        ("1,2,3 and a list of 1,500,000", "1,2,3 and a list of 1,500,000"),
        ("192.168.1.10 runs 2.4.1.", "192 dot 168 dot 1 dot 10 runs 2 point 4 point 1."),
        ("10.0.0.1:8123, v2.4.1", "10 dot 0 dot 0 dot 1 port 8123, v 2 point 4 point 1"),
        ("5 W, 1 W, 230 V, 10 A, 1,500 W", "5 watts, 1 watt, 230 volts, 10 amps, 1,500 watts"),
        ("1013 hPa, 3 m/s, 5 kΩ, 12 l/min", "1013 hectopascals, 3 meters per second, 5 kiloohms, 12 liters per minute"),
        ("35 µg/m³, 800 ppm, 2,4 GHz", "35 micrograms per cubic meter, 800 parts per million, 2.4 gigahertz"),
        ("45 %, 30 min, 5 s, -40 dBm", "45 percent, 30 minutes, 5 seconds, minus 40 D B M"),
        ("2026-11-25T07:05:00", "November 25th, 2026 at seven oh five"),
        ("2026-11-25T19:00:00+01:00 or 2026-11-25", "November 25th, 2026 at nineteen o'clock or November 25th, 2026"),
        ("2026-11-25 07:05", "November 25th, 2026 at seven oh five"),
        ("2026-13-25", "2026-13-25"),
        ("25.11.2026", "November 25th, 2026"),
        ("07:05, 00:00, 7:00 AM, 7:30 p.m., 12:34:56", None),
        ("3:1, 16:9 and 100:50", "3 to 1, 16 to 9 and 100 to 50"),
        ("07:00-09:30", "seven o'clock to nine thirty"),
        ("18-22 °C, 18,5 – 22,5 °C, 2 - 5", "18 to 22 degrees Celsius, 18.5 to 22.5 degrees Celsius, 2 to 5"),
        ("5 - 3 = 2, 10 - 12", "5 minus 3 = 2, 10 to 12"),
        ("see example.org, me@example.co.uk.", "see example dot org, me at example dot co dot uk."),
        ("light.kitchen in e.g. Rome", "light.kitchen in e.g. Rome"),
        ("≥ 5, ±2 °C", "at least 5, plus or minus 2 degrees Celsius"),
        ("It is -5 outside, 555-1234, COVID-19", "It is minus 5 outside, 555-1234, COVID-19"),
        ("A 4K screen, the 80s, 10 A's, A-1, W, V", "A 4K screen, the 80s, 10 A's, A-1, W, V"),
        ("It was 21.5. Then 3 left.", "It was 21.5. Then 3 left."),
        ("The kitchen light is on.", "The kitchen light is on."),
    ],
)
def test_spoken_english(text: str, spoken: str | None) -> None:
    times = "seven oh five, midnight, seven AM, seven thirty p.m., twelve thirty-four and fifty-six seconds"
    assert spoken_english(text) == (spoken or times)


@given(st.text(st.sampled_from(list("0123456789.,:-–€$ °CWmsK/%=@aT")), max_size=40))
def test_any_text_is_taken(text: str) -> None:
    spoken_english(text)


@pytest.mark.parametrize(
    "unit", [*HOSTILE, "1 W ", "1-", "1 - ", "1.1.1:", "a.", "a.a@", "-1 €", "2026-11-25T"], ids=ascii
)
def test_twice_the_text_costs_twice_the_work(unit: str) -> None:
    assert_linear(lambda text: spoken_english("1 " + text), unit)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("21,5 °C", "twenty one point five degrees Celsius"),
        ("45,90 €", "forty five euros and ninety cents"),
        ("192.168.1.10", "one hundred ninety two dot one hundred sixty eight dot one dot ten"),
        ("2.4.1", "two point four point one"),
        (".5", "zero point five"),
        ("230 V", "two hundred thirty volts"),
        ("07:05", "seven oh five"),
    ],
)
def test_the_embedded_voice_says_the_words(text: str, words: str) -> None:
    engine = HibariEngine()

    def sounds(value: str) -> str:
        return regex.sub(r"[ˈˌ\s.,]", "", engine._tts.g2p(value)).replace("æ", "ə").replace("ᵊ", "ə")

    heard: list[str] = []
    engine._tts.stream = lambda given, seed: heard.append(given) or iter(())
    list(engine._parts(text, None))
    assert sounds(heard[0]).replace("ənd", "") == sounds(words).replace("ənd", "")
