"""The language model of Turbo and Nano as their files hold it: upstream's T3 on a GPT-2.

chatterbox-streaming has a T3 on a Llama only; what it has for the voice is used here too. Names of parameters are those
of resemble-ai/chatterbox's `models/t3/t3.py`.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from .spec import GPT2_SIZES, T3Spec

POSITIONS = 8196
"""Of the table of positions."""


class GPT2T3(nn.Module):
    """Voice and text → logits of speech tokens; `decode.py` computes it."""

    def __init__(self, hp: T3Spec) -> None:
        from chatterbox.models.t3.modules.cond_enc import T3CondEnc
        from transformers import GPT2Config, GPT2Model

        super().__init__()
        self.hp = hp
        sizes = GPT2_SIZES[hp.llama_config_name]
        self.tfmr = GPT2Model(GPT2Config(vocab_size=hp.text_tokens_dict_size, n_positions=POSITIONS, **sizes))
        width = hp.n_channels
        self.cond_enc: Any = T3CondEnc(hp)
        self.text_emb = nn.Embedding(hp.text_tokens_dict_size, width)
        self.speech_emb = nn.Embedding(hp.speech_tokens_dict_size, width)
        self.text_head: nn.Linear | None = nn.Linear(width, hp.text_tokens_dict_size, bias=False)
        self.speech_head = nn.Linear(width, hp.speech_tokens_dict_size)

    @property
    def device(self) -> torch.device:
        return self.speech_head.weight.device

    def drop_unused(self) -> None:
        """Drop what the files hold and nothing reads: a table of GPT-2's own words, and what predicts text."""
        del self.tfmr.wte
        self.text_head = None

    def prepare_conditioning(self, t3_cond: Any) -> Tensor:
        """Returns what it reads of a voice, shape (1, n, width); `t3_cond` is upstream's T3Cond, which stays as it
        is."""
        tokens = t3_cond.cond_prompt_speech_tokens
        embedded = self.cond_enc(dataclasses.replace(t3_cond, cond_prompt_speech_emb=self.speech_emb(tokens)))
        return torch.as_tensor(embedded)
