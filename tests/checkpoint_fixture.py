"""The tiny checkpoint as a fixture, for every test that runs the original model.

Import it where it is wanted: `from tests.checkpoint_fixture import tiny_checkpoint`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from wyoming_chatterbox.engine.requirements import is_installed

SKIP_REASON = "needs chatterbox-streaming and torch: run script/setup --chatterbox"

TOKENS = 30
"""Speech tokens in every answer of the tiny checkpoint: two chunks of the default size, 1.2 seconds."""


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with random weights of the original model, a built-in voice and a reference clip.

    From here on this process has the tiny sizes; another one calls `random_checkpoint.apply_tiny_sizes()` itself.
    """
    if not is_installed():
        pytest.skip(SKIP_REASON)
    from wyoming_chatterbox.testing.random_checkpoint import build

    return build(tmp_path_factory.mktemp("checkpoint"), tiny=True, eos_at=TOKENS)
