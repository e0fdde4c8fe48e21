"""A checkpoint of random weights for the original model: the real code runs, what it says is noise.

    python -m wyoming_chatterbox.testing.random_checkpoint OUT [--tiny] [--eos-at N] [--seed S]
        [--format pt|safetensors] [--clip-seconds S]

The full size (3.2 GB) loads anywhere. The tiny one loads only in a process that called `apply_tiny_sizes()`
before: upstream keeps its sizes in its code.

Random logits would end the speech at any time, or name tokens that do not exist. So two channels of T3's
residual stream are reserved: nothing writes to them but the embeddings, and the speech head reads from them

- channel 0, the same for every speech token: it pushes the logits of all that is no speech token to the floor;
- channel 1, not zero only at speech position N: there it lifts the logit of the end of speech above all others.

A run then makes exactly N speech tokens, N / 25 seconds, whatever text, voice, settings and seed are.
"""

from __future__ import annotations

import argparse
import wave
from pathlib import Path
from typing import Any

import numpy as np

FORMATS = ("safetensors", "pt")

CLIP = "clip.wav"
"""The reference clip that a checkpoint brings, in its directory."""

_START_TEXT = 255
_FIRST_SPECIAL = 6561
_END_OF_SPEECH = 6562
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
) -> Path:
    """Write a checkpoint and a reference clip into a directory, and return the directory.

    Args:
        out: made if it is not there.
        tiny: about 40 MB and seconds instead of 3.2 GB and minutes; applies the tiny sizes to this process.
        eos_at: speech tokens in every answer, from 0; more than 999 never end by themselves.
        seed: of the weights.
        format: of the three weight files.
        voice: whether to write conds.pt, the built-in voice, made from the clip.
        clip_seconds: of the reference clip. Upstream takes 10 s at most, which its own built-in voice has: the flow
            decoder reads them for every chunk.
    """
    if tiny:
        apply_tiny_sizes()
    elif _tiny_sizes_applied:
        raise ValueError("this process has the tiny sizes; build a checkpoint of full size in another one")
    out.mkdir(parents=True, exist_ok=True)
    import torch

    from wyoming_chatterbox.engine.chatterbox import upstream  # first: it loads torch as a server does

    tts = upstream.load_chatterbox()
    with upstream.suppress_output(), torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        t3, s3gen, voice_encoder = tts.T3().eval(), tts.S3Gen().eval(), tts.VoiceEncoder().eval()
        _make_attentive(t3)
        _reserve_channels(t3)
        set_eos_at(t3, eos_at)
        _make_audible(s3gen)
        for module, part in ((voice_encoder, "ve"), (t3, "t3_cfg"), (s3gen, "s3gen")):
            _save(module.state_dict(), out / f"{part}.{format}")
        write_tokenizer(out / "tokenizer.json")
        write_clip(out / CLIP, seconds=clip_seconds)
        if voice:
            tokenizer = tts.EnTokenizer(str(out / "tokenizer.json"))
            model = tts.ChatterboxTTS(t3, s3gen, voice_encoder, tokenizer, "cpu")
            model.prepare_conditionals(out / CLIP)
            model.conds.save(out / "conds.pt")
    return out


def set_eos_at(t3: Any, position: int) -> None:
    """Make a T3 of such a checkpoint end its speech after `position` tokens."""
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

    llama_configs.LLAMA_CONFIGS["Llama_520M"].update(
        # Ten layers: upstream asks for the tenth by its number.
        num_hidden_layers=10,
        hidden_size=64,
        intermediate_size=128,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=16,
    )
    cond_enc.Perceiver = lambda: perceiver.Perceiver(32, 64, 64, 4)
    s3gen.UpsampleConformerEncoder = _tiny_encoder(s3gen.UpsampleConformerEncoder)
    s3gen.ConditionalDecoder = _with_sizes(
        s3gen.ConditionalDecoder, channels=[32], n_blocks=1, num_mid_blocks=1, num_heads=2, attention_head_dim=16
    )
    s3gen.HiFTGenerator = _with_sizes(s3gen.HiFTGenerator, base_channels=32)
    s3gen.ConvRNNF0Predictor = _with_sizes(s3gen.ConvRNNF0Predictor, cond_channels=32)
    s3gen.S3Tokenizer = _tiny_speech_tokenizer(s3gen.S3Tokenizer)


def _with_sizes(original: Any, **sizes: Any) -> Any:
    return lambda **given: original(**{**given, **sizes})


def _tiny_encoder(original: Any) -> Any:
    def make(**given: Any) -> Any:
        encoder = original(**{**given, "num_blocks": 1, "linear_units": 64})
        encoder.up_encoders = encoder.up_encoders[:1]
        return encoder

    return make


def _tiny_speech_tokenizer(original: Any) -> Any:
    from s3tokenizer import model_v2

    # Its rotary table is made for heads of 64 channels.
    sizes = model_v2.ModelConfig(n_audio_state=64, n_audio_head=1, n_audio_layer=1)

    def make(name: str) -> Any:
        tokenizer = original(name)  # takes a config, and ignores it
        tokenizer.config = sizes
        tokenizer.encoder = model_v2.AudioEncoderV2(
            sizes.n_mels, sizes.n_audio_state, sizes.n_audio_head, sizes.n_audio_layer, 2, sizes.use_sdpa
        )
        tokenizer.quantizer = model_v2.FSQVectorQuantization(sizes.n_audio_state, sizes.n_codebook_size)
        return tokenizer

    return make


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


def write_tokenizer(path: Path) -> None:
    """One token per character, with the special tokens where upstream expects them."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    special = ["[STOP]", "[UNK]", "[SPACE]"]
    names = special + [chr(code) for code in range(33, 127)]
    names += [f"<unused{number}>" for number in range(len(names), _START_TEXT)]
    names += ["[START]", "[PAD]", "[SEP]", "[CLS]", "[MASK]"]
    tokenizer = Tokenizer(models.BPE(vocab={name: i for i, name in enumerate(names)}, merges=[], unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(special + names[_START_TEXT:])
    tokenizer.save(str(path))


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
    parser = argparse.ArgumentParser(description="Builds a checkpoint of random weights for the original model.")
    parser.add_argument("out", type=Path)
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
    )
    for path in sorted(arguments.out.iterdir()):
        print(f"{path.stat().st_size / 1e6:10.2f} MB  {path}")


if __name__ == "__main__":
    main()
