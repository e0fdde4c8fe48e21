"""What profiles and the settings beside them mean on a machine."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.engine.chatterbox.tiny import load_model
from wyoming_chatterbox.compute_settings import ComputeSettings
from wyoming_chatterbox.engine.base import EngineError
from wyoming_chatterbox.engine.chatterbox.compute import microbench, timed_parts
from wyoming_chatterbox.engine.chatterbox.compute import plan as plans
from wyoming_chatterbox.engine.chatterbox.compute.timed_parts import FLOW_CHUNK, TOKEN_STEP, VOCODER_CHUNK
from wyoming_chatterbox.engine.chatterbox.compute.verdicts import VERDICTS
from wyoming_chatterbox.engine.chatterbox.overflow import without_overflow
from wyoming_chatterbox.engine.chatterbox.specs import NANO, TURBO, plan_options
from wyoming_chatterbox.engine.chatterbox.t3.tokens import TokenGenerator
from wyoming_chatterbox.engine.registry import effective_compute

pytestmark = pytest.mark.filterwarnings("ignore:.*sdp_kernel:FutureWarning")

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def _plan(
    monkeypatch: pytest.MonkeyPatch,
    device: Any = CPU,
    fast: str = "int8",
    weight_first: bool = False,
    capability: tuple[int, int] = (8, 6),
    **settings: Any,
) -> plans.Plan:
    """A plan on a machine that is fastest in one precision, where it may choose."""
    monkeypatch.setattr(plans, "fastest", lambda choices, shape: fast if fast in choices else choices[0])
    monkeypatch.setattr(plans, "weight_first_is_faster", lambda: weight_first)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    return plans.choose_plan(ComputeSettings(**settings), device)


def test_exact_is_upstreams_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = _plan(monkeypatch)
    assert (plan.token_precision, plan.flow_precision) == ("float32", "float32")
    assert (plan.flow_attention, plan.flow_steps, plan.flow_prompt) == ("full", 10, 10.0)
    assert plan.upstream_weights_intact and not plan.parallel and not plan.graphs
    assert plan.low_memory
    assert not _plan(monkeypatch, profile="balanced").low_memory and not _plan(monkeypatch, GPU).low_memory
    # The dearer a chunk, the more tokens may it wait for.
    ahead = [_plan(monkeypatch, profile=profile).lookahead_tokens for profile in ("exact", "balanced", "fast")]
    assert ahead[0] > ahead[1] > ahead[2] > 0 == _plan(monkeypatch, GPU).lookahead_tokens
    assert _plan(monkeypatch, profile="fast", flow_attention="full").lookahead_tokens == ahead[0]


def test_how_float32_is_multiplied_belongs_to_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    """And so to the engine's fingerprint: what is kept of another start that multiplied otherwise is not spoken."""
    by_rows, by_columns = (_plan(monkeypatch, weight_first=weight_first) for weight_first in (False, True))
    assert by_columns.token_weight_first and not by_rows.token_weight_first
    assert str(by_rows) != str(by_columns)
    assert not _plan(monkeypatch, weight_first=True, dtype="bfloat16").token_weight_first
    assert not _plan(monkeypatch, GPU, weight_first=True, dtype="float32").token_weight_first


def test_balanced_keeps_all_steps_and_the_whole_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    for fast, expected in (("int8", "float32"), ("bfloat16", "bfloat16"), ("float16", "float16")):
        plan = _plan(monkeypatch, fast=fast, profile="balanced")
        assert (plan.token_precision, plan.flow_precision) == (expected, expected)
        assert (plan.flow_attention, plan.flow_steps, plan.flow_prompt) == ("causal", 10, 10.0)


def test_fast_takes_what_it_gets(monkeypatch: pytest.MonkeyPatch) -> None:
    for fast in ("int8", "bfloat16", "float32"):
        plan = _plan(monkeypatch, fast=fast, profile="fast")
        assert (plan.token_precision, plan.flow_precision) == (fast, fast)
        assert (plan.flow_attention, plan.flow_steps, plan.flow_prompt) == ("causal", 4, 3.0)
        assert plan.upstream_weights_intact == (fast == "float32")


def test_a_gpu_attends_to_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    for profile in ("exact", "balanced", "fast"):
        plan = _plan(monkeypatch, GPU, profile=profile)
        flow = "float32" if profile == "exact" else "bfloat16"
        assert (plan.token_precision, plan.flow_precision, plan.flow_attention) == ("bfloat16", flow, "full")
        assert plan.parallel and plan.graphs and plan.chunk_growth == 1.5
    assert not _plan(monkeypatch, GPU, cuda_graphs=False).graphs
    assert _plan(monkeypatch, GPU, dtype="float32").token_precision == "float32"
    plan = _plan(monkeypatch, torch.device("mps"))
    assert plan.token_precision == "float32" and plan.flow_attention == "full" and not plan.parallel


