"""A checkpoint of random weights for a model of the family: the real code runs, what it says is noise.

    python -m wyoming_chatterbox.testing.random_checkpoint OUT [--model original|turbo|nano] [--tiny] [--eos-at N]
        [--seed S] [--format pt|safetensors] [--clip-seconds S]

The full size (3.2 GB) loads anywhere. The tiny one loads only in a process that called `apply_tiny_sizes()`
before: upstream keeps its sizes in its code.

Random logits would end the speech at any time, or name tokens that do not exist. So two channels of T3's
residual stream are reserved: nothing writes to them but the embeddings, and the speech head reads from them

- channel 0, the same for every speech token: it pushes the logits of all that is no speech token to the floor;
- channel 1, not zero only at speech position N: there it lifts the logit of the end of speech above all others.

A run then makes exactly N speech tokens, N / 25 seconds, whatever text, voice, settings and seed are.

Turbo and Nano have one table of positions for voice, text and speech: there channel 1 is not zero from the Nth position
behind the voice on, so that a run makes as many speech tokens less as its text has, and one for the start of speech.
"""

from __future__ import annotations

import argparse
import json
import wave
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wyoming_chatterbox.engine.tags import TURBO_SOUNDS, TURBO_STYLES

FORMATS = ("safetensors", "pt")

CLIP = "clip.wav"
"""The reference clip that a checkpoint brings, in its directory."""

_START_TEXT = 255
_FIRST_SPECIAL = 6561
_END_OF_SPEECH = 6562
_END_OF_TEXT = "<|endoftext|>"
_SAMPLE_RATE = 24_000

_tiny_sizes_applied = False


def build(
    out: Path,
    *,
    tiny: bool = True,
    eos_at: int = 50,
    seed: int = 0,
    format: str = "safetensors",
    voice: bool = True,
    clip_seconds: float = 3.0,
    model: str = "original",
) -> Path:
    """Write a checkpoint and a reference clip into a directory, and return the directory.

    Args:
        out: made if it is not there.
        tiny: about 40 MB and seconds instead of gigabytes and minutes; applies the tiny sizes to this process.
        eos_at: speech tokens in every answer, from 0; more than 999 never end by themselves.
        seed: of the weights.
        format: of the three weight files; of the original model only.
        voice: whether to write conds.pt, the built-in voice, made from the clip.
        clip_seconds: of the reference clip. Upstream takes 10 s at most, which its own built-in voice has: the flow
            decoder reads them for every chunk. Turbo and Nano take none of 5 s or less.
        model: which one, a key of `specs.SPECS`.
    """
    if tiny:
        apply_tiny_sizes()
    elif _tiny_sizes_applied:
        raise ValueError("this process has the tiny sizes; build a checkpoint of full size in another one")
    out.mkdir(parents=True, exist_ok=True)
    import torch

    from wyoming_chatterbox.engine.chatterbox import loader, specs, upstream
    from wyoming_chatterbox.engine.registry import MODELS

    spec, layout = specs.SPECS[model], MODELS[model].layout
    assert layout is not None
    suffix = f".{format}" if model == "original" else ".safetensors"
    languages = MODELS[model].languages if spec.multilingual else ()
    tts = upstream.load_chatterbox()
    with upstream.suppress_output(), torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        t3, s3gen, voice_encoder = (
            loader.make_t3(spec).eval(),
            loader.make_s3gen(spec).eval(),
            tts.VoiceEncoder().eval(),
        )
        if spec.t3.is_gpt2:
            _make_gpt2_attentive(t3)
            _reserve_gpt2_channels(t3)
        else:
            _make_attentive(t3)
            _reserve_channels(t3)
        # Behind the voice, of which upstream takes 15 s at most, 25 tokens each, and one for the speaker.
        set_eos_at(t3, eos_at + (1 + min(375, round(25 * clip_seconds)) if spec.t3.is_gpt2 else 0))
        _make_audible(s3gen)
        parts = ((voice_encoder, layout.voice_encoder), (t3, layout.t3), (s3gen, layout.s3gen))
        for module, names in parts:
            _save(module.state_dict(), out / next(name for name in names if name.endswith(suffix)))
        if spec.t3.is_gpt2:
            write_gpt2_tokenizer(out)
        else:
            write_tokenizer(out / layout.tokenizer[0], languages)
        write_clip(out / CLIP, seconds=clip_seconds)
        if voice:
            tokenizer = [out / name for name in layout.tokenizer]
            whole = loader.assemble(t3, s3gen, voice_encoder, tokenizer, "cpu", spec)
            whole.prepare_conditionals(out / CLIP)
            whole.conds.save(out / "conds.pt")
    return out


