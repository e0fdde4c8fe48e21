"""How a speech token is drawn from the language model's logits."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ....speech_settings import GenerationSettings


@dataclass(frozen=True)
class Sampling:
    """What happens to the probabilities of the tokens before one is drawn.

    In this order, as transformers' logits processors do it: the score of every token that was drawn before is divided
    by `repetition_penalty` (multiplied, where it is negative), tokens less likely than `min_p` times the likeliest are
    dropped, and of the rest those that lie outside the likeliest `top_p` of all probability. Scores were divided by the
    temperature before: whether that comes before the penalty or behind it makes no difference, since neither changes a
    sign.
    """

    repetition_penalty: float = 1.2
    """1 is none."""

    min_p: float = 0.05
    """0 drops nothing."""

    top_p: float = 1.0
    """1 drops nothing."""

    top_k: int = 0
    """Of Turbo and Nano, which have no min_p: how many tokens are left before top_p; 0 drops nothing."""


CURRENT = Sampling()
"""What Chatterbox's developers chose for the original model in June 2025. They name the penalty they had before, 2.0,
as the cause of noise at the ends of speech: a token of probability 0.6 could hardly be drawn twice."""

STREAMING = Sampling(repetition_penalty=2.0, min_p=0.0, top_p=0.8)
"""Fixed in chatterbox-streaming."""


def sampling_of(settings: GenerationSettings, default: Sampling = CURRENT) -> Sampling:
    """Returns what the settings ask for; `default` is what suits the model, where they leave it to that."""
    if settings.sampling == "streaming" and default == CURRENT:
        return STREAMING
    return Sampling(
        settings.repetition_penalty,
        settings.min_p,
        settings.top_p or default.top_p,
        settings.top_k or default.top_k,
    )


class SamplingTensors:
    """An utterance's settings where a step reads them: a captured one reads the same tensors whatever they are."""

    def __init__(self, device: torch.device, vocabulary: int) -> None:
        self.cfg_weight: Tensor = torch.zeros((), device=device)
        self.temperature: Tensor = torch.ones((), device=device)
        self.repetition_penalty: Tensor = torch.ones((), device=device)
        self.min_p: Tensor = torch.zeros((), device=device)
        self.tail: Tensor = torch.zeros((), device=device)
        """1 - top_p."""

        self._vocabulary = vocabulary
        self.top_k: Tensor = torch.full((1,), vocabulary, dtype=torch.long, device=device)
        self.sorts = False
        """Whether top_k or top_p drops anything."""

    def set(self, cfg_weight: float, temperature: float, sampling: Sampling) -> None:
        self.cfg_weight.fill_(cfg_weight)
        self.temperature.fill_(temperature)
        self.repetition_penalty.fill_(sampling.repetition_penalty)
        self.min_p.fill_(sampling.min_p)
        self.tail.fill_(1 - sampling.top_p)
        top_k = min(sampling.top_k or self._vocabulary, self._vocabulary)
        self.top_k.fill_(top_k)
        self.sorts = sampling.top_p < 1 or top_k < self._vocabulary


def draw(
    logits: Tensor,
    settings: SamplingTensors,
    seen: Tensor,
    noise: Tensor,
    invalid: Tensor,
    *,
    sort: bool,
    penalty_last: bool = False,
) -> Tensor:
    """Returns one token, shape (1,): guidance, temperature, and what `Sampling` says.

    Dividing by exponential noise and taking the largest is how torch.multinomial draws one: on a CPU a seed gives the
    tokens that upstream draws with it.

    Args:
        logits: shape (rows, vocabulary), the row with the words first; with one row there is no guidance.
        seen: which tokens were drawn before, shape (vocabulary,).
        noise: exponentially distributed, above 0, shape (vocabulary,).
        invalid: which tokens are never drawn, shape (vocabulary,).
        sort: whether top_p and top_k are looked at; tokens are sorted for them.
        penalty_last: as Turbo and Nano have it: the repetition penalty comes behind the others, there is top_k, and no
            min_p.
    """
    scores = logits[0]
    if len(logits) == 2:
        scores = scores + settings.cfg_weight * (scores - logits[1])
    scores = scores.masked_fill(invalid, float("-inf")) / settings.temperature
    if penalty_last:
        if sort:
            scores = drop_outside_top_k(scores, settings.top_k)
            scores = drop_outside_top_p(scores, settings.tail)
        scores = penalize(scores, seen, settings.repetition_penalty)
    else:
        scores = penalize(scores, seen, settings.repetition_penalty)
        scores = drop_below_min_p(scores, settings.min_p)
        if sort:
            scores = drop_outside_top_p(scores, settings.tail)
    probabilities = scores.softmax(dim=-1)
    token: Tensor = (probabilities / noise).argmax(dim=-1, keepdim=True)
    return token


def penalize(scores: Tensor, seen: Tensor, penalty: Tensor) -> Tensor:
    """Returns scores of shape (vocabulary,) with the repetition penalty on those where `seen` is true."""
    return torch.where(seen, torch.where(scores < 0, scores * penalty, scores / penalty), scores)


def drop_below_min_p(scores: Tensor, min_p: Tensor) -> Tensor:
    """Returns scores of shape (vocabulary,), -inf for tokens less likely than `min_p` times the likeliest."""
    probabilities = scores.softmax(dim=-1)
    return scores.masked_fill(probabilities < min_p * probabilities.amax(), float("-inf"))


def drop_outside_top_p(scores: Tensor, tail: Tensor) -> Tensor:
    """Returns scores of shape (vocabulary,), -inf for the least likely tokens that together have a probability of
    `tail`, which is 1 - top_p."""
    ordered, order = torch.sort(scores, descending=False)
    dropped = ordered.softmax(dim=-1).cumsum(dim=-1) <= tail
    dropped[-1:] = False
    return scores.masked_fill(torch.empty_like(dropped).scatter_(0, order, dropped), float("-inf"))


def drop_outside_top_k(scores: Tensor, top_k: Tensor) -> Tensor:
    """Returns scores of shape (vocabulary,), -inf for tokens that are not among the `top_k` (shape (1,)) likeliest."""
    ordered, _ = torch.sort(scores, descending=True)
    return scores.masked_fill(scores < ordered.index_select(0, top_k - 1), float("-inf"))
