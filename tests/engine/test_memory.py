"""Giving memory back, and saying how much."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import weakref

import pytest

from wyoming_chatterbox.engine import memory
from wyoming_chatterbox.engine.memory import MemoryUsage

SIZE = 200_000_000


def in_a_new_process(program: str) -> list[float]:
    """Returns the list of numbers that the program prints; what this process frees meanwhile does not count there."""
    imports = "from wyoming_chatterbox.engine import memory; from wyoming_chatterbox.engine.memory import MemoryUsage"
    source = f"{imports}\nSIZE = {SIZE}\n{textwrap.dedent(program)}"
    done = subprocess.run([sys.executable, "-c", source], stdout=subprocess.PIPE, text=True, check=True)
    numbers: list[float] = json.loads(done.stdout)
    return numbers


def test_the_change_is_said_for_people() -> None:
    before, after = MemoryUsage(3_410_000_000, 3_100_000_000), MemoryUsage(812_000_000, 0)
    assert before.diff(after) == "RSS 3.41 GB → 812 MB, VRAM 3.10 GB → 0 bytes"
    assert MemoryUsage(3_410_000_000, None).diff(MemoryUsage(812_000_000, None)) == "RSS 3.41 GB → 812 MB"
    assert MemoryUsage(None, None).diff(MemoryUsage(None, None)) == "how much is not known on this system"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is Linux'")
def test_memory_is_measured() -> None:
    (grown,) = in_a_new_process("""
        before = MemoryUsage.now().resident
        block = bytearray(SIZE)
        print([MemoryUsage.now().resident - before])
        """)
    assert SIZE * 0.7 < grown < SIZE * 1.5


class Node:
    """Something that can be in a circle."""

    other: Node


def test_circles_that_nobody_needs_are_freed() -> None:
    one, two = Node(), Node()
    one.other, two.other = two, one
    alive = weakref.ref(one)
    del one, two
    memory.release_memory()
    assert alive() is None


class Device:
    """An accelerator whose memory an engine has registered."""

    def __init__(self, held: int | None) -> None:
        self.held = held

    def reserved(self) -> int | None:
        return self.held

    def release(self) -> None:
        self.held = self.held and 0


def test_accelerators_in_use_are_counted_and_released(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_devices", [])
    assert MemoryUsage.now().gpu is None
    for held in (None, 700, 300):
        memory.register_device_memory(Device(held))
    assert MemoryUsage.now().gpu == 1000
    memory.release_memory()
    assert MemoryUsage.now().gpu == 0
