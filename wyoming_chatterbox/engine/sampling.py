"""How a speech token is drawn from the language model's logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..settings import GenerationSettings


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


CURRENT = Sampling()
"""What Chatterbox's developers chose for the original model in June 2025. They name the penalty they had before, 2.0,
as the cause of noise at the ends of speech: a token of probability 0.6 could hardly be drawn twice."""

STREAMING = Sampling(repetition_penalty=2.0, min_p=0.0, top_p=0.8)
"""Fixed in chatterbox-streaming."""


def sampling_of(settings: GenerationSettings) -> Sampling:
    """Returns what the settings ask for."""
    if settings.sampling == "streaming":
        return STREAMING
    return Sampling(settings.repetition_penalty, settings.min_p, settings.top_p)


def penalize(torch: Any, scores: Any, seen: Any, penalty: Any) -> Any:
    """Returns scores of shape (vocabulary,) with the repetition penalty on those where `seen` is true."""
    return torch.where(seen, torch.where(scores < 0, scores * penalty, scores / penalty), scores)


def drop_below_min_p(scores: Any, min_p: Any) -> Any:
    """Returns scores of shape (vocabulary,), -inf for tokens less likely than `min_p` times the likeliest."""
    probabilities = scores.softmax(dim=-1)
    return scores.masked_fill(probabilities < min_p * probabilities.amax(), float("-inf"))


def drop_outside_top_p(torch: Any, scores: Any, tail: Any) -> Any:
    """Returns scores of shape (vocabulary,), -inf for the least likely tokens that together have a probability of
    `tail`, which is 1 - top_p."""
    ordered, order = torch.sort(scores, descending=False)
    dropped = ordered.softmax(dim=-1).cumsum(dim=-1) <= tail
    dropped[-1:] = False
    return scores.masked_fill(torch.empty_like(dropped).scatter_(0, order, dropped), float("-inf"))
