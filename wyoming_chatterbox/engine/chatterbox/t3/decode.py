"""The language model's passes: a prompt into a sequence's cache, then steps of one token each.

The arithmetic is that of upstream's `inference_stream`; what is left out is what it throws away: attention maps, the
hidden states of every layer, a key-value cache that is copied at every token, and what every request's prompt has in
common with the last one of the same voice: the voice's part, and in the unconditional row, which has positions but no
words, the text's part too.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..compute.attention import attend
from ..compute.linear import Linear, reduced
from .gpt2 import GPT2
from .kv_cache import KVCache
from .llama import Llama
from .network import Network
from .prefix_cache import UNCONDITIONAL_BLOCK, Prefix
from .sampling import draw
from .sequence import Sequence
from .spec import T3Spec

CACHE_STEP = 256
"""Caches have a multiple of this many positions, so that an utterance mostly fits into the cache of the last one; a
captured step attends to a multiple of it."""


@dataclass(frozen=True)
class _Span:
    """A stretch of new positions in one of the cache's rows."""

    row: int
    begin: int
    length: int


class Decoder:
    """Upstream's T3. It holds no utterance's state; sequences may be advanced together or in turns, within inference
    mode."""

    def __init__(
        self, t3: Any, precision: str = "float32", *, weight_first: bool = False, captured: bool | None = None
    ) -> None:
        """
        Args:
            t3: chatterbox.models.t3.T3 or our GPT2T3, whose `hp` is a T3Spec.
            precision: of its linear layers, see linear.py.
            weight_first: how these multiply in float32, see there.
            captured: whether steps are those that a CUDA graph can capture, see `captured_step`; None: on CUDA devices.
        """
        self.device = t3.device
        on_cuda = self.device.type == "cuda"
        self.captured = on_cuda if captured is None else captured
        self.spec: T3Spec = t3.hp
        lean = self.captured or on_cuda
        self.network: Network = (
            GPT2(t3.tfmr, precision, lean=lean)
            if self.spec.is_gpt2
            else Llama(t3.tfmr, precision, weight_first=weight_first, lean=lean)
        )
        self.dtype = self.network.dtype
        self.may_overflow = precision == "half"
        self.stop_token: int = t3.hp.stop_speech_token
        self._t3 = t3
        # A copy, lest it keep the whole file of weights mapped.
        head, bias = t3.speech_head.weight.detach(), t3.speech_head.bias
        head = head.clone() if reduced(precision) else head
        bias = None if bias is None else bias.detach().clone()
        self._head = Linear(head, bias, "float32" if reduced(precision) else precision, weight_first=weight_first)
        valid = torch.zeros(t3.hp.speech_tokens_dict_size, dtype=torch.bool)
        # The start token and all above the stop token are no sound; upstream fails on them, or drops what it has.
        valid[: t3.hp.start_speech_token] = True
        valid[self.stop_token] = True
        self.invalid: Tensor = (~valid).to(self.device)
        """Which tokens are never drawn."""

        self.free: Sequence | None = None
        """Kept for the next utterance."""

        self._lock = threading.Lock()

    @contextlib.contextmanager
    def sequence(self, positions: int) -> Iterator[Sequence]:
        """A sequence with room for so many positions that nobody else has; one is kept for the next utterance."""
        with self._lock:
            sequence, self.free = self.free, None
        if sequence is None or sequence.cache.positions < positions:
            if self.device.type == "cuda" and sequence is not None:
                # The stream that used it last need not be the one that it was made in, and that may reuse its memory.
                torch.cuda.current_stream(self.device).synchronize()
            del sequence  # not beside the new one
            whole_steps = -(-positions // CACHE_STEP) * CACHE_STEP
            cache = KVCache(self.network, whole_steps, self.device, rows=2 if self.spec.guided else 1)
            sequence = Sequence(cache, len(self.invalid), self.device)
        try:
            yield sequence
        finally:
            with self._lock:
                if self.free is None or self.free.cache.positions < sequence.cache.positions:
                    self.free = sequence

    def drop_free(self) -> None:
        """Give back the sequence that is kept for the next utterance."""
        with self._lock:
            self.free = None

    # The prompt

    def prefix(self, conditionals: Any) -> Prefix:
        """Returns the voice's part of a prompt; without text it is the same for both rows.

        Args:
            conditionals: upstream's T3Cond.
        """
        embeddings = self._t3.prepare_conditioning(conditionals).to(self.network.residual)
        length = embeddings.shape[1]
        with self.sequence(length) as sequence:
            self._forward(embeddings[0], (_Span(0, 0, length),), sequence.cache)
            return Prefix(tuple(layer[:, 0, :, :length].clone() for layer in sequence.cache.layers))

    def text_embeddings(self, text_tokens: Tensor) -> Tensor:
        """Returns what the model reads of a text, shape (n, width): with its marks, two more than there are tokens.

        Args:
            text_tokens: shape (1, n), without start and stop.
        """
        t3, spec = self._t3, self.spec
        tokens = text_tokens
        if spec.text_marks:
            tokens = torch.nn.functional.pad(tokens, (1, 0), value=spec.start_text_token)
            tokens = torch.nn.functional.pad(tokens, (0, 1), value=spec.stop_text_token)
        embeddings: Tensor = t3.text_emb(tokens.long().to(self.device))[0]
        if spec.input_pos_emb is not None:
            embeddings = embeddings + t3.text_pos_emb.emb.weight[: tokens.shape[1]]
        return embeddings

    def prefill(self, sequence: Sequence, prefix: Prefix, text_embeddings: Tensor) -> Prefix:
        """Fill a sequence's cache with its prompt and the start of speech, and draw the first speech token.

        Args:
            sequence: `begin` was called.
            text_embeddings: the text's embeddings, shape (n, width).

        Returns:
            The prefix, with what was computed of positions without words.
        """
        cache, begin, length = sequence.cache, prefix.length, text_embeddings.shape[0]
        start_tokens = self.spec.start_tokens
        end = begin + length
        for layer, voice in zip(cache.layers, prefix.voice, strict=True):
            layer[:, : sequence.rows, :, :begin] = voice[:, None]
        start_token = self._t3.hp.start_speech_token
        sequence.token.fill_(start_token)
        sequence.index.zero_()
        sequence.seen[start_token] = True
        start = self._speech_embedding(sequence)[0].expand(start_tokens, -1)
        new = torch.cat((text_embeddings.to(self.network.residual), start))
        span = _Span(0, begin, length + start_tokens)
        if sequence.rows == 1:
            last = self._forward(new, (span,), cache)[-1:]
        else:
            prefix = self._fill_unconditional(prefix, length, cache)
            # One pass for both rows: of the second, only what is behind the blanks.
            hidden = self._forward(torch.cat((new, start)), (span, _Span(1, end, start_tokens)), cache)
            last = torch.stack((hidden[span.length - 1], hidden[-1]))
        sequence.next_position = end + start_tokens
        sequence.position.fill_(sequence.next_position)
        sequence.index.fill_(1)
        self.sample(self.logits(last[:, None]), sequence)
        return prefix

    def _fill_unconditional(self, prefix: Prefix, length: int, cache: KVCache) -> Prefix:
        """Fill the second row with positions without words, from earlier texts' as far as these went, and return the
        prefix with all of them."""
        unconditional = list(prefix.unconditional)
        for block in range(-(-length // UNCONDITIONAL_BLOCK)):
            first = block * UNCONDITIONAL_BLOCK
            place = slice(prefix.length + first, prefix.length + first + UNCONDITIONAL_BLOCK)
            if block == len(unconditional):
                # Whole blocks, whatever this text needs: what is too much lies behind it, and is overwritten.
                positions = self._t3.text_pos_emb.emb.weight[first : first + UNCONDITIONAL_BLOCK].to(
                    self.network.residual
                )
                self._forward(positions, (_Span(1, place.start, positions.shape[0]),), cache)
                unconditional.append(tuple(layer[:, 1, :, place].clone() for layer in cache.layers))
            else:
                for layer, known in zip(cache.layers, unconditional[block], strict=True):
                    layer[:, 1, :, place.start : place.start + known.shape[2]] = known
        return Prefix(prefix.voice, tuple(unconditional))

    def _forward(self, hidden: Tensor, spans: tuple[_Span, ...], cache: KVCache) -> Tensor:
        """Run the network over new positions, shape (n, width), `spans` one behind the other; returns that shape."""
        positions = torch.cat([cache.position_ids[span.begin : span.begin + span.length] for span in spans])
        places = cache.position_table.index_select(4, positions)
        hidden = self.network.place(hidden[None], places)
        for layer, layer_cache in zip(self.network.layers, cache.layers, strict=True):
            query, new = self.network.project(layer, hidden, places)
            mixed, first = [], 0
            for span in spans:
                part, end = slice(first, first + span.length), span.begin + span.length
                layer_cache[:, span.row, :, span.begin : end] = new[:, 0, :, part]
                mask = torch.ones(span.length, end, dtype=torch.bool, device=self.device).tril(diagonal=span.begin)
                keys, values = layer_cache[:, span.row : span.row + 1, :, :end]
                mixed.append(
                    torch.nn.functional.scaled_dot_product_attention(query[:, :, part], keys, values, attn_mask=mask)
                )
                first += span.length
            hidden = self.network.feed(layer, hidden, torch.cat(mixed, dim=2))
        return hidden[0]

    # One step

    def step(self, sequences: list[Sequence]) -> None:
        """Feed every sequence's token and draw the one behind it. Their rows go through the linear layers together,
        whatever their positions are; the drawn tokens are left in `Sequence.token`, since reading one waits for the
        device.

        Args:
            sequences: at least one; all different.
        """
        network = self.network
        hidden, places = self._step_inputs(sequences)
        hidden = network.place(hidden, places)
        rows = _rows(sequences)
        alone = len(sequences) == 1
        for number, layer in enumerate(network.layers):
            queries, new = network.project(layer, hidden, places)
            if alone:
                mixed = self._attention(sequences[0], number, queries, new)
            else:
                mixed = torch.cat(
                    [
                        self._attention(sequence, number, queries[part], new[:, part])
                        for sequence, part in zip(sequences, rows, strict=True)
                    ]
                )
            hidden = network.feed(layer, hidden, mixed)
        logits = self.logits(hidden)
        for sequence, part in zip(sequences, rows, strict=True):
            self.sample(logits[part], sequence)
            sequence.index += 1
            sequence.next_position += 1

    def _attention(self, sequence: Sequence, layer: int, queries: Tensor, new: Tensor) -> Tensor:
        """Put keys and values of the fed token into the sequence's cache; returns what its queries gather from all."""
        layer_cache, position, rows = sequence.cache.layers[layer], sequence.next_position, sequence.rows
        layer_cache[:, :rows, :, position : position + 1] = new
        keys, values = layer_cache[:, :rows, :, : position + 1]
        mixed: Tensor = attend(queries, keys, values)
        return mixed

    def captured_step(self, sequence: Sequence, end: int) -> None:
        """The same of one sequence, as a CUDA graph needs it: its shapes depend on `end` alone, the positions that it
        attends to, and it draws with the noise that is there."""
        network, cache = self.network, sequence.cache
        places = cache.position_table.index_select(4, sequence.position)
        hidden = network.place(self._speech_embedding(sequence), places)
        # Added to the scores: of a mask of yes and no, a GPU would make this in every layer, in three steps.
        mask = torch.zeros(1, end, dtype=self.dtype, device=self.device)
        mask = mask.masked_fill(cache.position_ids[:end] > sequence.position, float("-inf"))
        for layer, layer_cache in zip(network.layers, cache.layers, strict=True):
            query, new = network.project(layer, hidden, places)
            layer_cache[:, : sequence.rows].index_copy_(3, sequence.position, new)
            keys, values = layer_cache[:, : sequence.rows, :, :end]
            mixed = torch.nn.functional.scaled_dot_product_attention(query, keys, values, attn_mask=mask)
            hidden = network.feed(layer, hidden, mixed)
        logits = self.logits(hidden)
        self._note_overflow(logits, sequence)
        self._sample(logits, sequence)
        sequence.position += 1
        sequence.index += 1

    def logits(self, hidden: Tensor) -> Tensor:
        """Returns the logits, shape (rows, vocabulary), of hidden states of shape (rows, 1, width)."""
        logits: Tensor = self._head(self.network.last_norm(hidden))[:, 0].float()
        return logits

    def sample(self, logits: Tensor, sequence: Sequence) -> None:
        """Draw a token from logits of shape (rows, vocabulary), with new noise."""
        self._note_overflow(logits, sequence)
        self.fill_noise(sequence)
        self._sample(logits, sequence)

    def fill_noise(self, sequence: Sequence) -> None:
        """Draw the noise that the next token is drawn with."""
        sequence.noise.exponential_(generator=sequence.random)
        # MPS draws an exact zero now and then; divided by it, an excluded token would win.
        sequence.noise.clamp_min_(torch.finfo(torch.float32).tiny)

    def _sample(self, logits: Tensor, sequence: Sequence) -> None:
        settings = sequence.sampling
        # A graph is for every top_k and top_p; elsewhere, nothing is sorted in vain.
        sort = self.captured or settings.sorts
        token = draw(
            logits,
            settings,
            sequence.seen,
            sequence.noise,
            self.invalid,
            sort=sort,
            penalty_last=self.spec.penalty_last,
        )
        sequence.token.copy_(token)
        sequence.seen.index_fill_(0, sequence.token, True)

    def _note_overflow(self, logits: Tensor, sequence: Sequence) -> None:
        if self.may_overflow:
            sequence.overflowed.logical_or_(logits.isfinite().all().logical_not_())

    def _step_inputs(self, sequences: list[Sequence]) -> tuple[Tensor, Tensor]:
        """(embeddings of the tokens that are fed, shape (rows, 1, width); their part of the table of positions)."""
        embeddings = [self._speech_embedding(sequence) for sequence in sequences]
        tables = []
        for sequence in sequences:
            position = sequence.next_position
            tables.append(sequence.cache.position_table[:, :, :, :, position : position + 1])
        if len(sequences) == 1:
            return embeddings[0], tables[0]
        expanded = [
            table.expand(-1, -1, sequence.rows, -1, -1, -1) for table, sequence in zip(tables, sequences, strict=True)
        ]
        return torch.cat(embeddings), torch.cat(expanded, dim=2)

    def _speech_embedding(self, sequence: Sequence) -> Tensor:
        """Of the token that is fed next, shape (rows, 1, width): the same in all rows."""
        t3 = self._t3
        embedding = t3.speech_emb(sequence.token)
        if self.spec.input_pos_emb is not None:
            embedding = embedding + t3.speech_pos_emb.emb(sequence.index)
        expanded: Tensor = embedding.to(self.network.residual).expand(sequence.rows, 1, -1)
        return expanded


def _rows(sequences: list[Sequence]) -> list[slice]:
    """Returns where every sequence's rows are among those of all."""
    ends = list(itertools.accumulate(sequence.rows for sequence in sequences))
    return [slice(end - sequence.rows, end) for sequence, end in zip(sequences, ends, strict=True)]
