"""What looks into a decoder while it speaks. All that the benchmark knows of a decoder's inside is here."""

from __future__ import annotations

import contextlib
import re
import resource
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

from wyoming_chatterbox.engine.chatterbox.s3gen.source import SAMPLES_PER_FRAME
from wyoming_chatterbox.engine.chatterbox.streaming import TokenSource
from wyoming_chatterbox.engine.chatterbox.tracing import Timeline

_FRAMES_PER_TOKEN = 2
_STATUS = Path("/proc/self/status")
_SAMPLING_INTERVAL = 0.02
"""Seconds; reading the status takes 50 µs."""


class SeamlessTokens:
    """The speech tokens of our decoder: seen, and if wanted replaced on their way from T3 to the flow decoder."""

    def __init__(self) -> None:
        self.sampled: list[int] = []
        """What T3 sampled since `clear()`."""

        self._given: Sequence[int] | None = None
        self._with_t3 = True
        self._original: TokenSource | None = None

    def wrap(self, tokens: TokenSource) -> TokenSource:
        """Returns what the decoder is to ask for tokens in the place of `tokens`."""
        self._original = tokens
        return self._watched

    @property
    def can_replace(self) -> bool:
        """Whether a decoder has asked to be watched; upstream's does not."""
        return self._original is not None

    def clear(self) -> None:
        self.sampled = []

    @contextlib.contextmanager
    def replaced(self, given: Sequence[int] | None, *, with_t3: bool = True) -> Iterator[None]:
        """Let the flow decoder have these tokens.

        Args:
            given: speech tokens; None: T3's own.
            with_t3: whether T3 works as long as it would for as many tokens of its own, and one for the end.
        """
        self._given, self._with_t3 = given, with_t3
        try:
            yield
        finally:
            self._given = None

    def _watched(self, *arguments: Any, **named: Any) -> Generator[int, None, None]:
        assert self._original is not None
        given = self._given
        if given is not None and not self._with_t3:
            yield from given
            return
        with contextlib.closing(self._original(*arguments, **named)) as own:
            for index, token in enumerate(own):
                if given is None:
                    self.sampled.append(token)
                    yield token
                elif index < len(given):
                    self.sampled.append(token)
                    yield given[index]
                else:  # here the end would have been sampled
                    return


class SeamlessSource:
    """The random source of our decoder's vocoder: what it was in one stream, another decode may have too."""

    def __init__(self) -> None:
        self._recorded: Any = None
        self._replayed: Any = None
        self._original: Any = None

    def wrap(self, source: Any) -> Any:
        """Returns what the vocoder is to use in the place of its source."""
        self._original = source
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)  # the source's other methods

    def clear(self) -> None:
        """The next utterance begins."""
        self._recorded = None

    @contextlib.contextmanager
    def replayed(self) -> Iterator[None]:
        """Let the next utterance have the last one's source, as far as that goes."""
        self._replayed = self._recorded
        try:
            yield
        finally:
            self._replayed = None

    def samples(self, state: Any, f0: Any) -> tuple[Any, Any]:
        """Returns the source's samples of a stretch of frames, see `HarmonicSource.samples`."""
        import torch

        cat = torch.cat
        source, cycles = self._original.samples(state, f0)
        begin = state.position * SAMPLES_PER_FRAME
        if self._replayed is not None:
            earlier = self._replayed[:, :, begin : begin + source.shape[2]]
            source = cat((earlier, source[:, :, earlier.shape[2] :]), dim=2)
        # What a stream foresaw of later frames gives way to what they became.
        self._recorded = source if self._recorded is None else cat((self._recorded[:, :, :begin], source), dim=2)
        return source, cycles


