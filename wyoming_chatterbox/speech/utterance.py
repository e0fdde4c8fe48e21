"""One utterance: sentences → (cache | model | fallback) → PCM.

A task produces an utterance's audio and puts it into an outbox, from which its edge takes it: a slow client keeps
neither an engine nor a slot in the queue.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ..audio import PCMEncoder, apply_gain_db, silence
from ..engine.base import Cancelled, EngineError, NothingToSay
from ..faults import log_fault, without_spoken
from ..hosting.base import AudioChunk, SentenceJob
from ..settings import Settings
from ..speech_settings import UtteranceSettings
from .admission import Admission, QueueSlot
from .cache import CachedSentence, SentenceRecorder, SpeechCache
from .errors import EngineFailed, SpeechError
from .fallback import ModelRoute
from .metrics import Observer, UtteranceMetrics
from .outbox import AudioStore, Outbox
from .request import SpeechRequest
from .sentence_reader import read_sentences
from .text.cleaning import clean
from .text.language import UtteranceLanguage
from .text_turns import TextTurns

_LOGGER = logging.getLogger(__name__)

_CLAUSE_PAUSE = 0.4
"""The pause inside a sentence that was cut at a clause, as a share of that between sentences."""


class Resolver(Protocol):
    """Finds out what a request means."""

    def resolve(self, request: SpeechRequest, language: str | None = None) -> tuple[ModelRoute, UtteranceSettings]:
        """Returns which model speaks a request, in which voice and how; in this language, where one is given. Raises
        SpeechError if it asks for what there is not."""

    def detected_language(self, request: SpeechRequest) -> UtteranceLanguage | None:
        """Returns what finds the language of a request's sentences; None where the request or its voice says it."""


@dataclass(frozen=True)
class SpeechResources:
    """What the utterances of a server share."""

    settings: Settings
    sample_rate: int
    """Of everything that is sent to clients."""

    admission: Admission
    outboxes: AudioStore
    text_turns: TextTurns
    cache: SpeechCache
    observers: list[Observer]


