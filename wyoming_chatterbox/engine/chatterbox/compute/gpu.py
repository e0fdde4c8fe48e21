"""What torch is told about an NVIDIA GPU before anything is loaded onto it."""

from __future__ import annotations

from typing import Any


def set_up(torch: Any, device: str) -> None:
    """Make a CUDA device the calling thread's, and leave out what would make results or latencies vary.

    Args:
        torch: the module.
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
