"""Fixtures of all tests."""

from __future__ import annotations

from tests.checkpoint_fixture import tiny_checkpoint

__all__ = ["tiny_checkpoint"]
