"""Text → speech tokens: the decode loop of Chatterbox's T3, a Llama that reads a voice and a text.

The arithmetic is upstream's `inference_stream`; what is left out is what it throws away: attention maps, the hidden
states of every layer, a key-value cache that is copied at every token, and for every request the voice's part of the
prompt, whose keys and values are the same each time.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

from . import upstream
from .base import Cancel

TOP_P = 0.8
REPETITION_PENALTY = 2.0
"""Fixed in upstream's `inference_stream`."""

_CACHED_PROMPTS = 16
"""Prompts whose keys and values are kept: one per voice and exaggeration in use, 8 MB each in fp32."""

_CACHE_STEP = 256
"""Caches have a multiple of this many positions, so that an utterance mostly fits into the cache of the last one."""


@dataclass(frozen=True)
class Prompt:
    """Keys and values of the voice's part of the prompt."""

    keys: list[Any]
    """Per layer, shape (1, heads, length, head size)."""

    values: list[Any]
    length: int


@dataclass(frozen=True)
class _Cache:
    """One utterance's keys and values; 0.5 MB per position in fp32. What it held before is never read."""

    keys: list[Any]
    """Per layer, shape (2, heads, positions, head size)."""

    values: list[Any]
    cos: Any
    """Of the rotary embedding, shape (positions, head size)."""

    sin: Any

    @property
    def positions(self) -> int:
        return int(self.cos.shape[0])


