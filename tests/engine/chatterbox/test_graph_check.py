"""Comparing a step with its graph: what is a mismatch, what is rounding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from wyoming_chatterbox.engine.chatterbox.compute.graph_check import GraphMismatch, Trial, check_replay, tolerance


class _Step:
    """Doubles some numbers, and counts."""

    def __init__(self, replay: Callable[[_Step], None]) -> None:
        self.numbers, self.count = torch.zeros(4), torch.zeros(1, dtype=torch.long)
        self.trial = Trial(
            "a step", self._begin, self.work, lambda: replay(self), lambda: (self.numbers.clone(), self.count.clone())
        )

    def _begin(self) -> None:
        self.numbers.copy_(torch.arange(1.0, 5.0))
        self.count.zero_()

    def work(self) -> None:
        self.numbers.mul_(2)
        self.count.add_(1)


def _scaled(factor: float) -> Callable[[_Step], None]:
    def replay(step: _Step) -> None:
        step.work()
        step.numbers.mul_(factor)

    return replay


@pytest.mark.parametrize(
    ("factor", "dtype"), [(1, torch.float32), (1 + 1e-6, torch.float32), (1 + 2**-8, torch.bfloat16)]
)
def test_rounding_is_no_mismatch(factor: float, dtype: Any) -> None:
    check_replay(_Step(_scaled(factor)).trial, tolerance(dtype))


@pytest.mark.parametrize(
    ("factor", "dtype"),
    [(1.01, torch.float32), (0.0, torch.bfloat16), (float("nan"), torch.bfloat16), (float("inf"), torch.float16)],
)
def test_other_numbers_are_a_mismatch(factor: float, dtype: Any) -> None:
    with pytest.raises(GraphMismatch, match=r"a step: result 0 of a replay differs by"):
        check_replay(_Step(_scaled(factor)).trial, tolerance(dtype))


def test_whole_numbers_must_be_equal() -> None:
    def replay(step: _Step) -> None:
        step.work()
        step.count.add_(1)

    with pytest.raises(GraphMismatch, match="result 1 of a replay differs by 1"):
        check_replay(_Step(replay).trial, tolerance(torch.bfloat16))


def test_a_replay_that_does_nothing_is_a_mismatch() -> None:
    with pytest.raises(GraphMismatch):
        check_replay(_Step(lambda step: None).trial, tolerance(torch.bfloat16))