class Utterance:
    """Speaks one request, once; for the event loop."""

    def __init__(self, request: SpeechRequest, resolver: Resolver, resources: SpeechResources) -> None:
        self.request = request
        self.metrics = UtteranceMetrics(request.id, request.streamed, request.received, request.edge)
        """What it has cost so far."""

        self._resolver = resolver
        self._resources = resources
        self._encoder = PCMEncoder(resources.sample_rate)
        self._slot = QueueSlot(resources.admission)
        self._pause = 0.0
        """Seconds of silence before the next audio."""

        self._route: ModelRoute
        self._settings: UtteranceSettings
        self._routes: dict[str | None, tuple[ModelRoute, UtteranceSettings]] = {}
        """By the language that was detected; None: that of the request."""

        self._leases = contextlib.ExitStack()
        self._outbox: Outbox

    async def chunks(self) -> AsyncGenerator[AudioChunk, None]:
        """Yields rendered audio while it is produced; blank text yields nothing.

        Closing the generator cancels the work before the next speech token.

        Raises:
            SpeechError: with the code for the client; audio may have been yielded before.
        """
        metrics = self.metrics
        self._outbox = self._resources.outboxes.open(self._resources.sample_rate)
        producing = asyncio.create_task(self._produce(), name=f"utterance {self.request.id}")
        try:
            while (chunk := await self._outbox.get()) is not None:
                yield chunk
                metrics.audio_written()
        except SpeechError as error:
            metrics.outcome = error.code
            _LOGGER.warning("Utterance %d: %s", self.request.id, error.public)
            raise
        except (asyncio.CancelledError, GeneratorExit):
            metrics.outcome = "cancelled"
            raise
        except Exception:  # a fault of the server, of which the edge tells the client
            metrics.outcome = SpeechError.code
            raise
        finally:
            producing.cancel()
            try:
                await asyncio.wait((producing,))  # it frees its slot
            finally:
                self._outbox.close()
                metrics.log()
                for observer in self._resources.observers:
                    observer(metrics)

    async def _produce(self) -> None:
        """Fill the outbox. Raises nothing: what ends the audio is in the outbox."""
        error: BaseException | None = None
        try:
            await self._speak()
        except asyncio.CancelledError:
            raise  # the edge has left
        except Exception as problem:
            error = problem
        finally:
            self._slot.release()
            self._outbox.end(error)

    async def _speak(self) -> None:
        with self._leases:
            self._take_route()
            metrics, voice = self.metrics, self._route.voice
            metrics.voice, metrics.model = voice.name, voice.model
            unspoken: EngineFailed | None = None
            detected = self._resolver.detected_language(self.request)
            if self.request.streamed:
                # A text that is still written is hardly one that is cached; the model can be loaded meanwhile.
                self._route.model.request_load()
            reading = read_sentences(self.request, self._resources.settings, self._resources.text_turns, self._slot)
            async with aclosing(reading) as sentences:
                async for sentence in sentences:
                    text = clean(sentence.text)
                    if not text:
                        continue
                    if not self._outbox.has_room:
                        self._slot.release()
                        await self._outbox.room()
                    await self._slot.acquire()
                    if detected is not None:
                        with contextlib.suppress(SpeechError):  # nobody speaks it, or not as the request asks
                            self._take_route(detected.next(text))
                    metrics.begin_sentence(len(text))
                    try:
                        await self._speak_sentence(text)
                    except NothingToSay as error:
                        public = without_spoken(str(error), text)
                        _LOGGER.warning("Utterance %d goes on without a sentence: %s", self.request.id, public)
                        unspoken = EngineFailed(str(error), public=public)
                        continue
                    self._pause = self._settings.sentence_silence * (_CLAUSE_PAUSE if sentence.ends_inside else 1.0)
        if unspoken is not None and not metrics.audio:
            raise unspoken
        self._send_rest()

    def _take_route(self, language: str | None = None) -> None:
        """Go on with the model and the voice that speak a language; None: those of the request."""
        if language not in self._routes:
            self._routes[language] = self._resolver.resolve(self.request, language)
            route = self._routes[language][0]
            self._leases.enter_context(route.model.lease(route.voice))
        self._route, self._settings = self._routes[language]

    async def _speak_sentence(self, text: str) -> None:
        async with aclosing(self._sentence_chunks(text)) as chunks:
            async for chunk in chunks:
                rendered = self.render(chunk)
                if rendered is not None:
                    self._outbox.put(rendered)

    def render(self, chunk: AudioChunk) -> AudioChunk | None:
        """Returns audio as a client gets it, at the server's rate: after the pause that is due, with the voice's gain,
        as 16-bit samples. None while the resampler fills."""
        rate, pcm = chunk.sample_rate, b""
        if self._pause:
            pcm = self._encoder.encode(silence(self._pause, rate), rate)
            self._pause = 0.0
        # The gain is for the requested voice, not for the one that speaks in its place.
        samples = chunk.samples if chunk.fallback else apply_gain_db(chunk.samples, self._settings.gain)
        return self._with_pcm(chunk, pcm + self._encoder.encode(samples, rate))

    def _with_pcm(self, chunk: AudioChunk, pcm: bytes) -> AudioChunk | None:
        if not pcm:
            return None
        samples = np.frombuffer(pcm, dtype="<i2")
        rate = self._resources.sample_rate  # the fields by name: dataclasses.replace() takes four times as long
        return AudioChunk(
            samples, rate, chunk.produced_at, chunk.voice, chunk.stats, fallback=chunk.fallback, cached=chunk.cached
        )

    def _send_rest(self) -> None:
        """Send what the resampler still holds."""
        cached = self.metrics.cached == self.metrics.sentences
        last = AudioChunk(
            np.zeros(0, dtype=np.int16),
            self._resources.sample_rate,
            time.perf_counter(),
            self._route.voice,
            fallback=self._route.on_fallback,
            cached=cached,
        )
        rest = self._with_pcm(last, self._encoder.flush())
        if rest is not None:
            self._outbox.put(rest)

    async def _sentence_chunks(self, text: str) -> AsyncGenerator[AudioChunk, None]:
        """Yields a sentence's audio from the cache or, if it is not there, from a model.

        Raises:
            NothingToSay: the text has nothing to pronounce.
            SpeechError: nothing can speak it.
        """
        route, cache = self._route, self._resources.cache
        key = cached = recorder = None
        if not route.on_fallback:
            key = cache.key(text, route.voice, self._settings.generation, route.model.fingerprint)
        if key is not None:
            cached = await cache.get(key)
            recorder = SentenceRecorder(cache, key)
        source = self._synthesize(text, recorder) if cached is None else self._replay(cached)
        async with aclosing(source) as chunks:
            async for chunk in chunks:
                yield chunk

    async def _replay(self, cached: CachedSentence) -> AsyncGenerator[AudioChunk, None]:
        route, metrics = self._route, self.metrics
        metrics.model, metrics.voice = route.model.name, route.voice.name
        metrics.replay(cached.seconds)
        for samples in cached.pieces():
            await self._outbox.room()
            yield AudioChunk(samples, cached.sample_rate, time.perf_counter(), route.voice, cached=True)

    async def _synthesize(self, text: str, recorder: SentenceRecorder | None) -> AsyncGenerator[AudioChunk, None]:
        """Yields a sentence's audio from the model of the route, or from the fallback if that fails at once."""
        route, metrics = self._route, self.metrics
        while True:
            route.model.request_load()
            await route.ensure_ready()
            metrics.model, metrics.voice, metrics.fallback = route.model.name, route.voice.name, route.on_fallback
            heard = False
            started = time.perf_counter()
            job = SentenceJob(self.request.id, text, route.voice, self._settings.generation)
            try:
                async with aclosing(route.model.stream(job)) as chunks:
                    async for chunk in chunks:
                        metrics.update(chunk.stats)
                        heard = True
                        if not chunk.cacheable or route.on_fallback:
                            recorder = None
                        if recorder is not None:
                            recorder.add(chunk)
                        yield dataclasses.replace(chunk, fallback=True) if route.on_fallback else chunk
                if recorder is not None:
                    recorder.commit()
                return
            except NothingToSay:
                raise
            except Cancelled as error:
                raise EngineFailed(f"Model {route.model.name} was stopped") from error
            except Exception as error:
                name, reason = route.model.name, without_spoken(str(error), text)
                if not isinstance(error, EngineError):
                    log_fault(_LOGGER, error, "Model %s broke after %.2f s", name, time.perf_counter() - started)
                # A sentence that was heard in part cannot be begun again in another voice.
                if heard or not route.switch_to_fallback():
                    raise EngineFailed(
                        f"Model {name} failed: {error}", public=f"Model {name} failed: {reason}"
                    ) from error
                _LOGGER.warning("Model %s failed, the embedded voice goes on: %s", name, reason)