@pytest.mark.parametrize(
    ("capability", "emulated"), [((6, 1), True), ((7, 5), True), ((8, 0), False), ((12, 0), False)]
)
def test_gpus_that_only_emulate_bfloat16_compute_in_float16(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capability: tuple[int, int], emulated: bool
) -> None:
    for profile in ("exact", "balanced", "fast"):
        plan = _plan(monkeypatch, GPU, capability=capability, profile=profile)
        if emulated:
            assert (plan.token_precision, plan.flow_precision) == ("half", "float32")
            assert "language model float16; flow decoder float32" in str(plan)
        else:
            assert plan.token_precision == "bfloat16"
        assert not plan.upstream_weights_intact
    assert _plan(monkeypatch, GPU, capability=capability, dtype="float32").token_precision == "float32"
    plan = _plan(monkeypatch, GPU, capability=capability, dtype="float16")
    assert (plan.token_precision, plan.flow_precision) == ("half", "float32")
    assert not caplog.records
    assert _plan(monkeypatch, GPU, capability=capability, dtype="bfloat16").token_precision == "bfloat16"
    assert ("only emulates bfloat16" in caplog.text) == emulated


def test_weights_too_large_for_float16_are_computed_in_float32(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tiny_checkpoint: Path
) -> None:
    plan = _plan(monkeypatch, GPU, capability=(7, 5))
    model = load_model(tiny_checkpoint)
    assert without_overflow(plan, model) is plan
    assert not caplog.records
    generator = TokenGenerator(model.t3, "half")
    with torch.inference_mode():
        model.t3.tfmr.layers[5].mlp.up_proj.weight.mul_(3e4)
        model.t3.tfmr.layers[5].mlp.down_proj.weight.mul_(3e4)
    assert without_overflow(plan, model).token_precision == "float32"
    assert "larger numbers than float16 has" in caplog.text
    bfloat16 = dataclasses.replace(plan, token_precision="bfloat16")
    assert without_overflow(bfloat16, model) is bfloat16
    model.conds = None
    assert without_overflow(plan, model) is plan, "seen when it speaks"
    assert generator.decoder.dtype == torch.float16


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"dtype": "bfloat16"}, {"token_precision": "bfloat16", "flow_precision": "bfloat16"}),
        ({"profile": "fast", "dtype": "float32"}, {"token_precision": "float32", "flow_precision": "float32"}),
        ({"profile": "fast", "quantize": "none"}, {"token_precision": "float32"}),
        ({"quantize": "int8"}, {"token_precision": "int8", "flow_precision": "int8", "flow_attention": "full"}),
        ({"flow_attention": "causal"}, {"flow_attention": "causal", "flow_steps": 10}),
        ({"dtype": "float16"}, {"token_precision": "float16", "flow_precision": "float16"}),
        ({"profile": "fast", "flow_attention": "full"}, {"flow_attention": "full", "flow_steps": 4}),
        ({"profile": "fast", "flow_steps": 7, "flow_prompt": 5.0}, {"flow_steps": 7, "flow_prompt": 5.0}),
    ],
    ids=str,
)
def test_a_flag_wins_over_the_profile(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], expected: dict[str, Any]
) -> None:
    plan = _plan(monkeypatch, **settings)
    assert {name: getattr(plan, name) for name in expected} == expected


def test_what_cannot_be_is_refused_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EngineError, match=r"--quantize int8 is for CPUs, not for cuda.*--dtype bfloat16"):
        _plan(monkeypatch, GPU, quantize="int8")
    with pytest.raises(EngineError, match="--dtype float16 is for CPUs and NVIDIA GPUs, not for mps"):
        _plan(monkeypatch, torch.device("mps"), dtype="float16")
    with pytest.raises(EngineError, match="exclude each other"):
        _plan(monkeypatch, quantize="int8", dtype="bfloat16")


class Part:
    """Takes as long in each precision as a test says; a precision that is not in the table does not work here."""

    def __init__(self) -> None:
        self.seconds = {"float32": 1.0, "bfloat16": 0.95, "int8": 0.5}

        self.name = "a part for tests"
        self.shapes = "2 x 2"

    def work(self, precision: str) -> Any:
        if precision not in self.seconds:
            raise RuntimeError("no engine")
        return lambda: self.seconds[precision]


