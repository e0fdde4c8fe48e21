"""chatterbox-streaming's Python interface on our decoder: for programs that call `ChatterboxTTS.generate_stream()`.

The server does not use it. Exchange the import, and the stream has no seams; what upstream's has no parameter for comes
behind its own, by name.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .compute_settings import ComputeSettings
from .engine.base import CancelToken, StreamMetrics
from .engine.chatterbox.engine import ChatterboxEngine, to_tensor
from .engine.chatterbox.streaming import SAMPLE_RATE
from .engine.registry import create_voices
from .speech_settings import GenerationSettings


class ChatterboxTTS:
    """Upstream's ChatterboxTTS, as far as it streams. One thread at a time may use it."""

    sr = SAMPLE_RATE

    def __init__(self, engine: ChatterboxEngine) -> None:
        self._engine = engine

    @classmethod
    def from_local(
        cls,
        ckpt_dir: str | Path,
        device: str = "auto",
        *,
        compute: ComputeSettings | None = None,
        warm_up: bool | None = None,
    ) -> ChatterboxTTS:
        """Load the weights that are in a directory, conds.pt (the built-in voice) among them.

        Args:
            ckpt_dir: as upstream's from_local() expects it, or with safetensors.
            device: auto, cpu, mps, cuda or cuda:N.
            compute: profile and what is under it; None: exact.
            warm_up: speak a few words first, so that the first sentence does not pay for kernels that are loaded and
                graphs that are captured. None: on a GPU, where that is a few seconds; on a CPU it can be twenty.

        Raises:
            EngineUnavailable: packages, weights or the device are missing.
            EngineError: a file is damaged.
        """
        engine = ChatterboxEngine.load(Path(ckpt_dir), device, None, 0, compute)
        if engine.is_on_gpu if warm_up is None else warm_up:
            engine.warm_up()
        return cls(engine)

    def generate_stream(
        self,
        text: str,
        audio_prompt_path: str | Path | None = None,
        exaggeration: float = 0.5,
        cfg_weight: float = 0.5,
        temperature: float = 0.8,
        chunk_size: int = 25,
        context_window: int = 50,
        fade_duration: float = 0.02,
        print_metrics: bool = True,
        *,
        seed: int = -1,
        cancel: CancelToken | None = None,
        chunk_growth: float = 0.0,
        sampling: str = "current",
        repetition_penalty: float = 1.2,
        min_p: float = 0.05,
        top_p: float = 1.0,
    ) -> Iterator[tuple[Any, StreamMetrics]]:
        """Speak one piece of text; the arguments up to `print_metrics` are upstream's.

        Args:
            audio_prompt_path: a reference clip; what is computed of it is kept. None: the built-in voice.
            chunk_size: tokens (25 per second) of the first chunk; 0 is what suits profile and device.
            context_window, fade_duration: checked and not needed: the context is all there is, and nothing is faded.
            print_metrics: print one line at the end.
            seed: of all that is random, at least 0; -1 draws a new one.
            cancel: ends the stream before its next token, with Cancelled.
            chunk_growth: how much longer each chunk is than the one before, 1 to 4; 0 is what suits.
            sampling: how tokens are drawn. "current": with the three arguments behind it, as Chatterbox's newer
                `generate()` does; "streaming": as chatterbox-streaming does, whatever these are.
            repetition_penalty: 1 to 2; 1 is none.
            min_p: 0 to 1; 0 excludes no token.
            top_p: 0 to 1; 1 excludes no token.

        Yields:
            (samples, a float32 tensor of shape (1, n) on the CPU, the metrics so far).

        Raises:
            SettingsError: a value is out of its range.
            VoiceError: the clip cannot be used.
            EngineError: the text could not be spoken.
        """
        settings = GenerationSettings(
            exaggeration=exaggeration,
            cfg_weight=cfg_weight,
            temperature=temperature,
            chunk_size=chunk_size,
            chunk_growth=chunk_growth,
            context_window=context_window,
            fade_duration=fade_duration,
            seed=seed,
            sampling=sampling,
            repetition_penalty=repetition_penalty,
            min_p=min_p,
            top_p=top_p,
        )
        voice = self._engine.voices[0] if audio_prompt_path is None else create_voices(Path(audio_prompt_path))[0]
        metrics = None
        for samples, metrics in self._engine.generate_stream(text, voice, settings, cancel or CancelToken()):
            yield to_tensor(samples), metrics
        if print_metrics and metrics is not None:
            print(
                f"{metrics.chunk_count} chunks, {metrics.total_audio_duration:.2f} s of audio, "
                f"first after {metrics.latency_to_first_chunk:.2f} s, RTF {metrics.rtf:.2f}"
            )
