"""Our code against the family's own, on weights that hang on their names alone; what that gave is in expected.json."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from script.parity_check import inputs
from wyoming_chatterbox.engine.base import CancelToken
from wyoming_chatterbox.engine.chatterbox import loader, specs, upstream
from wyoming_chatterbox.engine.chatterbox.s3gen.flow import StreamingFlow
from wyoming_chatterbox.engine.chatterbox.t3.sampling import CURRENT, Sampling
from wyoming_chatterbox.engine.chatterbox.t3.tokens import TokenGenerator
from wyoming_chatterbox.testing.serving import ROOT, environment

pytestmark = pytest.mark.usefixtures("tiny_checkpoint")  # from then on networks are small here

EXPECTED = json.loads(Path(__file__).with_name("expected.json").read_text("utf-8"))

KEYS = """
import json, torch
from wyoming_chatterbox.engine.chatterbox import loader, specs, upstream
from script.parity_check.inputs import names_and_shapes
upstream.load_chatterbox()
with torch.device("meta"):
    found = {f"{name} t3": loader.make_t3(specs.SPECS[name]) for name in ("turbo", "nano", "multilingual")}
found["mean flow s3gen"] = loader.make_s3gen(specs.TURBO)
print(json.dumps({name: names_and_shapes(module.state_dict()) for name, module in found.items()}))
"""


def test_weights_have_the_names_and_shapes_of_the_published_files() -> None:
    """At full size, so in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", KEYS], cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == EXPECTED["keys"]


def _tokens(
    t3: Any, clip: int, vocabulary: int, sampling: Sampling, *, graphs: bool, greedy: bool = False
) -> list[int]:
    conditionals = upstream.load_chatterbox().T3Cond(
        speaker_emb=inputs.speaker(),
        cond_prompt_speech_tokens=inputs.speech_tokens(clip, "clip"),
        emotion_adv=torch.full((1, 1, 1), 0.5),
    )
    generator = TokenGenerator(t3, graphs=graphs)
    if greedy:
        generator.decoder.fill_noise = lambda sequence: sequence.noise.fill_(1.0)  # type: ignore[method-assign]
    with torch.inference_mode():
        return list(
            generator.tokens(
                conditionals,
                inputs.text_tokens(vocabulary),
                cfg_weight=0.5 if t3.hp.guided else 0.0,
                temperature=0.8,
                seed=inputs.SEED,
                limit=inputs.T3_TOKENS,
                cancel=CancelToken(),
                sampling=sampling,
            )
        )


@pytest.fixture(scope="module")
def turbo() -> Any:
    with torch.no_grad():
        return inputs.fill_t3(loader.make_t3(specs.TURBO).eval())


@pytest.fixture(scope="module")
def multilingual() -> Any:
    with torch.no_grad():
        return inputs.fill_t3(loader.make_t3(specs.MULTILINGUAL_V3).eval())


@pytest.mark.parametrize("graphs", [False, True])
@pytest.mark.parametrize(
    ("way", "sampling"),
    [
        ("greedy", specs.TURBO.sampling),
        ("sampled", specs.TURBO.sampling),
        ("narrow", Sampling(repetition_penalty=1.5, top_p=0.6, top_k=5)),
    ],
)
def test_turbo_makes_its_developers_tokens(turbo: Any, way: str, sampling: Sampling, graphs: bool) -> None:
    tokens = _tokens(turbo, 375, 50276, sampling, graphs=graphs, greedy=way == "greedy")
    assert tokens == EXPECTED["turbo"][way]


@pytest.mark.parametrize("graphs", [False, True])
@pytest.mark.parametrize("way", ["greedy", "sampled"])
def test_multilingual_makes_its_developers_tokens(multilingual: Any, way: str, graphs: bool) -> None:
    tokens = _tokens(multilingual, 150, 2454, CURRENT, graphs=graphs, greedy=way == "greedy")
    assert tokens == EXPECTED["multilingual"][way]


@pytest.mark.parametrize("attention", ["full", "causal"])
def test_mean_flow_makes_its_developers_frames(attention: str) -> None:
    with torch.no_grad():
        flow = inputs.fill(loader.make_s3gen(specs.TURBO).eval()).flow
    decoder = StreamingFlow(flow, attention=attention, steps=2)
    with torch.inference_mode():
        state = decoder.start(inputs.prompt(), 0)
        state.noise = inputs.noise()
        tokens = inputs.speech_tokens(inputs.MEL_TOKENS, "speech")[0].tolist()
        mel = decoder.push(state, tokens, final=True, cancel=CancelToken())
    expected = torch.tensor(EXPECTED["mean_flow"])
    difference = (mel[0] - expected).abs().max().item()
    if attention == "full":
        assert difference < 2e-5
    else:
        assert mel.shape[1:] == expected.shape and difference > 1e-3, "the prompt hears nothing of the speech"
