"""Several sequences in one step of the language model."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.engine.chatterbox.tiny import load_model
from wyoming_chatterbox.engine.chatterbox.t3.decode import Decoder
from wyoming_chatterbox.engine.chatterbox.t3.prefix_cache import Prefix, PrefixCache
from wyoming_chatterbox.engine.chatterbox.t3.sampling import CURRENT, STREAMING, Sampling
from wyoming_chatterbox.engine.chatterbox.t3.sequence import Sequence

pytestmark = pytest.mark.filterwarnings("ignore:.*sdp_kernel:FutureWarning")

STEPS = 12
UTTERANCES: list[tuple[str, float, float, Sampling]] = [
    ("The kettle is on.", 0.5, 0.8, CURRENT),
    ("No.", 0.0, 0.8, CURRENT),
    ("It is a quarter past seven, and nobody is at home.", 0.7, 1.2, STREAMING),
]
"""(text, guidance, temperature, sampling): other lengths, one row and two."""


@pytest.fixture(scope="module")
def model(tiny_checkpoint: Path) -> Any:
    return load_model(tiny_checkpoint)


def _begin(decoder: Decoder, model: Any, number: int, stack: contextlib.ExitStack) -> Sequence:
    text, cfg_weight, temperature, sampling = UTTERANCES[number]
    sequence = stack.enter_context(decoder.sequence(300))
    sequence.begin(cfg_weight, temperature, sampling, torch.Generator().manual_seed(number))
    prefix = decoder.prefix(model.conds.t3)
    decoder.prefill(sequence, prefix, decoder.text_embeddings(model.tokenizer.text_to_tokens(text)))
    return sequence


def _alone(decoder: Decoder, model: Any, number: int, steps: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sequence = _begin(decoder, model, number, stack)
        tokens = [int(sequence.token)]
        for _ in range(steps):
            decoder.step([sequence])
            tokens.append(int(sequence.token))
    return tokens


@pytest.mark.parametrize("weight_first", [False, True])
def test_sequences_that_are_stepped_together_say_what_they_say_alone(model: Any, weight_first: bool) -> None:
    decoder = Decoder(model.t3, weight_first=weight_first)
    with torch.inference_mode(), contextlib.ExitStack() as stack:
        alone = [_alone(decoder, model, number, STEPS) for number in range(3)]
        sequences = [_begin(decoder, model, number, stack) for number in range(3)]
        assert [sequence.rows for sequence in sequences] == [2, 1, 2]
        assert len({sequence.next_position for sequence in sequences}) == 3, "at other positions each"
        together = [[int(sequence.token)] for sequence in sequences]
        for step in range(STEPS):
            # The first one joins late, the second one leaves early.
            taking_part = [number for number in range(3) if (step >= 4 or number) and (step < 8 or number != 1)]
            decoder.step([sequences[number] for number in taking_part])
            for number in taking_part:
                together[number].append(int(sequences[number].token))
    assert together == [alone[0][: STEPS - 3], alone[1][:9], alone[2]]


@pytest.mark.parametrize(("precision", "most"), [("bfloat16", 0.05), ("int8", 0.1)])
def test_rounding_hardly_changes_with_the_company(model: Any, precision: str, most: float) -> None:
    decoder = Decoder(model.t3, precision)
    seen: list[Any] = []
    real = decoder.logits
    decoder.logits = lambda hidden: seen.append(real(hidden)) or seen[-1]  # type: ignore[method-assign, func-returns-value]
    with torch.inference_mode(), contextlib.ExitStack() as stack:
        sequences = [_begin(decoder, model, number, stack) for number in range(2)]
        before = [sequence.token.clone() for sequence in sequences]
        seen.clear()
        decoder.step(sequences)
        for sequence, token in zip(sequences, before, strict=True):
            sequence.token.copy_(token)
            sequence.index -= 1
            sequence.next_position -= 1
            decoder.step([sequence])
    together, *alone = seen
    expected = torch.cat(alone)
    assert (together - expected).norm() / expected.norm() < most


def test_a_prefix_is_shared_and_never_changed(model: Any) -> None:
    decoder = Decoder(model.t3)
    with torch.inference_mode(), decoder.sequence(300) as sequence:
        prefix = decoder.prefix(model.conds.t3)
        before = [tensor.clone() for tensor in prefix.voice]
        sequence.begin(0.5, 0.8, CURRENT, torch.Generator().manual_seed(0))
        text_embeddings = decoder.text_embeddings(model.tokenizer.text_to_tokens("a" * 70))
        extended = decoder.prefill(sequence, prefix, text_embeddings)
        assert prefix.unconditional == () and len(extended.unconditional) == 2
        assert all(torch.equal(tensor, was) for tensor, was in zip(prefix.voice, before, strict=True))
        unconditional = [tensor.clone() for block in extended.unconditional for tensor in block]
        sequence.begin(0.5, 0.8, CURRENT, torch.Generator().manual_seed(0))
        again = decoder.prefill(sequence, extended, text_embeddings[:10])
    assert again.unconditional == extended.unconditional, "computed once"
    left = [tensor for block in extended.unconditional for tensor in block]
    assert all(torch.equal(tensor, was) for tensor, was in zip(left, unconditional, strict=True))


def test_a_longer_prefix_takes_the_place_of_a_shorter_one_that_is_still_kept() -> None:
    voice = (torch.zeros(2, 1, 3, 4),)
    block = (torch.zeros(2, 1, 64, 4),)
    short, long = Prefix(voice), Prefix(voice, (block,))
    cache = PrefixCache()
    cache.extend(("anna", 0.5), long)
    assert len(cache) == 0, "a voice that was forgotten stays so"
    cache.put(("anna", 0.5), short)
    cache.extend(("anna", 0.5), long)
    cache.extend(("anna", 0.5), short)
    assert cache.get(("anna", 0.5)) is long
    cache.forget("anna")
    assert cache.get(("anna", 0.5)) is None
