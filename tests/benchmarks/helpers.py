"""What these tests share."""

from __future__ import annotations

import numpy as np

from script.benchmarks import (
    seams,
)

RATE = seams.RATE


def noise(seconds: float = 4.0) -> seams.Samples:
    return (0.1 * np.random.default_rng(1).standard_normal(round(seconds * RATE))).astype(np.float32)