@pytest.fixture
def part(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(microbench, "duration", lambda work: work())
    monkeypatch.setattr(VERDICTS, "_known", {})
    return Part()


def test_the_fastest_precision_is_the_one_that_was_timed_so(part: Any) -> None:
    assert plans.fastest(("float32", "bfloat16", "int8"), part) == "int8"
    part.seconds["bfloat16"] = 0.4
    assert plans.fastest(("float32", "bfloat16", "int8"), part) == "int8", "the verdict stays"
    VERDICTS._known.clear()
    assert plans.fastest(("float32", "bfloat16", "int8"), part) == "bfloat16"


def test_a_precision_that_gains_little_is_not_chosen(part: Any) -> None:
    assert plans.fastest(("float32", "bfloat16"), part) == "float32"


def test_another_choice_is_another_test(part: Any) -> None:
    assert plans.fastest(("float32", "bfloat16", "int8"), part) == "int8"
    assert plans.fastest(("float32", "bfloat16"), part) == "float32"


def test_a_precision_that_this_machine_lacks_is_not_chosen(part: Any) -> None:
    del part.seconds["int8"]
    assert plans.fastest(("float32", "int8"), part) == "float32"


@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16", "int8"])
@pytest.mark.parametrize("real", [TOKEN_STEP, FLOW_CHUNK], ids=lambda real: real.name)
def test_what_is_timed_are_real_products(monkeypatch: pytest.MonkeyPatch, precision: str, real: Any) -> None:
    monkeypatch.setattr(microbench, "_BYTES", 1.0)
    monkeypatch.setattr(timed_parts, "weight_first_is_faster", lambda: False)
    few, many = (
        min(microbench.duration(work) for work in [dataclasses.replace(real, rows=rows).work(precision)] * 9)
        for rows in (2, 512)
    )
    assert 0 < few < many
    assert f"{real.rows} x 1024" in real.shapes or f"{real.rows} x 256" in real.shapes


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_what_is_timed_are_real_convolutions(precision: str) -> None:
    assert {width for width, _, _ in VOCODER_CHUNK.convolutions} == {64, 128, 256}
    work = dataclasses.replace(VOCODER_CHUNK, convolutions=((64, 3, 100), (64, 11, 100))).work(precision)
    assert microbench.duration(work) > 0


def test_only_fast_computes_the_vocoder_in_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    def precision(device: Any = CPU, fast: str = "bfloat16", **settings: Any) -> str:
        return _plan(monkeypatch, device, fast, **settings).vocoder_precision

    assert precision(profile="fast") == "bfloat16"
    assert "vocoder bfloat16" in str(_plan(monkeypatch, fast="bfloat16", profile="fast"))
    assert precision(profile="fast", fast="float32") == "float32", "where it is not faster"
    assert precision(profile="fast", dtype="float32") == "float32"
    assert precision(profile="fast", flow_attention="full") == "float32", "with the vocoder of windows"
    assert precision(profile="balanced") == precision(profile="exact") == precision(GPU, profile="fast") == "float32"


def test_upstreams_decoder_computes_what_upstream_does(caplog: pytest.LogCaptureFixture) -> None:
    def compute(decoder: str, **settings: Any) -> ComputeSettings:
        return effective_compute(ComputeSettings(**settings), decoder)

    assert compute("seamless", profile="fast", threads=3) == ComputeSettings(profile="fast", threads=3)
    assert not caplog.text
    assert compute("upstream", threads=3) == ComputeSettings(dtype="float32", threads=3)
    assert not caplog.text
    assert compute("upstream", profile="fast") == ComputeSettings(dtype="float32")
    assert "--decoder upstream computes in float32: --profile" in caplog.text


def test_nano_is_fast_without_gaps_on_a_processor_unless_somebody_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(plans, "fastest", lambda choices, part: choices[-1])
    options = plan_options(NANO)
    plan = plans.choose_plan(ComputeSettings(), torch.device("cpu"), options)
    assert (plan.flow_steps, plan.chunk_size, plan.chunk_growth) == (1, 28, 1.0)
    plan = plans.choose_plan(ComputeSettings(profile="balanced"), torch.device("cpu"), options)
    assert (plan.flow_steps, plan.chunk_size, plan.chunk_growth) == (2, 12, 3.0)
    plan = plans.choose_plan(ComputeSettings(), torch.device("cpu"), plan_options(TURBO))
    assert (plan.flow_steps, plan.flow_prompt, plan.chunk_size) == (2, 10.0, 12), "exact, as the others"
