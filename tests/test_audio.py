"""Samples on their way out."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from wyoming_chatterbox.audio import PCMEncoder, amplify, apply_gain_db, pcm16, silence, trim_silence

RATE = 24000


def tone(seconds: float, rate: int = RATE, frequency: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def decoded(pcm: bytes) -> np.ndarray:
    return np.frombuffer(pcm, dtype="<i2") / 32767


def test_silence_at_both_ends_is_cut_but_for_a_margin() -> None:
    samples = np.concatenate((silence(0.3, RATE), tone(0.5), silence(0.46, RATE)))
    trimmed = trim_silence(samples, RATE, margin=0.02)
    assert len(trimmed) / RATE == pytest.approx(0.54, abs=0.011)


def test_silence_inside_stays() -> None:
    samples = np.concatenate((tone(0.2), silence(0.5, RATE), tone(0.2)))
    assert len(trim_silence(samples, RATE)) == len(samples)


def test_nothing_but_silence_is_nothing() -> None:
    assert len(trim_silence(silence(1, RATE), RATE)) == 0


def test_gain_stops_short_of_clipping() -> None:
    assert np.abs(amplify(tone(0.1) * 0.2, 2.0)).max() == pytest.approx(0.2, abs=0.001)
    assert np.abs(amplify(tone(0.1), 10.0)).max() == pytest.approx(0.97, abs=0.001)
    assert len(amplify(silence(0, RATE), 2.0)) == 0


def test_pcm_clips_and_survives_what_is_no_number() -> None:
    samples = np.array([0, 1, -1, 2, -2, np.nan, np.inf, -np.inf, 0.5], dtype=np.float32)
    expected = [0, 32767, -32767, 32767, -32767, 0, 32767, -32767, 16384]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # what a cast of NaN gives depends on the processor
        pcm = pcm16(samples)
    assert np.frombuffer(pcm, dtype="<i2").tolist() == expected


@pytest.mark.parametrize("rate", [16000, 22050, 48000])
def test_resampling_in_chunks_is_resampling_at_once(rate: int) -> None:
    samples = tone(1.0)
    unsplit, chunked = PCMEncoder(rate), PCMEncoder(rate)
    once = unsplit.encode(samples, RATE) + unsplit.flush()
    pieces = b"".join(chunked.encode(part, RATE) for part in np.array_split(samples, 17)) + chunked.flush()
    assert pieces == once
    assert len(once) / 2 == pytest.approx(rate, abs=2)
    expected = tone(1.0, rate)
    middle = slice(rate // 10, rate * 9 // 10)
    assert np.abs(decoded(once)[: len(expected)] - expected)[middle].max() < 0.002


def test_two_source_rates_in_one_utterance_make_one_stream() -> None:
    encoder = PCMEncoder(24000)
    first = encoder.encode(tone(0.5, 22050), 22050)
    second = encoder.encode(tone(0.5), RATE)
    assert len(first + second + encoder.flush()) / 2 == pytest.approx(24000, abs=2)


def test_the_same_rate_is_passed_through_untouched() -> None:
    samples = tone(0.1)
    assert PCMEncoder(RATE).encode(samples, RATE) == pcm16(samples)


def test_louder_is_the_same_for_every_cut_and_rounds_what_would_be_cut() -> None:
    samples = (np.sin(np.arange(4800) / 7) * 0.6).astype(np.float32)
    amplified = apply_gain_db(samples, 9.0)
    assert np.array_equal(np.concatenate([apply_gain_db(part, 9.0) for part in np.split(samples, 48)]), amplified)
    assert 0.9 < np.abs(amplified).max() < 1.0 and np.abs(apply_gain_db(samples, 40.0)).max() <= 1.0
    soft = np.abs(amplified) < 0.7
    assert np.allclose(amplified[soft], samples[soft] * 10 ** (9 / 20))
    order = np.argsort(samples)
    assert (np.diff(amplified[order]) >= 0).all(), "nothing that was louder becomes softer"
    assert apply_gain_db(samples, 0.0) is samples
    assert np.allclose(apply_gain_db(samples, -6.0), samples * 0.501187, atol=1e-6)