class UpstreamProbe:
    """Writes down what chatterbox-streaming's `generate_stream()` does, as our own decoder does by itself.

    Its chunks are decoded together with the tokens before them; only what is new in them is counted as made.
    """

    def __init__(self, model: Any, synchronize: Callable[[], None]) -> None:
        """
        Args:
            model: upstream's ChatterboxTTS.
            synchronize: waits for the device.
        """
        self._stop_token = model.t3.hp.stop_speech_token
        self._synchronize = synchronize
        self.timeline = Timeline()
        self.sampled: list[int] = []
        """Speech tokens since `clear()`."""

        self._frames = self._samples = 0
        self._passes = 0
        self._since = 0.0
        self._sampling = False
        model.t3.tfmr.register_forward_pre_hook(self._before_pass)
        model.t3.tfmr.register_forward_hook(self._after_pass, with_kwargs=True)
        self._inference_stream = model.inference_stream
        model.inference_stream = self._tokens
        model.s3gen.flow_inference = self._timed("flow", model.s3gen.flow_inference, self._new_frames)
        model.s3gen.hift_inference = self._timed("vocoder", model.s3gen.hift_inference, self._new_samples)
        marker = model.watermarker
        marker.apply_watermark = self._timed("watermark", marker.apply_watermark, len)

    def clear(self) -> None:
        self.timeline = Timeline()
        self.sampled = []
        self._frames = self._samples = self._passes = 0

    def _tokens(self, **named: Any) -> Iterator[Any]:
        self._since = time.perf_counter()
        for chunk in self._inference_stream(**named):
            tokens = chunk[0].tolist()
            self._end_token(0 if tokens[-1] == self._stop_token else 1)
            self.sampled += [token for token in tokens if token != self._stop_token]
            yield chunk
            self._since = time.perf_counter()

    def _before_pass(self, module: Any, arguments: Any) -> None:
        self._end_token(1)

    def _after_pass(self, module: Any, arguments: Any, named: Any, output: Any) -> None:
        if self._passes == 0:
            self._synchronize()
            embeddings = named.get("inputs_embeds")
            self.timeline.add("prefill", self._since, 0 if embeddings is None else embeddings.shape[1])
            self._since = time.perf_counter()
        self._passes += 1
        self._sampling = True

    def _end_token(self, amount: int) -> None:
        """A token lasts from when the one before it is known until it is known itself."""
        if self._sampling:
            self.timeline.add("token", self._since, amount)
            self._since = time.perf_counter()
            self._sampling = False

    def _timed(self, stage: str, function: Callable[..., Any], amount: Callable[[Any], int]) -> Callable[..., Any]:
        def timed(*arguments: Any, **named: Any) -> Any:
            started = time.perf_counter()
            result = function(*arguments, **named)
            self._synchronize()
            self.timeline.add(stage, started, amount(result))
            return result

        return timed

    def _new_frames(self, mel: Any) -> int:
        before, self._frames = self._frames, _FRAMES_PER_TOKEN * len(self.sampled)
        return self._frames - before

    def _new_samples(self, result: Any) -> int:
        before, self._samples = self._samples, self._frames * SAMPLES_PER_FRAME
        return self._samples - before


class Memory:
    """The most memory that this process had."""

    def __init__(self) -> None:
        self._anonymous = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    @property
    def resident(self) -> int:
        """Bytes, with the pages of mapped files that happen to be in memory."""
        exact = _status("VmHWM")
        if exact is not None:
            return exact
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024

    @property
    def anonymous(self) -> int | None:
        """Bytes that are no file's, which the system cannot take away: looked at every 20 ms. None: not known here."""
        return self._anonymous or None

    def close(self) -> None:
        self._ended.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._ended.wait(_SAMPLING_INTERVAL):
            self._anonymous = max(self._anonymous, _status("RssAnon") or 0)


def _status(name: str) -> int | None:
    """Returns a number of bytes from Linux's account of this process."""
    try:
        found = re.search(rf"^{name}:\s+(\d+) kB$", _STATUS.read_text(), re.M)
    except OSError:
        return None
    return int(found.group(1)) * 1024 if found else None
