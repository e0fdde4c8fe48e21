"""Compute with the family's own code what our tests compare with; run by script/parity, which puts it on the path."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from wyoming_chatterbox.engine.chatterbox.upstream import import_torchaudio
from wyoming_chatterbox.testing import small_networks

from . import inputs

GPT2_NAMES = {"turbo": "GPT2_medium", "nano": "GPT2_small"}


def main(out: Path) -> None:
    torch.set_num_threads(1)
    import_torchaudio()
    results: dict[str, Any] = {"keys": _keys()}
    _shrink()
    with torch.inference_mode():
        results["turbo"] = _turbo_tokens("turbo")  # nano is the same with fewer layers
        results["mean_flow"] = _mean_flow()
        results["multilingual"] = _multilingual_tokens()
    lines = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in results.items()]
    out.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")


def _keys() -> dict[str, str]:
    """Returns hashes of the names and shapes of all weights, at full size."""
    from chatterbox.models.s3gen import S3Gen

    found = {}
    with torch.device("meta"):
        for model in GPT2_NAMES:
            found[f"{model} t3"] = inputs.names_and_shapes(_t3(model).state_dict())
        found["multilingual t3"] = inputs.names_and_shapes(_t3("multilingual").state_dict())
    found["mean flow s3gen"] = inputs.names_and_shapes(S3Gen(meanflow=True).state_dict())
    return found


def _shrink() -> None:
    from chatterbox.models.s3gen import s3gen
    from chatterbox.models.t3 import llama_configs
    from chatterbox.models.t3.modules import cond_enc, perceiver

    gpt2 = small_networks.SMALL_GPT2
    for name in GPT2_NAMES.values():
        llama_configs.LLAMA_CONFIGS[name].update(gpt2, hidden_size=gpt2["n_embd"])
    llama_configs.LLAMA_CONFIGS["Llama_520M"].update(small_networks.SMALL_LLAMA)
    cond_enc.Perceiver = lambda: perceiver.Perceiver(32, 64, 64, 4)
    small_networks.shrink_s3gen(s3gen)


def _t3(model: str) -> Any:
    """Returns a T3 as `from_local` of tts_turbo.py and mtl_tts.py makes it."""
    from chatterbox.models.t3 import T3
    from chatterbox.models.t3.modules.t3_config import T3Config

    if model == "multilingual":
        return T3(T3Config.multilingual()).eval()
    hp = T3Config(text_tokens_dict_size=50276)
    hp.llama_config_name = GPT2_NAMES[model]
    hp.speech_tokens_dict_size = 6563
    hp.input_pos_emb = None
    hp.speech_cond_prompt_len = 375
    hp.use_perceiver_resampler = False
    hp.emotion_adv = False
    return T3(hp).eval()


def _conditionals(tokens: int) -> Any:
    from chatterbox.models.t3.modules.cond_enc import T3Cond

    return T3Cond(
        speaker_emb=inputs.speaker(),
        cond_prompt_speech_tokens=inputs.speech_tokens(tokens, "clip"),
        emotion_adv=torch.full((1, 1, 1), 0.5),
    )


def _turbo_tokens(model: str) -> dict[str, list[int]]:
    t3 = inputs.fill_t3(_t3(model))
    text = inputs.text_tokens(50276)
    given = {"text_tokens": text, "max_gen_len": inputs.T3_TOKENS - 1}

    def tokens(**settings: Any) -> list[int]:
        found: list[int] = t3.inference_turbo(_conditionals(375), **given, **settings)[0].tolist()
        return found

    with _greedy():
        greedy = tokens()
    torch.manual_seed(inputs.SEED)
    sampled = tokens()
    torch.manual_seed(inputs.SEED)
    return {"greedy": greedy, "sampled": sampled, "narrow": tokens(top_k=5, top_p=0.6, repetition_penalty=1.5)}


def _multilingual_tokens() -> dict[str, list[int]]:
    t3 = inputs.fill_t3(_t3("multilingual"))
    text = torch.nn.functional.pad(inputs.text_tokens(2454), (1, 0), value=255)
    text = torch.nn.functional.pad(text, (0, 1), value=0).repeat(2, 1)

    def tokens() -> list[int]:
        found = t3.inference(t3_cond=_conditionals(150), text_tokens=text, max_new_tokens=inputs.T3_TOKENS, top_p=1.0)
        return list(found[0].tolist())

    with _greedy():
        greedy = tokens()
    torch.manual_seed(inputs.SEED)
    return {"greedy": greedy, "sampled": tokens()}


def _mean_flow() -> list[list[float]]:
    """Returns the mel frames of a speech, from the lowest band."""
    from chatterbox.models.s3gen import S3Gen, flow_matching

    flow = inputs.fill(S3Gen(meanflow=True)).eval().flow
    speech = inputs.speech_tokens(inputs.MEL_TOKENS, "speech")
    noise = inputs.noise().transpose(1, 2)
    with mock.patch.object(flow_matching.torch, "randn_like", lambda mu: noise.clone()):
        mel, _ = flow.inference(
            token=speech,
            token_len=torch.tensor([inputs.MEL_TOKENS]),
            prompt_feat_len=None,
            finalize=True,
            n_timesteps=2,
            meanflow=True,
            **inputs.prompt(),
        )
    return [[round(value, 5) for value in band] for band in mel[0].tolist()]


@contextlib.contextmanager
def _greedy() -> Iterator[None]:
    """Within it, the likeliest token is drawn."""
    with mock.patch.object(torch, "multinomial", lambda probabilities, num_samples: probabilities.argmax(-1, True)):
        yield


if __name__ == "__main__":
    main(Path(sys.argv[1]))
