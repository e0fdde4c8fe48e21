"""Seams are measured where they are, and as deep as they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from script.benchmarks import (
    seams,
)
from tests.benchmarks.helpers import RATE, noise

pytestmark = pytest.mark.timeout(300)
"""Four processes that import torch: a busy machine takes its time."""


JOINS = [12_345 + 9_600 * index for index in range(8)]


MANY = [12_345 + 9_600 * index for index in range(48)]


def changed(
    samples: seams.Samples, seconds: float, gains: Any, before: float = 0.0, joins: list[int] = JOINS
) -> seams.Samples:
    """Other gains from `before` each join for `seconds`."""
    samples = samples.copy()
    for at in joins:
        start = at - round(before * RATE)
        samples[start : start + round(seconds * RATE)] *= gains
    return samples


@pytest.mark.parametrize("depth", [-6.0, -20.0])
def test_a_hole_of_known_depth_is_measured(depth: float) -> None:
    found, error = seams.hole(changed(noise(), 0.005, 10 ** (depth / 20)), JOINS, 0.005)
    assert found == pytest.approx(depth, abs=1.5)
    assert error is not None and 0 < error < 1


def test_upstreams_fade_is_a_hole_of_25_decibels() -> None:
    faded = changed(noise(20), 0.02, np.linspace(0, 1, 480, dtype=np.float32), joins=MANY)
    for seconds, depth in ((0.002, -24.8), (0.005, -16.8)):
        assert seams.hole(faded, MANY, seconds)[0] == pytest.approx(depth, abs=0.6)


def test_where_nothing_is_done_there_is_no_hole() -> None:
    # Uneven as speech is: for most of the time it is quieter than its mean level, wherever one looks.
    gains = np.random.default_rng(2).choice([0.03, 1.0], p=[0.7, 0.3], size=len(noise(20)) // 48).repeat(48)
    for samples in (noise(20), noise(20) * gains.astype(np.float32)):
        found, error = seams.hole(samples, MANY, 0.002)
        assert found is not None and error is not None
        assert abs(found) < 2 * error < 5
    assert seams.hole(noise(), [], 0.002) == (None, None)


def test_the_level_to_one_chunk_is_that_of_the_window_at_the_join() -> None:
    whole = noise()
    quieter = changed(whole, 0.045, 0.5, before=0.005)
    assert seams.to_one_chunk(quieter, whole, JOINS, 0.005, 0.04) == pytest.approx([-6.02] * 8, abs=0.01)
    before = changed(whole, 0.005, 0.0, before=0.005)
    assert np.mean(seams.to_one_chunk(before, whole, JOINS, 0.005, 0.04)) == pytest.approx(-0.51, abs=0.05)
    beside = changed(changed(whole, 0.01, 0.5, before=0.015), 0.01, 0.5, before=-0.04)
    assert seams.to_one_chunk(beside, whole, JOINS, 0.005, 0.04) == pytest.approx([0] * 8, abs=0.001)


def test_a_join_in_silence_is_left_out() -> None:
    whole = noise()
    whole[JOINS[3] - 2400 : JOINS[3] + 2400] = 0
    assert len(seams.to_one_chunk(whole, whole, JOINS, 0.005, 0.04)) == 7
    found, _ = seams.hole(changed(whole, 0.002, 0.1), JOINS, 0.002)
    assert found == pytest.approx(-20, abs=1)
    assert len(seams.to_one_chunk(whole, whole, [10, len(whole) - 10], 0.005, 0.04)) == 0


def test_log_mel_distances_tell_joins_from_the_rest() -> None:
    whole = noise()
    mean, near, elsewhere = seams.mel_distances(changed(whole, 0.18, 0.5, before=0.09), whole, JOINS)
    assert near is not None and 4.5 < near < 6.1
    assert elsewhere is not None and elsewhere < 0.3
    assert mean is not None and elsewhere < mean < near
    assert seams.mel_distances(0.5 * whole, whole, JOINS) == (pytest.approx(6.02, abs=0.01),) * 3
    assert seams.mel_distances(whole, whole, []) == (0, None, 0)
    assert seams.mel_distances(whole[:100], whole, []) == (None, None, None)


def test_bands_that_nobody_hears_do_not_count() -> None:
    """Where one has nothing at all and the other very little, there is no difference worth a word."""
    tone = np.sin(np.arange(RATE) * 2 * np.pi * 1000 / RATE).astype(np.float32)
    assert seams.mel_distances(tone + 1e-5 * noise(1.0), tone, [])[0] < 0.5


def test_the_report_has_a_figure_for_the_worst_join() -> None:
    whole = noise()
    stream = whole.copy()
    stream[JOINS[2] : JOINS[2] + 120] *= 0.1
    row = seams.report(np.split(stream, JOINS), whole, None)
    assert row["joins"] == 8
    assert row["own_level_5ms"] == pytest.approx(-20, abs=0.1)
    assert row["exact_level"] is row["exact_mel_near"] is None
