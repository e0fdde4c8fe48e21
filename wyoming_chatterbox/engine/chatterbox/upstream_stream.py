"""Advancing one of upstream's generators without leaving a trace in the thread or in the shared model."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from ...faults import without_spoken
from ..base import CancelToken, EngineError, Samples
from ..cuda_errors import raise_if_sticky


class UpstreamStream:
    """Advances one upstream generator, leaving the thread and the model as they were after each step."""

    def __init__(self, model: Any, seed: int, cancel: CancelToken, text: str = "") -> None:
        """`text`: what the generator speaks; no error repeats it."""
        self._device = torch.device(model.device)
        self._cancel = cancel
        self._text = text
        self._random = self._seeded(secrets.randbelow(2**31) if seed < 0 else seed)
        self._language_model = model.t3.tfmr
        self._decoder_parts = (
            # Upstream calls the estimator's forward() itself, which runs no hooks; this is what that calls first.
            model.s3gen.flow.decoder.estimator.time_embeddings,
            model.s3gen.mel2wav.f0_predictor,
        )
        self._passes = 0

    @property
    def tokens(self) -> int:
        """Speech tokens fed back so far; the token that ends the speech is not fed back."""
        return self._passes - 1  # the first pass reads the text

    def next_chunk(self, stream: Iterator[tuple[Any, Any]]) -> Samples | None:
        """Advance to the next chunk, samples of shape (n,); None at the end.

        Raises Cancelled before the next speech token or flow step, and EngineError for what upstream raises.
        """
        # Upstream leaves inference mode on when it yields; this one puts back what the caller had.
        with wrap_errors(self._text), torch.inference_mode(), self._own_random(), self._hooks():
            item = next(stream, None)
        if item is None:
            return None
        samples: Samples = item[0].detach().cpu().numpy().reshape(-1).astype(np.float32)
        return np.clip(samples, -1.0, 1.0)

    def close(self, stream: Any) -> None:
        """End the generator where it is. It leaves inference mode then, which must not be the caller's."""
        with torch.inference_mode():
            stream.close()

    @contextlib.contextmanager
    def _hooks(self) -> Iterator[None]:
        """While this stream is at work, look at its cancellation before every token and every flow step."""

        def before_pass(module: Any, arguments: Any) -> None:
            self._cancel.raise_if_set()
            self._passes += 1

        def before_part(module: Any, arguments: Any) -> None:
            self._cancel.raise_if_set()

        handles = [self._language_model.register_forward_pre_hook(before_pass)]
        handles += [part.register_forward_pre_hook(before_part) for part in self._decoder_parts]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    @contextlib.contextmanager
    def _own_random(self) -> Iterator[None]:
        """This stream's random state in place of the global one, which upstream draws from."""
        outside = self._read_random()
        self._write_random(self._random)
        try:
            yield
        finally:
            self._random = self._read_random()
            self._write_random(outside)

    def _seeded(self, seed: int) -> list[torch.Tensor]:
        """Returns the states that torch.manual_seed would set, without setting them."""
        devices = [torch.device("cpu"), *([] if self._device.type == "cpu" else [self._device])]
        return [torch.Generator(device).manual_seed(seed).get_state() for device in devices]

    def _read_random(self) -> list[torch.Tensor]:
        states = [torch.get_rng_state()]
        if self._device.type == "cuda":
            states.append(torch.cuda.get_rng_state(self._device))
        elif self._device.type == "mps":
            states.append(torch.mps.get_rng_state())
        return states

    def _write_random(self, states: list[torch.Tensor]) -> None:
        torch.set_rng_state(states[0])
        if self._device.type == "cuda":
            torch.cuda.set_rng_state(states[1], self._device)
        elif self._device.type == "mps":
            torch.mps.set_rng_state(states[1])


@contextlib.contextmanager
def wrap_errors(text: str = "") -> Iterator[None]:
    """What the model raises inside becomes an EngineError (EngineBroken, where the GPU is lost to this process); engine
    errors stay what they are.

    `text`: what is spoken; the error's message does not repeat it.
    """
    try:
        yield
    except EngineError:
        raise
    except torch.cuda.OutOfMemoryError as error:
        torch.cuda.empty_cache()
        raise EngineError(
            "the GPU has too little memory left for this text; close other programs or split it"
        ) from error.with_traceback(None)  # its frames hold the tensors that did not fit
    except Exception as error:
        raise_if_sticky(error)
        raise EngineError(f"Chatterbox failed on this text ({without_spoken(describe_error(error), text)})") from error


def describe_error(error: BaseException) -> str:
    """Returns what went wrong inside a library, on one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
