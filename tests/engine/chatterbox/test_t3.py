"""Our decode loop against upstream's, on the tiny checkpoint."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.checkpoint_fixture import TOKENS
from tests.engine.chatterbox.tiny import load_model
from wyoming_chatterbox.engine.base import Cancelled, CancelToken
from wyoming_chatterbox.engine.chatterbox import upstream
from wyoming_chatterbox.engine.chatterbox.t3 import decode, prefix_cache
from wyoming_chatterbox.engine.chatterbox.t3 import tokens as tokens_module
from wyoming_chatterbox.engine.chatterbox.t3.decode import Decoder
from wyoming_chatterbox.engine.chatterbox.t3.sampling import CURRENT, STREAMING, Sampling
from wyoming_chatterbox.engine.chatterbox.t3.sequence import Sequence
from wyoming_chatterbox.engine.chatterbox.t3.tokens import TokenGenerator

pytestmark = pytest.mark.filterwarnings("ignore:.*sdp_kernel:FutureWarning")

SPEECH_TOKENS = 6561


@pytest.fixture(scope="module")
def model(tiny_checkpoint: Path) -> Any:
    """Tests leave it as it was."""
    return load_model(tiny_checkpoint)


@pytest.fixture
def generator(model: Any) -> Iterator[TokenGenerator]:
    with torch.inference_mode():
        yield TokenGenerator(model.t3)


@pytest.fixture(params=[False, True], ids=["rows", "columns"])
def either(model: Any, request: pytest.FixtureRequest) -> Iterator[TokenGenerator]:
    """In both orders in which it may multiply in float32."""
    with torch.inference_mode():
        yield TokenGenerator(model.t3, weight_first=request.param)


def _conditionals(model: Any, exaggeration: float = 0.5, *, other_voice: bool = False) -> Any:
    part = model.conds.t3
    speaker = part.speaker_emb.flip(-1) if other_voice else part.speaker_emb
    return upstream.load_chatterbox().T3Cond(
        speaker_emb=speaker,
        cond_prompt_speech_tokens=part.cond_prompt_speech_tokens,
        emotion_adv=torch.full((1, 1, 1), exaggeration),
    )


def _start(generator: TokenGenerator, model: Any, conditionals: Any = None, **options: Any) -> Iterator[int]:
    text = model.tokenizer.text_to_tokens(options.pop("text", "The kettle is on."))
    given: dict[str, Any] = {"cfg_weight": 0.5, "temperature": 0.8, "seed": 0, "limit": 1000, "cancel": CancelToken()}
    return generator.tokens(conditionals or _conditionals(model), text, **{**given, **options})


def _tokens(generator: TokenGenerator, model: Any, conditionals: Any = None, **options: Any) -> list[int]:
    return list(_start(generator, model, conditionals, **options))


@contextlib.contextmanager
def _logits(model: Any) -> Iterator[list[Any]]:
    """The logits of real speech tokens that the speech head gives meanwhile, one (2, 6561) for each token."""
    seen: list[Any] = []
    handle = model.t3.speech_head.register_forward_hook(
        lambda module, arguments, logits: seen.append(logits[:, -1, :SPEECH_TOKENS].clone())
    )
    try:
        yield seen
    finally:
        handle.remove()


@contextlib.contextmanager
def _our_logits(generator: TokenGenerator) -> Iterator[list[Any]]:
    """The same of our decode loop."""
    seen: list[Any] = []
    decoder = generator.decoder
    real = decoder.logits

    def layer_cache(hidden: Any) -> Any:
        logits = real(hidden)
        seen.append(logits[:, :SPEECH_TOKENS].clone())
        return logits

    decoder.logits = layer_cache  # type: ignore[method-assign]
    try:
        yield seen
    finally:
        del decoder.logits  # type: ignore[method-assign]


def _upstreams(model: Any, text: str, **options: Any) -> list[int]:
    """The tokens that upstream draws with seed 0, the one that ends the speech included."""
    hp = model.t3.hp
    tokens = model.tokenizer.text_to_tokens(text)
    both = torch.nn.functional.pad(tokens, (1, 0), value=hp.start_text_token)
    both = torch.nn.functional.pad(both, (0, 1), value=hp.stop_text_token).expand(2, -1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        (chunk,) = model.inference_stream(
            t3_cond=_conditionals(model), text_tokens=both, chunk_size=1000, **{"cfg_weight": 0.5, **options}
        )
    spoken: list[int] = chunk[0].tolist()
    assert spoken[-1] == hp.stop_speech_token and len(spoken) == TOKENS + 1
    return spoken


@contextlib.contextmanager
def _saying(tokens: list[int], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Our decode loop draws these tokens, whatever the logits are."""
    coming = iter(tokens)
    with monkeypatch.context() as patched:
        patched.setattr(Decoder, "_sample", lambda self, logits, sequence: sequence.token.fill_(next(coming)))
        yield


