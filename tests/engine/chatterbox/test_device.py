"""Which device of torch the model runs on."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from wyoming_chatterbox.engine.base import EngineUnavailable
from wyoming_chatterbox.engine.chatterbox.compute import device as device_module
from wyoming_chatterbox.engine.chatterbox.compute.device import pick_device


@dataclass
class Machine:
    """The accelerators that torch finds."""

    cuda: int = 0
    mps: bool = False

    def apply(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: self.cuda > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: self.cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: self.mps)


@pytest.mark.parametrize(
    ("machine", "wanted", "device"),
    [
        (Machine(), "auto", "cpu"),
        (Machine(cuda=1), "auto", "cuda"),
        (Machine(mps=True), "auto", "mps"),
        (Machine(cuda=1, mps=True), "auto", "cuda"),
        (Machine(cuda=1), "cpu", "cpu"),
        (Machine(cuda=1), "cuda", "cuda"),
        (Machine(cuda=2), "cuda:1", "cuda:1"),
        (Machine(mps=True), "mps", "mps"),
    ],
)
def test_a_device_is_picked(machine: Machine, wanted: str, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.apply(monkeypatch)
    assert pick_device(wanted) == device


@pytest.mark.parametrize(
    ("machine", "wanted", "words"),
    [
        (Machine(), "cuda", "finds no CUDA GPU"),
        (Machine(), "cuda:0", "finds no CUDA GPU"),
        (Machine(cuda=1), "cuda:1", "only 1 CUDA GPUs"),
        (Machine(cuda=1), "mps", "finds no Metal GPU"),
    ],
)
def test_a_device_that_is_not_here_is_refused(
    machine: Machine, wanted: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.apply(monkeypatch)
    with pytest.raises(EngineUnavailable, match=words) as caught:
        pick_device(wanted)
    assert wanted in str(caught.value)


def test_a_gpu_that_torch_cannot_use_is_said(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    Machine().apply(monkeypatch)
    monkeypatch.setattr(torch, "__version__", "9.9")
    monkeypatch.setattr(device_module, "nvidia_gpu_present", lambda: True)
    assert pick_device("auto") == "cpu"
    assert "There is an NVIDIA GPU, but torch 9.9 cannot use it" in caplog.text
