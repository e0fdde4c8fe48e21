"""What the language models of the family have in common and where they differ."""

from __future__ import annotations

from dataclasses import dataclass

GPT2_SIZES: dict[str, dict[str, int]] = {
    "GPT2_medium": {"n_embd": 1024, "n_head": 16, "n_layer": 24},
    "GPT2_small": {"n_embd": 768, "n_head": 12, "n_layer": 12},
}
"""Sizes of the networks that are a GPT-2, by upstream's names for them."""


@dataclass(frozen=True)
class T3Spec:
    """The language model. The first fields have the names that upstream's modules read in their `hp`."""

    llama_config_name: str = "Llama_520M"
    """The sizes of the network: a key of upstream's LLAMA_CONFIGS, or of GPT2_SIZES."""

    text_tokens_dict_size: int = 704
    speech_tokens_dict_size: int = 8194
    start_text_token: int = 255
    stop_text_token: int = 0
    max_text_tokens: int = 2048
    start_speech_token: int = 6561
    stop_speech_token: int = 6562
    max_speech_tokens: int = 4096
    input_pos_emb: str | None = "learned"
    """learned: text and speech have tables of positions of their own; None: the network has one for all."""

    speech_cond_prompt_len: int = 150
    """Speech tokens (25 per second) of the clip that it reads."""

    encoder_type: str = "voice_encoder"
    speaker_embed_size: int = 256
    use_perceiver_resampler: bool = True
    """It reads the clip's tokens as 32 vectors of a Perceiver (arXiv 2103.03206) rather than one by one."""

    emotion_adv: bool = True
    """It follows `exaggeration`."""

    # What upstream has in its code:

    guided: bool = True
    """It follows `cfg_weight`: a second row without words is computed beside the one with them."""

    text_marks: bool = True
    """Its texts stand between a start and a stop token."""

    start_tokens: int = 2
    """How often the start of speech is fed: twice where upstream does so, both times as the first token."""

    penalty_last: bool = False
    """The order in which tokens are sampled, see `sampling.draw`."""

    @property
    def is_gpt2(self) -> bool:
        return self.llama_config_name in GPT2_SIZES

    @property
    def n_channels(self) -> int:
        """Width of the network."""
        if self.is_gpt2:
            return int(GPT2_SIZES[self.llama_config_name]["n_embd"])
        from chatterbox.models.t3.llama_configs import LLAMA_CONFIGS

        return int(LLAMA_CONFIGS[self.llama_config_name]["hidden_size"])
