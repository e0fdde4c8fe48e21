"""Small networks in place of the published ones: everything runs as it does with these, in milliseconds."""

from __future__ import annotations

from typing import Any

SMALL_GPT2 = {"n_embd": 64, "n_head": 4, "n_layer": 2}

SMALL_LLAMA = {
    # Ten layers: chatterbox-streaming asks for the tenth by its number.
    "num_hidden_layers": 10,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "head_dim": 16,
}
"""Sizes of small networks."""


def shrink_s3gen(module: Any) -> None:
    """Make a `chatterbox.models.s3gen.s3gen`, chatterbox-streaming's or its developers' own, build small networks."""
    module.UpsampleConformerEncoder = _tiny_encoder(module.UpsampleConformerEncoder)
    module.ConditionalDecoder = _with_sizes(
        module.ConditionalDecoder, channels=[32], n_blocks=1, num_mid_blocks=1, num_heads=2, attention_head_dim=16
    )
    module.HiFTGenerator = _with_sizes(module.HiFTGenerator, base_channels=32)
    module.ConvRNNF0Predictor = _with_sizes(module.ConvRNNF0Predictor, cond_channels=32)
    module.S3Tokenizer = _tiny_speech_tokenizer(module.S3Tokenizer)


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
