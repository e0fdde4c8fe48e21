"""What torch is told before anything is loaded onto a GPU, and what of a GPU's memory is counted and given back."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from wyoming_chatterbox.engine import memory
from wyoming_chatterbox.engine.chatterbox.compute import gpu
from wyoming_chatterbox.engine.chatterbox.compute.cuda_graphs import GraphFamily
from wyoming_chatterbox.engine.memory import MemoryUsage


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """What torch was told; its switches are as before when the test ends."""
    told: dict[str, object] = {}
    monkeypatch.setattr(torch.cuda, "set_device", lambda index: told.update(device=index))
    monkeypatch.setattr(
        torch.backends.cuda, "enable_cudnn_sdp", lambda on: told.update(cudnn_attention=on), raising=False
    )
    monkeypatch.setattr(torch.backends, "cudnn", SimpleNamespace(allow_tf32=True))
    monkeypatch.setattr(torch.backends.cuda, "matmul", SimpleNamespace())
    return told


def test_attention_that_compiles_a_plan_for_every_text_is_off(told: dict[str, object]) -> None:
    gpu.set_up("cuda:1")
    assert told == {"device": 1, "cudnn_attention": False}
    assert torch.backends.cudnn.allow_tf32 is False
    assert torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction is False


def test_versions_of_torch_without_it_work_too(told: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.backends.cuda, "enable_cudnn_sdp")
    gpu.set_up("cuda")
    assert told == {"device": 0}


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

    def Stream(self, device: str) -> object:
        return object()

    def empty_cache(self) -> None:
        self.reserved = [0, 0]


def test_gpus_in_use_are_measured_and_their_caches_emptied(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = Cuda(initialized=True)
    monkeypatch.setattr(torch, "cuda", cuda)
    assert MemoryUsage.now().gpu == 1000
    memory.release_memory()
    assert MemoryUsage.now().gpu == 0


def test_gpus_that_nobody_uses_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = Cuda(initialized=False)
    monkeypatch.setattr(torch, "cuda", cuda)
    memory.release_memory()
    assert MemoryUsage.now().gpu is None
    assert cuda.reserved == [700, 300]


def test_workspaces_that_captured_graphs_use_are_not_freed(monkeypatch: pytest.MonkeyPatch) -> None:
    cleared: list[str] = []
    monkeypatch.setattr(torch, "cuda", Cuda(initialized=True))
    monkeypatch.setattr(torch._C, "_cuda_clearCublasWorkspaces", lambda: cleared.append("workspaces"), raising=False)
    family = GraphFamily("cuda")
    memory.release_memory()
    assert not cleared
    del family
    memory.release_memory()
    assert cleared == ["workspaces"]
