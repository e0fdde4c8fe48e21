"""Text tokens of the models that chatterbox-streaming has no tokenizer for, with the methods of its EnTokenizer."""

from __future__ import annotations

from pathlib import Path

import torch


class GPT2TextTokenizer:
    """Turbo's and Nano's: GPT-2's byte pairs, and tags such as [laugh] as tokens of their own."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoTokenizer

        self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)

    def encode(self, text: str) -> list[int]:
        """Returns the tokens of a text."""
        return list(self._tokenizer(text).input_ids)

    def text_to_tokens(self, text: str) -> torch.Tensor:
        """Returns the tokens of a text, shape (1, n)."""
        return torch.tensor([self.encode(text)], dtype=torch.int)
