"""An NVIDIA GPU: what torch is told before anything is loaded onto it, and the memory that torch holds there."""

from __future__ import annotations

import torch

from ...memory import register_device_memory
from . import cuda_graphs


class CudaMemory:
    """What torch's allocator holds on all GPUs; what CUDA itself takes is not in it."""

    def reserved(self) -> int | None:
        """Returns bytes; None while this process uses no GPU."""
        if not torch.cuda.is_initialized():
            return None
        return sum(int(torch.cuda.memory_reserved(device)) for device in range(torch.cuda.device_count()))

    def release(self) -> None:
        """Return to the driver what no tensor uses."""
        if not torch.cuda.is_initialized():
            return
        # What cuBLAS took for every stream is not the allocator's to give back. A captured graph goes on using it.
        clear = getattr(torch._C, "_cuda_clearCublasWorkspaces", None)
        if clear is not None and not cuda_graphs.any_alive():
            clear()
        torch.cuda.empty_cache()


register_device_memory(CudaMemory())


def set_up(device: str) -> None:
    """Make a CUDA device the calling thread's, and leave out what would make results or latencies vary.

    Args:
        device: cuda or cuda:N.
    """
    # Streams and graphs belong to the thread's current device.
    torch.cuda.set_device(torch.device(device).index or 0)
    # Convolutions would round their input to 10 bits, and the vocoder's joins would not be exact.
    torch.backends.cudnn.allow_tf32 = False
    # Partial sums of a product in float16 would overflow before the whole does.
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
    # Newer versions of torch prefer cuDNN's attention on data-centre GPUs. It compiles a plan for every shape in every
    # thread (23 to 37 ms each), and every text has new shapes: more than the attention itself takes.
    enable = getattr(torch.backends.cuda, "enable_cudnn_sdp", None)
    if enable is not None:
        enable(False)
