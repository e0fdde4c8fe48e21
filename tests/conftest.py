"""Fixtures of all tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.checkpoint_fixture import tiny_checkpoint

__all__ = ["tiny_checkpoint"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs hosts of its own or takes long, by the fixtures that it uses."""
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        if "machines" in fixtures:
            item.add_marker("netns")
        if "measured" in fixtures:  # a benchmark of all decoders
            item.add_marker("slow")


@pytest.fixture(scope="session", autouse=True)
def _own_data_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What servers keep is not the user's: neither read from his home nor left there."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("data")))
        yield
