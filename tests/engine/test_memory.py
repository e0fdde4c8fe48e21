"""Giving memory back, and saying how much."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import weakref
from pathlib import Path
from types import SimpleNamespace

import pytest

from wyoming_chatterbox.engine import memory
from wyoming_chatterbox.engine.chatterbox.compute.cuda_graphs import GraphFamily
from wyoming_chatterbox.engine.chatterbox.loader import read_state
from wyoming_chatterbox.engine.memory import Memory

SIZE = 200_000_000


def _in_a_new_process(program: str) -> list[float]:
    """Returns the list of numbers that the program prints; what this process frees meanwhile does not count there."""
    imports = "from wyoming_chatterbox.engine import memory; from wyoming_chatterbox.engine.memory import Memory"
    source = f"{imports}\nSIZE = {SIZE}\n{textwrap.dedent(program)}"
    done = subprocess.run([sys.executable, "-c", source], stdout=subprocess.PIPE, text=True, check=True)
    numbers: list[float] = json.loads(done.stdout)
    return numbers


def test_the_change_is_said_for_people() -> None:
    before, after = Memory(3_410_000_000, 3_100_000_000), Memory(812_000_000, 0)
    assert before.change_to(after) == "RSS 3.41 GB → 812 MB, VRAM 3.10 GB → 0 bytes"
    assert Memory(3_410_000_000, None).change_to(Memory(812_000_000, None)) == "RSS 3.41 GB → 812 MB"
    assert Memory(None, None).change_to(Memory(None, None)) == "how much is not known on this system"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is Linux'")
def test_memory_is_measured() -> None:
    (grown,) = _in_a_new_process("""
        before = Memory.now().resident
        block = bytearray(SIZE)
        print([Memory.now().resident - before])
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
    memory.give_back()
    assert alive() is None


class Cuda:
    """torch.cuda of a process that uses two GPUs."""

    def __init__(self, initialized: bool) -> None:
        self.reserved = [700, 300]
        self.initialized = initialized

    def is_initialized(self) -> bool:
        return self.initialized

    def device_count(self) -> int:
        return len(self.reserved)

    def memory_reserved(self, device: int) -> int:
        return self.reserved[device]

    def empty_cache(self) -> None:
        self.reserved = [0, 0]


def test_gpus_in_use_are_measured_and_their_caches_emptied(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = Cuda(initialized=True)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    assert Memory.now().gpu == 1000
    memory.give_back()
    assert Memory.now().gpu == 0


def test_gpus_that_nobody_uses_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = Cuda(initialized=False)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    memory.give_back()
    assert Memory.now().gpu is None
    assert cuda.reserved == [700, 300]


def test_workspaces_that_captured_graphs_use_are_not_freed(monkeypatch: pytest.MonkeyPatch) -> None:
    cleared: list[str] = []
    torch = SimpleNamespace(
        cuda=SimpleNamespace(is_initialized=lambda: True, empty_cache=lambda: None, Stream=lambda device: object()),
        _C=SimpleNamespace(_cuda_clearCublasWorkspaces=lambda: cleared.append("workspaces")),
    )
    monkeypatch.setitem(sys.modules, "torch", torch)
    family = GraphFamily(torch, "cuda")
    memory.give_back()
    assert not cleared
    del family
    memory.give_back()
    assert cleared == ["workspaces"]


def _resident(path: Path) -> int:
    """Bytes of a file's pages that this process has in memory."""
    total, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first, *rest = line.split()
        if "-" in first and not first.endswith(":"):
            inside = line.endswith(str(path))
        elif inside and first == "Rss:":
            total += int(rest[0]) * 1024
    return total


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is Linux'")
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_pages_of_weights_are_given_back_and_read_again(tmp_path: Path, suffix: str) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    path = tmp_path / f"weights{suffix}"
    size = 1_000_003
    state = {"large": torch.arange(size, dtype=torch.float32), "small": torch.ones(3)}
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    read = read_state(path)
    assert float(read["large"].sum()) == pytest.approx(size * (size - 1) / 2)
    was = _resident(path)
    assert was >= 4 * size

    written = torch.arange(size, dtype=torch.float32)
    released = memory.release_pages([*read.values(), written])
    assert 4 * size - 2 * 4096 <= released <= 4 * size, "what is no file's is left alone"
    assert _resident(path) <= was - released
    assert torch.equal(read["large"], state["large"]) and torch.equal(read["small"], state["small"])
    assert torch.equal(written, state["large"])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is Linux'")
def test_zeros_on_pages_take_no_room_until_they_are_written_to_and_leave_none() -> None:
    pytest.importorskip("torch")
    measured = _in_a_new_process("""
        import torch
        read = lambda: Memory.now().resident
        before = read()
        zeros = memory.zeros_on_pages((2, 3, SIZE // 24), torch.float32)
        assert zeros.shape == (2, 3, SIZE // 24) and zeros.dtype == torch.float32
        new, largest = read(), float(zeros[1, 2].abs().max())
        zeros.fill_(1.0)
        written = read()
        del zeros
        print([largest, new - before, written - before, read() - before])
        """)
    largest, new, written, left = measured
    assert largest == 0.0
    assert new < SIZE // 4 and 0.7 * SIZE < written < 1.5 * SIZE and left < SIZE // 4
