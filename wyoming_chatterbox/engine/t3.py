"""Text → speech tokens: the decode loop of Chatterbox's T3, a Llama that reads a voice and a text.

The arithmetic is upstream's `inference_stream`; what is left out is what it throws away: attention maps, the hidden
states of every layer, a key-value cache that is copied at every token, and what every request's prompt has in common
with the last one of the same voice: the voice's part, and in the unconditional row, which has positions but no words,
the text's part too.

On a GPU a step is one CUDA graph, and the next one begins before the host has read the token of the last.
"""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from . import upstream
from .attention import attend
from .base import Cancel, FloatOverflow
from .graph_check import Trial, check_replay, tolerance
from .graphs import GraphFamily, warn_without
from .linear import Linear
from .llama import Llama, reduced
from .memory import zeros_on_pages
from .sampling import CURRENT, Sampling, drop_below_min_p, drop_outside_top_p, penalize
from .timeline import Timeline

_CACHED_PROMPTS = 16
"""Prompts whose keys and values are kept: one per voice and exaggeration in use."""

_CACHED_POSITIONS = 2304
"""Of all of them together, 0.25 MB each in float32: the longest prompt there is has 2146. Requests say how long their
texts are, and may ask for another exaggeration every time."""

_CACHE_STEP = 256
"""Caches have a multiple of this many positions, so that an utterance mostly fits into the cache of the last one; a
graph attends to a multiple of it."""

_USUAL_POSITIONS = 1536
"""Of the longest usual utterance: a voice, a sentence of 240 characters (a token each at most), and the 1000 tokens it
may take."""

_BLANK_BLOCK = 64
"""Positions. What is computed at once must not depend on earlier texts: neither sums nor 8-bit scales would be the same
to the last bit."""

_BEGIN = 2
"""Upstream feeds the start token twice, both times as the first one."""


@dataclass(frozen=True)
class _Part:
    """A stretch of new positions in one of the cache's rows."""

    row: int
    begin: int
    length: int


@dataclass
class _Prompt:
    """What an utterance's prompt has in common with others of the same voice and exaggeration."""

    voice: list[Any]
    """Keys and values of the voice's part per layer, shape (2, heads, positions, head size)."""

    blank: list[list[Any]]
    """As above, of positions behind them that hold no words, in blocks of `_BLANK_BLOCK`; as many as the longest text
    so far needed."""

    @property
    def length(self) -> int:
        return int(self.voice[0].shape[2])

    @property
    def positions(self) -> int:
        return self.length + _BLANK_BLOCK * len(self.blank)


class _Cache:
    """One utterance's keys and values, 0.5 MB per position in float32, and what a step reads and writes. It is used
    again for the next one; what it held before is never read."""

    def __init__(self, generator: TokenGenerator, positions: int) -> None:
        torch, device, dtype = generator._torch, generator.device, generator.dtype
        llama = generator._llama
        shape = (2, 2, llama.heads, positions, llama.head_size)  # keys and values; rows; …
        self.positions = positions
        # A static step multiplies all of it with its mask, so nothing in it may be infinite.
        if device.type == "cpu":
            self.layers = [zeros_on_pages(shape, dtype) for _ in llama.layers]
        else:
            self.layers = [torch.zeros(shape, dtype=dtype, device=device) for _ in llama.layers]
        self.rotary = llama.rotary(positions, device)
        self.places = torch.arange(positions, device=device)
        vocabulary = generator._invalid.shape[0]
        self.position = torch.zeros(1, dtype=torch.long, device=device)
        """Of the token that is fed next; only a static step reads it."""

        self.index = torch.zeros(1, dtype=torch.long, device=device)
        """Its place among the speech tokens."""

        self.token = torch.zeros(1, dtype=torch.long, device=device)
        self.seen = torch.zeros(vocabulary, dtype=torch.bool, device=device)
        self.noise = torch.ones(vocabulary, device=device)
        self.rows = 2
        """Rows in use: without guidance, the first one alone."""

        self.overflowed = torch.zeros((), dtype=torch.bool, device=device)
        """Whether logits were not finite; only looked at in float16, which does not reach as far."""

        self.cfg_weight = torch.zeros((), device=device)
        self.temperature = torch.ones((), device=device)
        self.repetition_penalty = torch.ones((), device=device)
        self.min_p = torch.zeros((), device=device)
        self.tail = torch.zeros((), device=device)
        """1 - top_p."""

        self.has_tail = False
        """Whether top_p drops anything."""

        self.graphs: dict[tuple[int, int], Any] = {}
        """CUDA graphs of a step, by the positions they attend to and the rows."""

    def set_up(self, cfg_weight: float, temperature: float, sampling: Sampling) -> None:
        """Take an utterance's settings."""
        self.rows = 1 if cfg_weight == 0 else 2
        self.cfg_weight.fill_(cfg_weight)
        self.temperature.fill_(temperature)
        self.repetition_penalty.fill_(sampling.repetition_penalty)
        self.min_p.fill_(sampling.min_p)
        self.tail.fill_(1 - sampling.top_p)
        self.has_tail = sampling.top_p < 1