def set_eos_at(t3: Any, position: int) -> None:
    """Make a T3 of such a checkpoint end its speech after `position` tokens; Turbo's and Nano's where it reaches that
    position, and voice and text have some before."""
    if t3.hp.is_gpt2:
        weight = t3.tfmr.wpe.weight.data
        weight[:, 1] = 0
        weight[position:, 1] = 16.0
        return
    weight = t3.speech_pos_emb.emb.weight.data
    weight[:, 1] = 0
    weight[position, 1] = 16.0


def apply_tiny_sizes() -> None:
    """Make upstream build small networks in this process, from now on. Calling it again does nothing."""
    global _tiny_sizes_applied
    if _tiny_sizes_applied:
        return
    _tiny_sizes_applied = True
    import torch

    from wyoming_chatterbox.engine.chatterbox import upstream

    upstream.load_chatterbox()
    # Networks this small lose more by waiting for a second thread than it computes: ten times, on a busy machine.
    torch.set_num_threads(1)
    from chatterbox.models.s3gen import s3gen
    from chatterbox.models.t3 import llama_configs
    from chatterbox.models.t3.modules import cond_enc, perceiver

    from wyoming_chatterbox.engine.chatterbox.t3.spec import GPT2_SIZES
    from wyoming_chatterbox.testing.small_networks import SMALL_GPT2, SMALL_LLAMA, shrink_s3gen

    for sizes in GPT2_SIZES.values():
        sizes.update(SMALL_GPT2)

    llama_configs.LLAMA_CONFIGS["Llama_520M"].update(SMALL_LLAMA)
    cond_enc.Perceiver = lambda: perceiver.Perceiver(32, 64, 64, 4)
    shrink_s3gen(s3gen)


def _make_attentive(t3: Any) -> None:
    """As they are initialised, attention layers hardly read: text, voice and exaggeration would change no token."""
    for layer in t3.tfmr.layers:
        attention = layer.self_attn
        factor = 1 / (0.02 * t3.dim**0.5)  # from the initial deviation to one that keeps what comes in as large
        for projection, times in (("q_proj", 3), ("k_proj", 3), ("v_proj", 1), ("o_proj", 1)):
            getattr(attention, projection).weight.mul_(factor * times)


def _reserve_channels(t3: Any) -> None:
    for layer in t3.tfmr.layers:
        layer.self_attn.o_proj.weight[:2] = 0
        layer.mlp.down_proj.weight[:2] = 0
    t3.speech_emb.weight[:, 0] = 8.0
    t3.speech_emb.weight[:, 1] = 0
    t3.speech_pos_emb.emb.weight[:, 0] = 0
    head = t3.speech_head.weight
    head[:, :2] = 0
    head[_FIRST_SPECIAL:, 0] = -50.0
    head[_END_OF_SPEECH, 1] = 400.0


def _make_gpt2_attentive(t3: Any) -> None:
    """As `_make_attentive`; the speech head's random bias would decide alone otherwise."""
    width = t3.tfmr.config.n_embd
    for block in t3.tfmr.h:
        factor = 1 / (0.02 * width**0.5)
        block.attn.c_attn.weight[:, : 2 * width].mul_(factor * 3)
        block.attn.c_attn.weight[:, 2 * width :].mul_(factor)
        block.attn.c_proj.weight.normal_(std=width**-0.5)
    for embedding in (t3.text_emb, t3.speech_emb):
        embedding.weight.normal_()
    t3.speech_head.weight.normal_(std=4 * width**-0.5)
    t3.speech_head.bias.zero_()


def _reserve_gpt2_channels(t3: Any) -> None:
    for block in t3.tfmr.h:
        for layer in (block.attn.c_proj, block.mlp.c_proj):
            layer.weight[:, :2] = 0
            layer.bias[:2] = 0
    for embedding in (t3.text_emb, t3.speech_emb):
        embedding.weight[:, :2] = 0
    t3.cond_enc.spkr_enc.weight[:2] = 0
    t3.cond_enc.spkr_enc.bias[:2] = 0
    t3.tfmr.wpe.weight[:, :2] = 0
    head = t3.speech_head
    head.weight[:, :2] = 0
    # The network's last norm takes the mean of all channels off this one, too little to reach 0.
    head.weight[_END_OF_SPEECH] = 0
    head.weight[_END_OF_SPEECH, 1] = 400.0
    head.bias[_END_OF_SPEECH] = -400.0


