"""Fixtures of all tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.checkpoint_fixture import tiny_checkpoint

__all__ = ["tiny_checkpoint"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs hosts of its own, by the fixture that makes them."""
    for item in items:
        if {"machines", "one_machine"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("netns")


@pytest.fixture(scope="session", autouse=True)
def _own_data_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What servers keep is not the user's: neither read from his home nor left there."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("data")))
        yield
