"""Fixtures of these tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.discovery.helpers import Machines
from tests.namespaces import lan, why_not


@pytest.fixture(scope="package")
def machines() -> Iterator[Machines]:
    """Three machines on two LANs, shared by the tests of this module."""
    reason = why_not()
    if reason:
        pytest.skip(reason)
    with lan() as three:
        yield three
