"""Tensors and weights whose memory goes back to the system."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.engine.test_memory import SIZE, in_a_new_process
from wyoming_chatterbox.engine.chatterbox.compute.pages import release_pages
from wyoming_chatterbox.engine.chatterbox.loader import read_state


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
    path = tmp_path / f"weights{suffix}"
    size = 1_000_003
    state = {"large": torch.arange(size, dtype=torch.float32), "small": torch.ones(3)}
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    read = read_state(path)
    assert float(read["large"].sum()) == pytest.approx(size * (size - 1) / 2)
    was = _resident(path)
    assert was >= 4 * size

    written = torch.arange(size, dtype=torch.float32)
    released = release_pages([*read.values(), written])
    assert 4 * size - 2 * 4096 <= released <= 4 * size, "what is no file's is left alone"
    assert _resident(path) <= was - released
    assert torch.equal(read["large"], state["large"]) and torch.equal(read["small"], state["small"])
    assert torch.equal(written, state["large"])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is Linux'")
def test_zeros_on_pages_take_no_room_until_they_are_written_to_and_leave_none() -> None:
    measured = in_a_new_process("""
        import torch
        from wyoming_chatterbox.engine.chatterbox.compute.pages import zeros_on_pages
        read = lambda: MemoryUsage.now().resident
        before = read()
        zeros = zeros_on_pages((2, 3, SIZE // 24), torch.float32)
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
