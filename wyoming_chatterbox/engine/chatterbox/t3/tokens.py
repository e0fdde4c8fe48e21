"""Text → speech tokens, one utterance at a time.

On a GPU a step is one CUDA graph, and the next one begins before the host has read the token of the last.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Hashable
from typing import TYPE_CHECKING, Any

import torch

from ...base import CancelToken, FloatOverflow
from ..compute.graph_check import Trial
from ..tracing import Timeline
from .captured_steps import CapturedSteps
from .decode import Decoder
from .prefix_cache import UNCONDITIONAL_BLOCK, Prefix, PrefixCache
from .sampling import CURRENT, Sampling
from .sequence import Sequence

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor


class TokenGenerator:
    """The tokens of utterances, which may be advanced in turns, within inference mode."""

    def __init__(
        self, t3: Any, precision: str = "float32", *, weight_first: bool = False, graphs: bool | None = None
    ) -> None:
        """
        Args:
            t3: chatterbox.models.t3.T3.
            precision: of its linear layers, see linear.py.
            weight_first: how these multiply in float32, see there.
            graphs: whether a step is a CUDA graph; None: on CUDA devices.
        """
        self.decoder = Decoder(t3, precision, weight_first=weight_first, captured=graphs)
        self.steps = CapturedSteps(self.decoder)
        self.prefixes = PrefixCache()

    def tokens(
        self,
        conditionals: Any,
        text_tokens: Tensor,
        *,
        cfg_weight: float,
        temperature: float,
        seed: int,
        limit: int,
        cancel: CancelToken,
        sampling: Sampling = CURRENT,
        prefix_key: Hashable = None,
        timeline: Timeline | None = None,
    ) -> Generator[int, None, None]:
        """Yield speech tokens (0 to 6560) until the model ends the speech.

        Args:
            conditionals: upstream's T3Cond.
            text_tokens: shape (1, n), without start and stop.
            cfg_weight: at 0 only the row with the text is computed, half of the work.
            limit: most tokens.
            cancel: looked at before every token.
            prefix_key: what `conditionals` are, (voice, …): utterances with an equal key share what is computed of
                them. None: nothing is kept.
            timeline: where to write down what was done when.

        Raises:
            Cancelled: `cancel` was set.
            FloatOverflow: a sum was larger than float16 holds.
        """
        decoder = self.decoder
        timeline = Timeline() if timeline is None else timeline
        random = torch.Generator(decoder.device).manual_seed(seed)
        started = timeline.now()
        prefix = self._prefix(conditionals, prefix_key)
        cancel.raise_if_set()
        text_embeddings = decoder.text_embeddings(text_tokens)
        # A last block of positions without words may reach behind the text.
        positions = (
            prefix.length + text_embeddings.shape[0] + max(UNCONDITIONAL_BLOCK, decoder.spec.start_tokens) + limit
        )
        with decoder.sequence(positions) as sequence:
            sequence.begin(cfg_weight, temperature, sampling, random)
            extended = decoder.prefill(sequence, prefix, text_embeddings)
            if prefix_key is not None:
                self.prefixes.extend(prefix_key, extended)
            reader = TokenReader(sequence.token, sequence.overflowed if decoder.may_overflow else None)
            timeline.add("prefill", started, text_embeddings.shape[0])
            for index in range(limit):
                started = timeline.now()
                cancel.raise_if_set()
                if index and not reader.asynchronous:
                    self._advance(sequence)
                reader.record()
                # On a GPU the next token is on its way before this one is known here; the last one is for nothing.
                if reader.asynchronous and index + 1 < limit:
                    self._advance(sequence)
                token = reader.read()
                if token == decoder.stop_token:
                    return
                timeline.add("token", started, 1)
                yield token

    def capture(self, *, guided: bool = True) -> None:
        """Capture the graphs of usual utterances and check them, see `CapturedSteps.capture`."""
        self.steps.capture(guided=guided)

    def drop_graphs(self, error: Exception) -> None:
        """Go on without graphs, and say why in the log. No utterance may be under way."""
        self.steps.drop(error)

    def trial(self, *, guided: bool) -> contextlib.AbstractContextManager[Trial | None]:
        """Returns the longest step that was captured, see `CapturedSteps.trial`."""
        return self.steps.trial(guided=guided)

    def trials(self, *, guided: bool) -> Iterator[Trial]:
        """Returns every step that was captured, see `CapturedSteps.trials`."""
        return self.steps.trials(guided=guided)

    def forget(self, voice_key: Hashable) -> None:
        """Drop what is kept of a voice."""
        self.prefixes.forget(voice_key)

    def _advance(self, sequence: Sequence) -> None:
        if self.decoder.captured:
            self.steps.advance(sequence)
        else:
            self.decoder.step([sequence])

    def _prefix(self, conditionals: Any, key: Hashable) -> Prefix:
        known = None if key is None else self.prefixes.get(key)
        if known is not None:
            return known
        prefix = self.decoder.prefix(conditionals)
        if key is not None:
            self.prefixes.put(key, prefix)
        return prefix


class TokenReader:
    """Reads tokens from a device; on a GPU after more work was given to it, so that it never waits."""

    def __init__(self, token: Tensor, overflowed: Tensor | None = None) -> None:
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