def _make_audible(s3gen: Any) -> None:
    """Random networks whisper below 16 bits: lift the mel frames, the waveform, and the pitch to 150 Hz."""
    s3gen.flow.decoder.estimator.final_proj.bias.fill_(-5.0)
    vocoder = s3gen.mel2wav
    vocoder.conv_post.parametrizations.weight.original0.mul_(20.0)
    vocoder.conv_post.bias[: vocoder.istft_params["n_fft"] // 2 + 1] = -4.0
    vocoder.f0_predictor.classifier.bias.fill_(150.0)


def _save(state: dict[str, Any], path: Path) -> None:
    if path.suffix == ".pt":
        import torch

        torch.save(state, path)
        return
    from safetensors.torch import save_file

    # The published safetensors lack what S3Gen computes itself.
    derived = ("tokenizer._mel_filters", "tokenizer.window")
    save_file({name: tensor.contiguous() for name, tensor in state.items() if name not in derived}, path)


def write_tokenizer(path: Path, languages: Sequence[str] = ()) -> None:
    """One token per character, with the special tokens where upstream expects them, and one for each language."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    special = ["[STOP]", "[UNK]", "[SPACE]"]
    names = special + [chr(code) for code in range(33, 127)]
    names += [f"<unused{number}>" for number in range(len(names), _START_TEXT)]
    names += ["[START]", "[PAD]", "[SEP]", "[CLS]", "[MASK]", *(f"[{language}]" for language in languages)]
    tokenizer = Tokenizer(models.BPE(vocab={name: i for i, name in enumerate(names)}, merges=[], unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(special + names[_START_TEXT:])
    tokenizer.save(str(path))


def write_gpt2_tokenizer(folder: Path) -> None:
    """One token per byte, as GPT-2's tokenizer has them, and Turbo's tags where its checkpoint has them."""
    from tokenizers.pre_tokenizers import ByteLevel

    vocabulary = {character: number for number, character in enumerate(sorted(ByteLevel.alphabet()))}
    vocabulary[_END_OF_TEXT] = 50256
    tags = {f"[{tag}]": 50257 + number for number, tag in enumerate((*TURBO_STYLES, *TURBO_SOUNDS))}
    config = {"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": False, "model_max_length": 1024}
    named = dict.fromkeys(("bos_token", "eos_token", "unk_token"), _END_OF_TEXT)
    (folder / "vocab.json").write_text(json.dumps(vocabulary), "utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", "utf-8")
    (folder / "added_tokens.json").write_text(json.dumps(tags), "utf-8")
    (folder / "special_tokens_map.json").write_text(json.dumps(named), "utf-8")
    decoder = {
        str(number): {
            "content": content,
            "lstrip": False,
            "normalized": True,
            "rstrip": False,
            "single_word": False,
            "special": content == _END_OF_TEXT,
        }
        for content, number in ({_END_OF_TEXT: 50256} | tags).items()
    }
    config |= {"added_tokens_decoder": decoder, **named}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), "utf-8")


def write_clip(path: Path, *, pitch: float = 120.0, seconds: float = 3.0) -> None:
    """A reference clip with the looks of a voice: harmonics of a wavering pitch, four syllables a second."""
    time = np.arange(int(seconds * _SAMPLE_RATE)) / _SAMPLE_RATE
    phase = 2 * np.pi * np.cumsum(pitch * (1 + 0.1 * np.sin(2 * np.pi * 0.7 * time))) / _SAMPLE_RATE
    formant = 600 + 300 * np.sin(2 * np.pi * 1.3 * time)
    voice = np.zeros_like(time)
    for harmonic in range(1, 30):
        frequency = harmonic * pitch
        voice += np.sin(harmonic * phase) * (np.exp(-(((frequency - formant) / 300) ** 2)) + 0.1 / harmonic)
    voice *= np.clip(np.sin(2 * np.pi * 4 * time) + 0.4, 0, 1)
    voice += np.random.default_rng(0).normal(0, 0.003, len(time))
    with wave.open(str(path), "wb") as clip:
        clip.setnchannels(1)
        clip.setsampwidth(2)
        clip.setframerate(_SAMPLE_RATE)
        clip.writeframes((voice / np.abs(voice).max() * 0.7 * 32767).astype("<i2").tobytes())


def main() -> None:
    parser = argparse.ArgumentParser(description="Builds a checkpoint of random weights.")
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "--model", choices=("original", "turbo", "nano", "multilingual", "multilingual-v2"), default="original"
    )
    parser.add_argument("--tiny", action="store_true", help="small networks, for processes that apply the tiny sizes")
    parser.add_argument("--eos-at", type=int, default=50, help="speech tokens in every answer (default: 50)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--format", choices=FORMATS, default=FORMATS[0])
    parser.add_argument("--clip-seconds", type=float, default=3.0, help="of the reference clip (default: 3)")
    arguments = parser.parse_args()
    build(
        arguments.out,
        tiny=arguments.tiny,
        eos_at=arguments.eos_at,
        seed=arguments.seed,
        format=arguments.format,
        clip_seconds=arguments.clip_seconds,
        model=arguments.model,
    )
    for path in sorted(arguments.out.iterdir()):
        print(f"{path.stat().st_size / 1e6:10.2f} MB  {path}")


if __name__ == "__main__":
    main()
