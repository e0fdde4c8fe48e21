"""Which errors end all work on a GPU."""

from __future__ import annotations

import pytest

from wyoming_chatterbox.engine.base import EngineBroken, EngineError
from wyoming_chatterbox.engine.cuda_errors import is_sticky, raise_if_sticky
from wyoming_chatterbox.engine.requirements import is_installed

STICKY = [
    "CUDA error: device-side assert triggered\nCompile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.",
    "CUDA error: an illegal memory access was encountered",
    "CUDA error: unspecified launch failure",
    "CUDA error: misaligned address",
    "CUDA error: an illegal instruction was encountered",
    "CUDA error: the launch timed out and was terminated",
    "CUDA error: uncorrectable ECC error encountered",
    "CUDA error: hardware stack error",
    "CUDA error: unknown error",
    "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED (cudaErrorIllegalAddress)",
    "cudaErrorECCUncorrectable",
]
PASSING = [
    "CUDA out of memory. Tried to allocate 20.00 MiB",
    "CUDA error: no kernel image is available for execution on the device",
    "CUDA error: operation not permitted when stream is capturing",
    "CUDA error: operation failed due to a previous error during capture",
    "CUDA error: invalid argument",
    "CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "index 8194 is out of bounds for dimension 0 with size 8194",
    "unknown error",
    "illegal instruction in line 3 of the voice's file",
]


@pytest.mark.parametrize("text", STICKY)
def test_errors_after_which_only_a_new_process_helps(text: str) -> None:
    error = RuntimeError(text)
    assert is_sticky(error)
    with pytest.raises(EngineBroken, match="until the process starts anew") as caught:
        raise_if_sticky(error)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", PASSING)
def test_errors_that_pass(text: str) -> None:
    raise_if_sticky(RuntimeError(text))
    assert not is_sticky(RuntimeError(text))


def test_an_error_that_another_one_caused_counts_as_that() -> None:
    try:
        try:
            raise RuntimeError(STICKY[0])
        except RuntimeError as error:
            raise EngineError("voice 'anna' cannot be taken from its clip") from error
    except EngineError as error:
        assert is_sticky(error)


@pytest.mark.skipif(not is_installed(), reason="needs torch")
def test_what_torch_raises_inside_the_model_is_recognised() -> None:
    import torch

    from wyoming_chatterbox.engine.chatterbox.upstream_stream import wrap_errors

    with pytest.raises(EngineBroken), wrap_errors():
        raise torch.AcceleratorError(STICKY[0])
    with pytest.raises(EngineError, match="too little memory") as caught, wrap_errors():
        raise torch.cuda.OutOfMemoryError(PASSING[0])
    assert not isinstance(caught.value, EngineBroken)
