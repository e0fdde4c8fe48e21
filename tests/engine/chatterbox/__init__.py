"""Tests of the Chatterbox engine: all are skipped where its packages are not installed."""

import pytest

from tests.checkpoint_fixture import SKIP_REASON
from wyoming_chatterbox.engine.requirements import is_installed

if not is_installed():
    pytest.skip(SKIP_REASON, allow_module_level=True)