class TokenGenerator:
    """Upstream's T3 with a decode loop of its own. Its utterances may be advanced in turns, within inference mode."""

    def __init__(
        self, t3: Any, precision: str = "float32", *, columns: bool = False, graphs: bool | None = None
    ) -> None:
        """
        Args:
            t3: chatterbox.models.t3.T3.
            precision: of its linear layers, see linear.py.
            columns: how these multiply in float32, see there.
            graphs: whether a step is a CUDA graph; None: on CUDA devices.
        """
        self._torch = upstream.load_torch()
        self._t3 = t3
        self.device = t3.device
        self._graphs = self.device.type == "cuda" if graphs is None else graphs
        self._llama = Llama(t3.tfmr, precision, columns=columns, lean=self._graphs or self.device.type == "cuda")
        self.dtype = self._llama.dtype
        self._may_overflow = precision == "half"
        # A copy, lest it keep the whole file of weights mapped.
        head = t3.speech_head.weight.detach()
        head = head.clone() if reduced(precision) else head
        self._head = Linear(head, None, "float32" if reduced(precision) else precision, columns=columns)
        self._prompts: OrderedDict[Any, _Prompt] = OrderedDict()
        self._free: _Cache | None = None
        self._family: GraphFamily | None = None
        self._lock = threading.Lock()
        """Of these, and of a prompt's blocks: utterances may be in threads of their own."""

        self.stop_token: int = t3.hp.stop_speech_token
        valid = self._torch.zeros(t3.hp.speech_tokens_dict_size, dtype=self._torch.bool)
        # The start token and all above the stop token are no sound; upstream fails on them, or drops what it has.
        valid[: t3.hp.start_speech_token] = True
        valid[self.stop_token] = True
        self._invalid = (~valid).to(self.device)

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
        sampling: Sampling = CURRENT,
        prompt_key: Any = None,
        timeline: Timeline | None = None,
    ) -> Generator[int, None, None]:
        """Speech tokens (0 to 6560) until the model ends the speech.

        Args:
            conditionals: upstream's T3Cond.
            text_tokens: shape (1, n), without start and stop.
            cfg_weight: at 0 only the row with the text is computed, half of the work.
            limit: most tokens.
            cancel: looked at before every token.
            prompt_key: what `conditionals` are; they share their prompt with all that were given an equal key. None:
                nothing is kept.
            timeline: where to write down what was done when.

        Raises:
            Cancelled: `cancel` was set.
            FloatOverflow: a sum was larger than float16 holds.
        """
        timeline = Timeline() if timeline is None else timeline
        random = self._torch.Generator(self.device).manual_seed(seed)
        started = timeline.now()
        prompt = self._prompt(conditionals, prompt_key)
        cancel.raise_if_set()
        words = self._text_embeddings(text_tokens)
        with self._cache(prompt.length + words.shape[0] + _BLANK_BLOCK + limit) as cache:
            cache.set_up(cfg_weight, temperature, sampling)
            cache.overflowed.zero_()
            logits = self._prefilled(prompt, words, cache)
            self._sample(logits, cache, random)
            reader = _Reader(self._torch, cache.token, cache.overflowed if self._may_overflow else None)
            timeline.add("prefill", started, words.shape[0])
            position = prompt.length + words.shape[0] + _BEGIN
            for index in range(limit):
                started = timeline.now()
                cancel.raise_if_set()
                if index and not reader.asynchronous:
                    self._advance(cache, position + index - 1, random)
                reader.record()
                # On a GPU the next token is on its way before this one is known here; the last one is for nothing.
                if reader.asynchronous and index + 1 < limit:
                    self._advance(cache, position + index, random)
                token = reader.read()
                if token == self.stop_token:
                    return
                timeline.add("token", started, 1)
                yield token

    def capture(self, *, guided: bool = True) -> None:
        """Capture the graphs of a step for utterances of usual length, with or without guidance, and compare each with
        the step itself; without graphs, do nothing."""
        if not self._graphs or self.device.type != "cuda":
            return
        try:
            with self._cache(_USUAL_POSITIONS) as cache:
                cache.rows = 2 if guided else 1
                for end in _usual_ends():
                    self._graph(cache, end)
            for trial in self.trials(guided=guided):
                check_replay(trial, tolerance(self._torch, self.dtype))
        except Exception as error:  # a driver, a version of torch, too little memory
            self.drop_graphs(error)

    def drop_graphs(self, error: Exception) -> None:
        """Go on without graphs, and say why in the log. No utterance may be under way."""
        self._do_without_graphs(error)
        self._free = None

    @contextlib.contextmanager
    def trial(self, *, guided: bool) -> Iterator[Trial | None]:
        """The longest step that `capture` captured, for comparisons; None where there are no graphs."""
        if not self._graphs or self.device.type != "cuda":
            yield None
            return
        with self._cache(_USUAL_POSITIONS) as cache:
            cache.rows = 2 if guided else 1
            yield self._trial(cache, _USUAL_POSITIONS)

    def trials(self, *, guided: bool) -> Iterator[Trial]:
        """Every step that `capture` captured, for comparisons; each must be done with before the next one is asked
        for, since all have one cache."""
        if not self._graphs or self.device.type != "cuda":
            return
        with self._cache(_USUAL_POSITIONS) as cache:
            cache.rows = 2 if guided else 1
            for end in _usual_ends():
                yield self._trial(cache, end)

    def _trial(self, cache: _Cache, end: int) -> Trial:
        """The step at the last position of a graph, behind positions of random keys and values. What it draws does not
        hang on rounding: the first token that is drawn is twice as likely from then on."""
        torch, position, rows = self._torch, end - 1, cache.rows
        cache.set_up(0.5 if rows == 2 else 0.0, 0.8, CURRENT)
        random = torch.Generator().manual_seed(end)
        for kept in cache.layers:
            shape = (*kept.shape[:3], end, kept.shape[4])
            kept[:, :, :, :end] = torch.randn(shape, generator=random).to(kept)
        noise = torch.empty(cache.noise.shape).exponential_(generator=random)
        cache.noise.copy_(noise.clamp_min_(torch.finfo(torch.float32).tiny))

        def begin() -> None:
            cache.position.fill_(position)
            cache.index.fill_(1)
            cache.token.zero_()
            cache.seen.zero_()

        def results() -> tuple[Any, ...]:
            written = torch.stack([kept[:, :rows, :, position] for kept in cache.layers])
            return written, cache.token.clone(), cache.position.clone(), cache.index.clone()

        def step() -> None:
            self._static_step(cache, end)

        begin()
        step()
        # Its score is its probability divided by its noise.
        cache.noise.index_copy_(0, cache.token, cache.noise.index_select(0, cache.token) / 2)
        return Trial(f"{end} positions", begin, step, self._graph(cache, end).replay, results)

    def forget(self, voice_key: Any) -> None:
        """Drop what is kept of a voice, whose prompts' keys are (voice, …)."""
        with self._lock:
            for key in [key for key in self._prompts if isinstance(key, tuple) and key[0] == voice_key]:
                del self._prompts[key]

    # One step

    def _advance(self, cache: _Cache, position: int, random: Any) -> None:
        """Feed `cache.token` at a position, and draw the token behind it."""
        if self._graphs:
            end = -(-(position + 1) // _CACHE_STEP) * _CACHE_STEP
            self._draw_noise(cache, random)
            if self.device.type == "cuda":
                try:
                    graph = self._graph(cache, end)
                except Exception as error:  # an unusually long utterance, and too little memory for its graphs
                    self._do_without_graphs(error)
                else:
                    graph.replay()
                    return
            self._static_step(cache, end)
            return
        hidden = self._speech_embedding(cache)
        llama, rotary = self._llama, cache.rotary[:, :, position : position + 1]
        for layer, kept in zip(llama.layers, cache.layers, strict=True):
            query, new = llama.project(layer, hidden, rotary)
            kept[:, : cache.rows, :, position : position + 1] = new
            keys, values = kept[:, : cache.rows, :, : position + 1]
            hidden = llama.feed(layer, hidden, attend(query, keys, values))
        self._sample(self._logits(hidden), cache, random)
        cache.index += 1

    def _static_step(self, cache: _Cache, end: int) -> None:
        """`_advance`, but its shapes depend on `end` alone, and it draws from `cache.noise`: what a graph needs."""
        torch = self._torch
        hidden = self._speech_embedding(cache)
        llama, rotary = self._llama, cache.rotary.index_select(2, cache.position)
        # Added to the scores: of a mask of yes and no, a GPU would make this in every layer, in three steps.
        mask = torch.zeros(1, end, dtype=self.dtype, device=self.device)
        mask = mask.masked_fill(cache.places[:end] > cache.position, float("-inf"))
        for layer, kept in zip(llama.layers, cache.layers, strict=True):
            query, new = llama.project(layer, hidden, rotary)
            kept[:, : cache.rows].index_copy_(3, cache.position, new)
            keys, values = kept[:, : cache.rows, :, :end]
            mixed = torch.nn.functional.scaled_dot_product_attention(query, keys, values, attn_mask=mask)
            hidden = llama.feed(layer, hidden, mixed)
        logits = self._logits(hidden)
        self._note_overflow(logits, cache)
        self._draw(logits, cache)
        cache.position += 1
        cache.index += 1

    def _graph(self, cache: _Cache, end: int) -> Any:
        """The captured step that attends to the first `end` positions."""
        key = (end, cache.rows)
        if key not in cache.graphs:
            state = (cache.position, cache.index, cache.token, cache.seen)
            with self._lock:
                family = self._family = self._family or GraphFamily(self._torch, self.device)
            cache.graphs[key] = family.capture(lambda: self._static_step(cache, end), state)
        return cache.graphs[key]

    def _note_overflow(self, logits: Any, cache: _Cache) -> None:
        if self._may_overflow:
            cache.overflowed.logical_or_(logits.isfinite().all().logical_not_())

    def _do_without_graphs(self, error: Exception) -> None:
        self._graphs = False
        warn_without("language model", error)

    def _sample(self, logits: Any, cache: _Cache, random: Any) -> None:
        self._note_overflow(logits, cache)
        self._draw_noise(cache, random)
        self._draw(logits, cache)

    def _draw_noise(self, cache: _Cache, random: Any) -> None:
        cache.noise.exponential_(generator=random)
        # MPS draws an exact zero now and then; divided by it, an excluded token would win.
        cache.noise.clamp_min_(self._torch.finfo(self._torch.float32).tiny)

    def _draw(self, logits: Any, cache: _Cache) -> None:
        """One token from logits of shape (rows, vocabulary): guidance, temperature, and what `Sampling` says.

        Dividing by exponential noise and taking the largest is how torch.multinomial draws one: on a CPU a seed gives
        the tokens that upstream draws with it.
        """
        torch = self._torch
        scores = logits[0]
        if cache.rows == 2:
            scores = scores + cache.cfg_weight * (scores - logits[1])
        scores = scores.masked_fill(self._invalid, float("-inf")) / cache.temperature
        scores = penalize(torch, scores, cache.seen, cache.repetition_penalty)
        scores = drop_below_min_p(scores, cache.min_p)
        # A graph is for every top_p; elsewhere, nothing is sorted in vain.
        if self._graphs or cache.has_tail:
            scores = drop_outside_top_p(torch, scores, cache.tail)
        probabilities = scores.softmax(dim=-1)
        cache.token.copy_((probabilities / cache.noise).argmax(dim=-1, keepdim=True))
        cache.seen.index_fill_(0, cache.token, True)

    # The prompt

    def _prompt(self, conditionals: Any, key: Any) -> _Prompt:
        """The voice's part of the prompt; without text it is the same for both rows of the guidance."""
        with self._lock:
            if key is not None and key in self._prompts:
                self._prompts.move_to_end(key)
                return self._prompts[key]
        embeddings = self._t3.prepare_conditioning(conditionals).to(self._llama.residual)
        length = embeddings.shape[1]
        with self._cache(length) as cache:
            self._through(embeddings[0], (_Part(0, 0, length),), cache)
            voice = [kept[:, 0, :, :length].clone() for kept in cache.layers]
        prompt = _Prompt(voice, [])
        with self._lock:
            if key is not None:
                self._prompts[key] = prompt
            self._drop_old_prompts()
        return prompt

    def _drop_old_prompts(self) -> None:
        """Keep no more than may be kept, but always the last one."""
        kept = sum(prompt.positions for prompt in self._prompts.values())
        while len(self._prompts) > 1 and (len(self._prompts) > _CACHED_PROMPTS or kept > _CACHED_POSITIONS):
            _, oldest = self._prompts.popitem(last=False)
            kept -= oldest.positions

    def _prefilled(self, prompt: _Prompt, words: Any, cache: _Cache) -> Any:
        """Fill the cache with the prompt and the start token, twice; the logits behind it, shape (rows, vocabulary)."""
        torch, begin, length = self._torch, prompt.length, words.shape[0]
        end = begin + length
        for kept, voice in zip(cache.layers, prompt.voice, strict=True):
            kept[:, : cache.rows, :, :begin] = voice[:, None]
        cache.token.fill_(self._t3.hp.start_speech_token)
        cache.index.zero_()
        cache.seen.zero_()
        cache.seen[self._t3.hp.start_speech_token] = True
        cache.position.fill_(end + _BEGIN)
        start = self._speech_embedding(cache)[0].expand(_BEGIN, -1)
        new = torch.cat((words.to(self._llama.residual), start))
        part = _Part(0, begin, length + _BEGIN)
        if cache.rows == 1:
            last = self._through(new, (part,), cache)[-1:]
        else:
            self._fill_blanks(prompt, length, cache)
            # One pass for both rows: of the second, only what is behind the blanks.
            hidden = self._through(torch.cat((new, start)), (part, _Part(1, end, _BEGIN)), cache)
            last = torch.stack((hidden[part.length - 1], hidden[-1]))
        cache.index.fill_(1)
        return self._logits(last[:, None])

    def _fill_blanks(self, prompt: _Prompt, length: int, cache: _Cache) -> None:
        """Fill the second row with positions without words, from earlier texts' as far as these went."""
        for block in range(-(-length // _BLANK_BLOCK)):
            first = block * _BLANK_BLOCK
            place = slice(prompt.length + first, prompt.length + first + _BLANK_BLOCK)
            if block == len(prompt.blank):
                # Whole blocks, whatever this text needs: what is too much lies behind it, and is overwritten.
                positions = self._t3.text_pos_emb.emb.weight[first : first + _BLANK_BLOCK].to(self._llama.residual)
                self._through(positions, (_Part(1, place.start, positions.shape[0]),), cache)
                computed = [kept[:, 1, :, place].clone() for kept in cache.layers]
                with self._lock:
                    if block == len(prompt.blank):  # another utterance's thread may have been faster
                        prompt.blank.append(computed)
                        self._drop_old_prompts()
            else:
                for kept, known in zip(cache.layers, prompt.blank[block], strict=True):
                    kept[:, 1, :, place.start : place.start + known.shape[2]] = known

    def _text_embeddings(self, text_tokens: Any) -> Any:
        """Shape (n + 2, width)."""
        torch, t3 = self._torch, self._t3
        tokens = torch.nn.functional.pad(text_tokens, (1, 0), value=t3.hp.start_text_token)
        tokens = torch.nn.functional.pad(tokens, (0, 1), value=t3.hp.stop_text_token).long().to(self.device)
        return t3.text_emb(tokens)[0] + t3.text_pos_emb.emb.weight[: tokens.shape[1]]

    def _speech_embedding(self, cache: _Cache) -> Any:
        """Of the token that is fed next, shape (rows, 1, width): the same in all rows."""
        t3 = self._t3
        embedding = t3.speech_emb(cache.token) + t3.speech_pos_emb.emb(cache.index)
        return embedding.to(self._llama.residual).expand(cache.rows, 1, -1)

    # The network

    def _through(self, hidden: Any, parts: Sequence[_Part], cache: _Cache) -> Any:
        """The Llama over new positions of shape (n, width), `parts` one behind the other → the same."""
        torch = self._torch
        positions = torch.cat([cache.places[part.begin : part.begin + part.length] for part in parts])
        llama, rotary = self._llama, cache.rotary.index_select(2, positions)
        hidden = hidden[None]
        for layer, kept in zip(llama.layers, cache.layers, strict=True):
            query, new = llama.project(layer, hidden, rotary)
            mixed, first = [], 0
            for part in parts:
                own, end = slice(first, first + part.length), part.begin + part.length
                kept[:, part.row, :, part.begin : end] = new[:, 0, :, own]
                mask = torch.ones(part.length, end, dtype=torch.bool, device=self.device).tril(diagonal=part.begin)
                keys, values = kept[:, part.row : part.row + 1, :, :end]
                mixed.append(
                    torch.nn.functional.scaled_dot_product_attention(query[:, :, own], keys, values, attn_mask=mask)
                )
                first += part.length
            hidden = llama.feed(layer, hidden, torch.cat(mixed, dim=2))
        return hidden[0]

    def _logits(self, hidden: Any) -> Any:
        """Shape (rows, 1, width) → (rows, vocabulary)."""
        return self._head(self._llama.last_norm(hidden))[:, 0].float()

    @contextlib.contextmanager
    def _cache(self, positions: int) -> Iterator[_Cache]:
        """A cache for at least so many positions that nobody else has; one is kept for the next utterance."""
        with self._lock:
            cache, self._free = self._free, None
        if cache is None or cache.positions < positions:
            if self.device.type == "cuda" and cache is not None:
                # The stream that used it last need not be the one that it was made in, and that may reuse its memory.
                self._torch.cuda.current_stream(self.device).synchronize()
            del cache  # not beside the new one
            cache = _Cache(self, -(-positions // _CACHE_STEP) * _CACHE_STEP)
        try:
            yield cache
        finally:
            with self._lock:
                if self._free is None or self._free.positions < cache.positions:
                    self._free = cache


class _Reader:
    """Reads tokens from a device; on a GPU after more work was given to it, so that it never waits."""

    def __init__(self, torch: Any, token: Any, overflowed: Any = None) -> None:
        """`overflowed`: is read with every token; None: nothing can overflow."""
        self._sources = [token] if overflowed is None else [token, overflowed]
        self.asynchronous = token.device.type == "cuda"
        if self.asynchronous:
            self._sources = [source.reshape(1) for source in self._sources]
            self._hosts = [torch.zeros(1, dtype=source.dtype, pin_memory=True) for source in self._sources]
            self._copied = torch.cuda.Event()

    def record(self) -> None:
        """What is in the tensors now is what `read` returns."""
        if self.asynchronous:
            for host, source in zip(self._hosts, self._sources, strict=True):
                host.copy_(source, non_blocking=True)
            self._copied.record()

    def read(self) -> int:
        """Returns the token. Raises FloatOverflow."""
        if self.asynchronous:
            self._copied.synchronize()
        token, *overflowed = self._hosts if self.asynchronous else self._sources
        if overflowed and bool(overflowed[0]):
            raise FloatOverflow("the language model needs larger numbers than float16 has; start with --dtype float32")
        return int(token)


def _usual_ends() -> range:
    """What the graphs of usual utterances attend to."""
    return range(_CACHE_STEP, _USUAL_POSITIONS + 1, _CACHE_STEP)
