"""Fixtures of these tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.chatterbox.streaming.helpers import LONG
from tests.engine.chatterbox.tiny import ending_after
from wyoming_chatterbox.engine.chatterbox.engine import ChatterboxEngine


@pytest.fixture(scope="package")
def engine(tiny_checkpoint: Path) -> ChatterboxEngine:
    return ChatterboxEngine.load(tiny_checkpoint, "cpu", None, 0)


@pytest.fixture
def long_engine(engine: ChatterboxEngine) -> Iterator[ChatterboxEngine]:
    with ending_after(engine.chatterbox, LONG):
        yield engine