def test_logits_are_upstreams_when_the_tokens_are(
    either: TokenGenerator, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with _logits(model) as theirs:
        spoken = _upstreams(model, "The kettle is on.")
    _tokens(either, model, text="Yes.", prefix_key="kept")  # a shorter text: of the blank row, a part is kept
    # Without a kept prompt, with a part of it, with all of it.
    for key in (None, "kept", "kept"):
        with _saying(spoken, monkeypatch), _our_logits(either) as ours:
            assert _tokens(either, model, prefix_key=key) == spoken[:-1]
        assert len(ours) == len(theirs)
        for mine, expected in zip(ours, theirs, strict=True):
            assert (mine - expected).norm() / expected.norm() < 1e-4


@pytest.mark.parametrize("options", [{}, {"temperature": 1.5, "cfg_weight": 0.2}], ids=str)
def test_a_seed_gives_the_tokens_that_upstream_draws_with_it(
    either: TokenGenerator, model: Any, options: dict[str, Any]
) -> None:
    theirs = _upstreams(model, "The kettle is on.", **options)
    assert _tokens(either, model, sampling=STREAMING, **options) == theirs[:-1]
    assert _tokens(either, model, **options) != theirs[:-1], "not its sampling, unless that is asked for"


def _processors(sampling: Sampling) -> list[Any]:
    """transformers' own, in the order in which Chatterbox's current `generate()` has them."""
    from transformers.generation import logits_process

    return [
        logits_process.RepetitionPenaltyLogitsProcessor(penalty=sampling.repetition_penalty),
        logits_process.TemperatureLogitsWarper(0.7),
        logits_process.MinPLogitsWarper(min_p=sampling.min_p),
        logits_process.TopPLogitsWarper(top_p=sampling.top_p),
    ]


def _streamings(sampling: Sampling) -> list[Any]:
    """In chatterbox-streaming's `inference_stream()`, the temperature comes first, and there is no min-p."""
    penalty, temperature, _, top_p = _processors(STREAMING)
    return [temperature, penalty, top_p]


@pytest.mark.parametrize("graphs", [False, True])
@pytest.mark.parametrize(
    ("sampling", "processors"),
    [
        (STREAMING, _streamings),
        (CURRENT, _processors),
        (Sampling(1.5, 0.2, 0.6), _processors),
        (Sampling(1.0, 0.0, 0.9), _processors),
        (Sampling(1.0, 0.0, 1.0), _processors),
    ],
    ids=["streaming", "current", "strong", "top-p", "plain"],
)
def test_sampling_is_transformers_but_for_tokens_that_do_not_exist(
    model: Any, graphs: bool, sampling: Sampling, processors: Any
) -> None:
    generator = TokenGenerator(model.t3, graphs=graphs)
    noise = torch.Generator().manual_seed(1)
    decoder = generator.decoder
    past = torch.randint(0, SPEECH_TOKENS, (1, 200), generator=noise)
    repeated = 0
    with decoder.sequence(1) as sequence:
        for seed in range(20):
            logits = 2 * torch.randn(2, len(sequence.seen), generator=noise)
            logits[:, past[0, seed]] = 12.0  # likely, and drawn before
            logits[:, SPEECH_TOKENS:] = -1e4  # what upstream must not sample
            scores = logits[:1] + 0.3 * (logits[:1] - logits[1:])
            for processor in processors(sampling):
                scores = processor(past, scores)
            probabilities = scores.softmax(dim=-1)
            for draw in range(5):
                first, second = (torch.Generator().manual_seed(100 * seed + draw) for _ in range(2))
                sequence.begin(0.3, 0.7, sampling, first)
                sequence.seen[past[0]] = True
                decoder.sample(logits, sequence)
                assert int(sequence.token) == int(torch.multinomial(probabilities, 1, generator=second))
                assert sequence.seen[sequence.token]
                repeated += int(sequence.token) == int(past[0, seed])
    assert repeated or sampling != CURRENT


def test_a_token_that_was_drawn_can_be_drawn_again(generator: TokenGenerator) -> None:
    """Of probability 0.6, as the tokens of a held sound are. chatterbox-streaming never draws it twice."""
    decoder = generator.decoder
    probabilities = torch.full((len(decoder.invalid),), 0.4 / (SPEECH_TOKENS - 1))
    probabilities[7] = 0.6
    logits = (probabilities.log() - probabilities.log().mean()).expand(2, -1)
    often = {}
    for name, sampling in (("current", CURRENT), ("streaming", STREAMING)):
        often[name] = 0
        for seed in range(50):
            with decoder.sequence(1) as sequence:
                sequence.begin(0.5, 0.8, sampling, torch.Generator().manual_seed(seed))
                sequence.seen[7] = True
                decoder.sample(logits, sequence)
                often[name] += int(sequence.token) == 7
    assert often["streaming"] < 10 < often["current"]


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("graphs", [False, True])
def test_without_guidance_one_row_says_what_two_say(
    model: Any, monkeypatch: pytest.MonkeyPatch, graphs: bool, precision: str
) -> None:
    """Upstream's formula with a weight of 0 is the conditional row's logits; the other row is computed for nothing."""

    def speak() -> tuple[list[int], list[Any], int]:
        generator, rows = TokenGenerator(model.t3, precision, graphs=graphs), []
        decoder = generator.decoder
        real = decoder._forward
        decoder._forward = lambda hidden, spans, cache: rows.append(len(hidden)) or real(hidden, spans, cache)  # type: ignore[method-assign]
        with torch.inference_mode(), _our_logits(generator) as logits:
            said = [_tokens(generator, model, cfg_weight=0.0, prefix_key="kept") for _ in range(2)]
        assert said[0] == said[1]
        return said[0], logits, sum(rows)

    one, logits, positions = speak()
    real = Sequence.begin

    def both(self: Any, cfg_weight: float, *rest: Any) -> None:
        real(self, cfg_weight, *rest)
        self.rows = 2

    monkeypatch.setattr(Sequence, "begin", both)
    two, expected, more_positions = speak()
    assert all(each.shape == (1, SPEECH_TOKENS) for each in logits)
    assert all(each.shape == (2, SPEECH_TOKENS) for each in expected)
    assert positions < more_positions, "nothing is computed of the blank row"
    if precision == "float32":
        assert one == two and len(one) == TOKENS
        for mine, theirs in zip(logits, expected, strict=True):
            assert (mine[0] - theirs[0]).norm() / theirs[0].norm() < 1e-4


def test_utterances_with_and_without_guidance_take_turns_in_one_cache(generator: TokenGenerator, model: Any) -> None:
    alone = {weight: _tokens(TokenGenerator(model.t3), model, cfg_weight=weight) for weight in (0.0, 0.5)}
    assert alone[0.0] != alone[0.5]
    for weight in (0.5, 0.0, 0.5, 0.0):
        assert _tokens(generator, model, cfg_weight=weight, prefix_key="kept") == alone[weight]


@pytest.mark.parametrize(("precision", "most"), [("bfloat16", 0.3), ("int8", 0.6)])
def test_coarser_precisions_are_close(
    generator: TokenGenerator, model: Any, monkeypatch: pytest.MonkeyPatch, precision: str, most: float
) -> None:
    spoken = _upstreams(model, "The kettle is on.")
    coarse = TokenGenerator(model.t3, precision)
    with _saying(spoken, monkeypatch), _our_logits(generator) as exact:
        _tokens(generator, model)
    with _saying(spoken, monkeypatch), _our_logits(coarse) as ours:
        _tokens(coarse, model)
    errors = [float((mine - one).norm() / one.norm()) for mine, one in zip(ours, exact, strict=True)]
    # The fixture's sharp random attention makes much of every rounding; logits of other tokens are 1.4 apart.
    assert min(errors) > 1e-5 and sum(errors) / len(errors) < most


class _LateReader:
    """Reads as on a GPU: what `read` returns was there when `record` was called, though the next step has begun."""

    def __init__(self, token: Any, overflowed: Any = None) -> None:
        self.asynchronous = True
        self._token = token
        self._recorded = -1

    def record(self) -> None:
        self._recorded = int(self._token)

    def read(self) -> int:
        return self._recorded


@pytest.mark.parametrize("graphs", [False, True])
@pytest.mark.parametrize("limit", [1, 2, TOKENS, TOKENS + 1, 1000])
def test_a_step_that_begins_before_the_last_token_is_read_changes_none(
    model: Any, monkeypatch: pytest.MonkeyPatch, graphs: bool, limit: int
) -> None:
    with torch.inference_mode():
        expected = _tokens(TokenGenerator(model.t3), model, limit=limit)
        monkeypatch.setattr(tokens_module, "TokenReader", _LateReader)
        ahead = TokenGenerator(model.t3, graphs=graphs)
        with _our_logits(ahead) as passes:
            assert _tokens(ahead, model, limit=limit) == expected
    assert len(expected) == min(limit, TOKENS)
    # One step too many is the price, unless the limit says that it is for nothing.
    assert len(passes) == min(limit, TOKENS + 2)


def test_a_step_for_graphs_says_what_the_other_says(
    generator: TokenGenerator, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a GPU nothing is captured, but the step that would be is run as it is."""
    monkeypatch.setattr(decode, "CACHE_STEP", 32)  # so that an utterance needs several of them
    plain = _tokens(generator, model)
    fixed = TokenGenerator(model.t3, graphs=True)
    ends = []
    real = Decoder.captured_step

    def counted(self: Decoder, sequence: Sequence, end: int) -> None:
        ends.append(end)
        real(self, sequence, end)

    monkeypatch.setattr(Decoder, "captured_step", counted)
    for _ in range(2):
        assert _tokens(fixed, model, prefix_key="kept") == plain
    assert len(set(ends)) > 1 and len(ends) == 2 * TOKENS


def test_a_step_for_graphs_makes_its_mask_once(
    generator: TokenGenerator, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fixed, masks = Decoder(model.t3, captured=True), []
    real = torch.nn.functional.scaled_dot_product_attention

    def watched(*arguments: Any, attn_mask: Any = None) -> Any:
        masks.append(attn_mask)
        return real(*arguments, attn_mask=attn_mask)

    with fixed.sequence(32) as sequence:
        sequence.position.fill_(20)
        monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", watched)
        fixed.captured_step(sequence, 256)
    assert len(masks) == len(fixed.network.layers) and all(mask is masks[0] for mask in masks)
    assert masks[0].dtype == fixed.dtype, "added as it is"
    assert masks[0][0].tolist() == [0.0] * 21 + [float("-inf")] * 235


def test_the_voices_part_of_the_prompt_is_computed_once_and_changes_nothing(
    generator: TokenGenerator, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    voices = {
        ("a", 0.5): _conditionals(model),
        ("a", 1.5): _conditionals(model, 1.5),
        ("b", 0.5): _conditionals(model, other_voice=True),
    }
    plain = {key: _tokens(generator, model, conditionals) for key, conditionals in voices.items()}
    assert len({tuple(tokens) for tokens in plain.values()}) == 3
    real, calls = model.t3.prepare_conditioning, []
    monkeypatch.setattr(model.t3, "prepare_conditioning", lambda given: calls.append(given) or real(given))
    for _ in range(2):
        for key, conditionals in voices.items():
            assert _tokens(generator, model, conditionals, prefix_key=key) == plain[key]
    assert len(calls) == 3


def test_no_more_than_some_prompts_are_kept_and_the_last_used_ones_stay(
    generator: TokenGenerator, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefix_cache, "MAX_PREFIXES", 2)
    for key in ("a", "b", "a", "c"):
        _tokens(generator, model, prefix_key=key, limit=1)
    assert list(generator.prefixes) == ["a", "c"]


def test_tokens_that_do_not_exist_are_never_sampled(generator: TokenGenerator, model: Any) -> None:
    weight = model.t3.speech_head.weight.data
    before = weight.clone()
    try:
        weight[[6561, 6563, 7000, 8193], 0] = 50.0  # the head's likeliest by far
        tokens = _tokens(generator, model)
    finally:
        weight.copy_(before)
    assert len(tokens) == TOKENS
    assert all(0 <= token < SPEECH_TOKENS for token in tokens)


def test_the_limit_is_kept(generator: TokenGenerator, model: Any) -> None:
    everything = _tokens(generator, model)
    assert len(everything) == TOKENS
    assert _tokens(generator, model, limit=7) == everything[:7]


def test_the_seed_decides(generator: TokenGenerator, model: Any) -> None:
    first = _tokens(generator, model, seed=3)
    torch.randn(5)
    assert _tokens(generator, model, seed=3) == first
    assert _tokens(generator, model, seed=4) != first
    assert _tokens(TokenGenerator(model.t3), model, seed=3) == first


def test_nothing_runs_after_cancelling(generator: TokenGenerator, model: Any) -> None:
    cancel = CancelToken()
    tokens = _start(generator, model, cancel=cancel)
    with _our_logits(generator) as passes:
        for _ in range(4):
            next(tokens)
        cancel.set()
        with pytest.raises(Cancelled):
            next(tokens)
    assert len(passes) == 4


def test_utterances_that_take_turns_do_not_mix_and_their_cache_is_used_again(
    generator: TokenGenerator, model: Any
) -> None:
    options: list[dict[str, Any]] = [
        {"seed": 1, "prefix_key": "a"},
        {"seed": 2, "prefix_key": "b", "conditionals": _conditionals(model, 1.5), "text": "No."},
        {"seed": 3, "prefix_key": "a", "limit": 20},
    ]
    alone = [_tokens(TokenGenerator(model.t3), model, **each) for each in options]
    streams = [_start(generator, model, **each) for each in options]
    together: list[list[int]] = [[] for _ in streams]
    for _ in range(TOKENS + 1):
        for stream, tokens in zip(streams, together, strict=True):
            tokens += [token for token in [next(stream, None)] if token is not None]
    assert together == alone
    layer_cache = generator.decoder.free
    assert layer_cache is not None
    for each in (*options, {"seed": 1, "limit": 5}):
        _tokens(generator, model, **each)
        assert generator.decoder.free is layer_cache, "no memory is taken for it"


def test_threads_that_read_a_voice_for_the_first_time_at_once_keep_it_right(model: Any) -> None:
    text = "a" * 150  # three blocks of positions without words
    with torch.inference_mode():
        alone = [_tokens(TokenGenerator(model.t3), model, text=text, seed=seed) for seed in (1, 2, 3)]
        generator = TokenGenerator(model.t3)
        generator._prefix(_conditionals(model), "a")
    both = threading.Barrier(2, timeout=10)
    forward = generator.decoder._forward

    def together(hidden: Any, spans: Any, cache: Any) -> Any:
        result = forward(hidden, spans, cache)
        if len(spans) == 1 and spans[0].row == 1:
            both.wait()
        return result

    generator.decoder._forward = together  # type: ignore[method-assign]
    said: dict[int, list[int]] = {}

    def speak(seed: int) -> None:
        with torch.inference_mode():
            said[seed] = _tokens(generator, model, text=text, seed=seed, prefix_key="a")

    threads = [threading.Thread(target=speak, args=(seed,)) for seed in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [said.get(1), said.get(2)] == alone[:2]
    speak(3)
    assert said[3] == alone[2], "what was kept is right, too"


def test_what_is_kept_of_prompts_is_bounded_whatever_is_asked_for(generator: TokenGenerator, model: Any) -> None:
    def positions() -> int:
        layer_cache = generator.prefixes._prefixes.values()
        return sum(layers[0].shape[2] for prefix in layer_cache for layers in (prefix.voice, *prefix.unconditional))

    most = 0
    for number in range(4):
        _tokens(generator, model, text="a" * 1000, prefix_key=("a", number), limit=1)
        most = max(most, positions())
    assert 1000 < most <= 2304
    assert ("a", 3) in generator.prefixes
    _tokens(generator, model, text="a" * 2046, prefix_key=("a", 0), limit=1)
    assert list(generator.prefixes) == [("a", 0)] and positions() <= 2304, "the longest there is has room"
    for number in range(20):
        _tokens(generator, model, prefix_key=("a", number), limit=1)
    assert list(generator.prefixes) == [("a", number) for number in range(4, 20)]


def test_an_abandoned_utterance_gives_its_cache_back(generator: TokenGenerator, model: Any) -> None:
    stream = _start(generator, model)
    next(stream)
    assert generator.decoder.free is None
    del stream
    assert generator.decoder.free is not None
