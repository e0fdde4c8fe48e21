"""What torch is told before anything is loaded onto a GPU, on a torch that only writes it down."""

from __future__ import annotations

from types import SimpleNamespace

from wyoming_chatterbox.engine.chatterbox.compute import gpu


def _torch(calls: dict[str, object], **cuda_backend: object) -> SimpleNamespace:
    return SimpleNamespace(
        device=lambda name: SimpleNamespace(index=int(name.partition(":")[2]) if ":" in name else None),
        cuda=SimpleNamespace(set_device=lambda index: calls.update(device=index)),
        backends=SimpleNamespace(
            cudnn=SimpleNamespace(allow_tf32=True), cuda=SimpleNamespace(matmul=SimpleNamespace(), **cuda_backend)
        ),
    )


def test_attention_that_compiles_a_plan_for_every_text_is_off() -> None:
    calls: dict[str, object] = {}
    torch = _torch(calls, enable_cudnn_sdp=lambda on: calls.update(cudnn_attention=on))
    gpu.set_up(torch, "cuda:1")
    assert calls == {"device": 1, "cudnn_attention": False}
    assert torch.backends.cudnn.allow_tf32 is False
    assert torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction is False


def test_versions_of_torch_without_it_work_too() -> None:
    calls: dict[str, object] = {}
    gpu.set_up(_torch(calls), "cuda")
    assert calls == {"device": 0}
