"""Sound that is none: engines whose samples are not numbers, or silent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from wyoming_chatterbox.engine.base import CancelToken, Samples, StreamMetrics
from wyoming_chatterbox.speech_settings import GenerationSettings
from wyoming_chatterbox.testing.engines import RATE, ToneEngine, model_of
from wyoming_chatterbox.testing.serving import running, synthesize
from wyoming_chatterbox.voices.voice import Voice


class ValuesEngine(ToneEngine):
    """Makes a chunk of each value in turn."""

    def __init__(self, *values: float) -> None:
        super().__init__("original")
        self.values = values

    def generate_stream(
        self, text: str, voice: Voice, settings: GenerationSettings, cancel: CancelToken
    ) -> Iterator[tuple[Samples, StreamMetrics]]:
        self.texts.append(text)
        for number, value in enumerate(self.values, 1):
            yield np.full(2400, value, dtype=np.float32), StreamMetrics(number, 0.0, 0.1, number * 2400 / RATE, 0.1)


@pytest.mark.parametrize("values", [(np.nan,), (np.inf, 0.5), (0.0, 0.0), (0.0, 1e-5), (0.0, -np.inf)])
async def test_a_sentence_without_sound_is_spoken_by_the_embedded_voice_and_not_cached(
    values: tuple[float, ...], tmp_path: Path
) -> None:
    engine, embedded = ValuesEngine(*values), ToneEngine("embedded")
    other = model_of(embedded)
    async with running(model_of(engine), other, cache_size=1, data_dir=tmp_path) as server, server.client() as client:
        await other.wait_until_decided()
        for _ in range(2):
            answer = await synthesize(client, "Hello.")
            assert answer.start["fallback"] is True
        assert len(server.server.service.cache) == 0
    assert len(engine.texts) == len(embedded.texts) == 2


async def test_what_breaks_inside_a_sentence_ends_it_with_an_error_and_without_noise(tmp_path: Path) -> None:
    async with running(model_of(ValuesEngine(0.5, np.nan)), cache_size=1, data_dir=tmp_path) as server:
        async with server.client() as client:
            answer = await synthesize(client, "Hello.")
        assert answer.error["code"] == "engine-failed"
        assert len(server.server.service.cache) == 0
    assert len(answer.pcm) == 2 * 2400


async def test_silence_before_the_first_sound_is_sent_with_it() -> None:
    async with running(model_of(ValuesEngine(0.0, 0.5, 0.0))) as server, server.client() as client:
        answer = await synthesize(client, "Hello.")
    assert len(answer.pcm) == 3 * 2 * 2400