class TokenGenerator:
    """Upstream's T3 with a decode loop of its own. Its utterances may be advanced in turns, within inference mode."""

    def __init__(self, t3: Any) -> None:
        self._torch = upstream.load_torch()
        self._t3 = t3
        self._layers = list(t3.tfmr.layers)
        config = t3.cfg
        self._heads: int = config.num_key_value_heads
        self._head_size: int = config.head_dim
        self._dtype = t3.speech_head.weight.dtype
        self._prompts: OrderedDict[Any, Prompt] = OrderedDict()
        self._free: _Cache | None = None
        self.stop_token: int = t3.hp.stop_speech_token
        valid = self._torch.zeros(t3.hp.speech_tokens_dict_size, dtype=self._torch.bool)
        # The start token and all above the stop token are no sound; upstream fails on them, or drops what it has.
        valid[: t3.hp.start_speech_token] = True
        valid[self.stop_token] = True
        self._invalid = (~valid).to(t3.device)

    def tokens(
        self,
        conditionals: Any,
        text_tokens: Any,
        *,
        cfg_weight: float,
        temperature: float,
        seed: int,
        limit: int,
        cancel: Cancel,
        prompt_key: Any = None,
    ) -> Generator[int, None, None]:
        """Speech tokens (0 to 6560) until the model ends the speech.

        Args:
            conditionals: upstream's T3Cond.
            text_tokens: shape (1, n), without start and stop.
            limit: most tokens.
            cancel: looked at before every token.
            prompt_key: what `conditionals` are; they share their prompt with all that were given an equal key. None:
                nothing is kept.

        Raises:
            Cancelled: `cancel` was set.
        """
        torch = self._torch
        device = self._t3.device
        generator = torch.Generator(device).manual_seed(seed)
        prompt = self._prompt(conditionals, prompt_key)
        start = self._t3.hp.start_speech_token
        text = self._text_embeddings(text_tokens)
        # Upstream feeds the start token twice, both at position 0.
        begin = self._speech_embedding(start, 0).expand(2, 2, -1)
        position = prompt.length
        hidden = torch.cat((text, begin), dim=1)
        seen = torch.zeros(self._invalid.shape[0], dtype=torch.bool, device=device)
        seen[start] = True
        with self._cache(position + hidden.shape[1] + limit) as cache:
            for own, kept in zip(cache.keys + cache.values, prompt.keys + prompt.values, strict=True):
                own[:, :, : prompt.length] = kept
            for index in range(limit):
                cancel.raise_if_set()
                logits = self._t3.speech_head(self._forward(hidden, position, cache)[:, -1:])[:, 0].float()
                position += hidden.shape[1]
                token = self._sample(logits, seen, cfg_weight, temperature, generator)
                if token == self.stop_token:
                    return
                yield token
                seen[token] = True
                hidden = self._speech_embedding(token, index + 1).expand(2, -1, -1)

    def _sample(self, logits: Any, seen: Any, cfg_weight: float, temperature: float, generator: Any) -> int:
        """One token from logits of shape (2, vocabulary): guidance, temperature, repetition penalty, top-p."""
        torch = self._torch
        scores = logits[0] + cfg_weight * (logits[0] - logits[1])
        scores = scores.masked_fill(self._invalid, float("-inf")) / temperature
        penalised = torch.where(scores < 0, scores * REPETITION_PENALTY, scores / REPETITION_PENALTY)
        scores = torch.where(seen, penalised, scores)
        ordered, order = torch.sort(scores, descending=False)
        dropped = ordered.softmax(dim=-1).cumsum(dim=-1) <= 1 - TOP_P
        dropped[-1] = False
        probabilities = ordered.masked_fill(dropped, float("-inf")).softmax(dim=-1)
        return int(order[torch.multinomial(probabilities, 1, generator=generator)])

    def _prompt(self, conditionals: Any, key: Any) -> Prompt:
        """The voice's part of the prompt; without text it is the same for both rows of the guidance."""
        if key is not None and key in self._prompts:
            self._prompts.move_to_end(key)
            return self._prompts[key]
        embeddings = self._t3.prepare_conditioning(conditionals).to(self._dtype)
        length = embeddings.shape[1]
        with self._cache(length) as cache:
            self._forward(embeddings.expand(2, -1, -1), 0, cache)
            prompt = Prompt(
                [keys[:1, :, :length].clone() for keys in cache.keys],
                [values[:1, :, :length].clone() for values in cache.values],
                length,
            )
        if key is not None:
            self._prompts[key] = prompt
            while len(self._prompts) > _CACHED_PROMPTS:
                self._prompts.popitem(last=False)
        return prompt

    def _text_embeddings(self, text_tokens: Any) -> Any:
        """Shape (2, n + 2, width); the second row is the unconditional one: positions without text."""
        torch, t3 = self._torch, self._t3
        tokens = torch.nn.functional.pad(text_tokens, (1, 0), value=t3.hp.start_text_token)
        tokens = torch.nn.functional.pad(tokens, (0, 1), value=t3.hp.stop_text_token).long().to(t3.device)
        words = t3.text_emb(tokens)
        return torch.cat((words, torch.zeros_like(words))) + t3.text_pos_emb(tokens)

    def _speech_embedding(self, token: int, position: int) -> Any:
        """Shape (1, 1, width)."""
        torch, t3 = self._torch, self._t3
        word = t3.speech_emb(torch.tensor([[token]], device=t3.device))
        return word + t3.speech_pos_emb.get_fixed_embedding(position)

    @contextlib.contextmanager
    def _cache(self, positions: int) -> Iterator[_Cache]:
        """A cache for at least so many positions that nobody else has; one is kept for the next utterance."""
        cache, self._free = self._free, None
        if cache is None or cache.positions < positions:
            del cache  # not beside the new one
            cache = self._new_cache(-(-positions // _CACHE_STEP) * _CACHE_STEP)
        try:
            yield cache
        finally:
            if self._free is None or self._free.positions < cache.positions:
                self._free = cache

    def _new_cache(self, positions: int) -> _Cache:
        torch, device = self._torch, self._t3.device
        shape = (2, self._heads, positions, self._head_size)
        keys, values = ([torch.empty(shape, dtype=self._dtype, device=device) for _ in self._layers] for _ in range(2))
        rotary = self._t3.tfmr.rotary_emb
        angles = torch.outer(
            torch.arange(positions, device=device, dtype=torch.float32), rotary.inv_freq.float().to(device)
        )
        angles = torch.cat((angles, angles), dim=-1)
        scaling = rotary.attention_scaling
        return _Cache(keys, values, (angles.cos() * scaling).to(self._dtype), (angles.sin() * scaling).to(self._dtype))

    def _forward(self, hidden: Any, position: int, cache: _Cache) -> Any:
        """The Llama over new positions, shape (2, n, width) → the same, after the last norm."""
        torch = self._torch
        rows, length, _ = hidden.shape
        end = position + length
        cos, sin = cache.cos[position:end], cache.sin[position:end]
        for layer, keys, values in zip(self._layers, cache.keys, cache.values, strict=True):
            attention, mlp = layer.self_attn, layer.mlp
            normed = layer.input_layernorm(hidden)
            split = (rows, length, self._heads, self._head_size)
            query = _rotated(attention.q_proj(normed).view(split).transpose(1, 2), cos, sin, torch)
            keys[:, :, position:end] = _rotated(attention.k_proj(normed).view(split).transpose(1, 2), cos, sin, torch)
            values[:, :, position:end] = attention.v_proj(normed).view(split).transpose(1, 2)
            mask = None
            if length > 1:
                mask = torch.ones(length, end, dtype=torch.bool, device=hidden.device).tril(diagonal=position)
            mixed = torch.nn.functional.scaled_dot_product_attention(
                query, keys[:, :, :end], values[:, :, :end], attn_mask=mask
            )
            hidden = hidden + attention.o_proj(mixed.transpose(1, 2).reshape(rows, length, -1))
            normed = layer.post_attention_layernorm(hidden)
            hidden = hidden + mlp.down_proj(mlp.act_fn(mlp.gate_proj(normed)) * mlp.up_proj(normed))
        return self._t3.tfmr.norm(hidden)


def _rotated(x: Any, cos: Any, sin: Any, torch: Any) -> Any:
    """Rotary position embedding (arXiv 2104.09864) of shape (B, H, T, D), as transformers' Llama halves it."""
    half = x.shape[-1] // 2
    return x * cos + torch.cat((-x[..., half:], x[..., :half]), dim=-1) * sin
