"""How a Chatterbox model is computed: speed against fidelity, and the parts of that choice."""

from __future__ import annotations

from dataclasses import dataclass

from .knobs import check_knobs, knob


@dataclass(frozen=True)
class ComputeSettings:
    """How a Chatterbox model is computed; decided when it is loaded.

    The profile and the machine choose what is `auto` or 0 here, see engine/chatterbox/compute/plan.py.
    """

    profile: str = knob(
        "auto",
        "Speed against fidelity: exact computes what upstream computes, balanced and fast trade some of it for "
        "speed (docs/performance.md); auto is fast for nano on a CPU, otherwise exact. The settings below override "
        "single parts of a profile",
        choices=("auto", "exact", "balanced", "fast"),
        group="Speed",
    )
    dtype: str = knob(
        "auto",
        "Precision of the weights. auto on an NVIDIA GPU: bfloat16 for the language model, and for the flow decoder"
        " float32 with exact, otherwise bfloat16 (before RTX 30xx: float16 and float32); auto on a CPU: float32 "
        "with exact, otherwise what is measured to be fastest (with fast for the vocoder too). float16 applies to "
        "the language model only on a GPU, and computes in float32 on a CPU",
        choices=("auto", "float32", "float16", "bfloat16"),
        group="Speed",
    )
    quantize: str = knob(
        "auto",
        "8-bit integer weights for the language model and the flow decoder, on a CPU; auto is int8 with fast, if "
        "this CPU gains from it",
        choices=("auto", "none", "int8"),
        group="Speed",
    )
    flow_attention: str = knob(
        "auto",
        "What a mel frame attends to: full is all frames so far, decoded again for every chunk; causal is the "
        "frames up to its own chunk, decoded once; auto is full with exact and on a GPU, otherwise causal",
        choices=("auto", "full", "causal"),
        group="Speed",
    )
    flow_steps: int = knob(
        0,
        "Euler steps of the flow decoder; 0: profile default (10, fast: 4)",
        unit="steps",
        bounds=(0, 50),
        group="Speed",
    )
    flow_prompt: float = knob(
        0.0,
        "Seconds of reference audio used by the flow decoder; 0: profile default (10, fast: 3)",
        unit="seconds",
        bounds=(0.0, 10.0),
        group="Speed",
    )
    cuda_graphs: bool = knob(
        True,
        "Disable CUDA graphs (slower; for drivers or PyTorch builds that fail with them)",
        group="Speed",
    )
    threads: int = knob(
        0,
        "CPU threads for the model; 0 is one for each core that the server may use (containers may be limited)",
        unit="threads",
        bounds=(0, 1024),
        group="Speed",
    )

    def __post_init__(self) -> None:
        check_knobs(self)
