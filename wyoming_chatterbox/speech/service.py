"""Speaks requests: text → sentences → engine → PCM, with cancellation, a bound, and a voice that never fails.

Utterances take turns sentence by sentence (each engine works on one sentence at a time, in order of
arrival), so a long text does not keep a short one waiting until its end. A task makes an utterance's audio and puts it
into an outbox, from which its edge takes it: a slow client keeps neither an engine nor a place in the queue.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import dataclass

from ..audio import PCMEncoder, louder, silence
from ..engine.base import Cancelled, EngineError, NothingToSay
from ..errors import SettingsError
from ..faults import log_fault, without_spoken
from ..hosting.base import SentenceJob
from ..metrics import Observer, UtteranceMetrics
from ..settings import Settings
from ..speech_settings import UtteranceSettings
from ..voices.choosing import MalformedName, UnknownVoice, find_voice, split_name
from ..voices.voice import Voice
from .admission import Admission, QueueSlot
from .cache import Recording, SpeechCache
from .catalog import ModelCatalog, ModelRoute, Readiness
from .cleaning import clean
from .errors import EngineFailed, InvalidSetting, SpeechError, VoiceNotFound
from .outbox import AudioStore, Outbox
from .request import SpeechRequest, TextPaused, TextStream
from .sentences import Sentence, SentenceSplitter
from .ssml import SSMLStripper
from .text_turns import TextTurns
from .thoughts import ThoughtFilter

_LOGGER = logging.getLogger(__name__)

DEFAULT_SAMPLE_RATE = 24000
"""What Chatterbox and the embedded voice make."""

_CLAUSE_PAUSE = 0.4
"""The pause inside a sentence that was cut at a clause, as a share of that between sentences."""


_PATIENCE = 1.0
"""Seconds without text after which what looks like a whole sentence is spoken, rather than when the next one begins:
an assistant that says "Let me check." and calls a tool is heard."""


@dataclass(frozen=True)
class Speech:
    """A piece of an utterance's audio, and who spoke it."""

    pcm: bytes
    """16-bit mono at the service's sample rate; whole samples, never empty."""

    voice: Voice
    fallback: bool
    """`voice` is not the one that was asked for: its model could not speak."""

    made: float = 0.0
    """When the last of it was made (time.perf_counter())."""

    cached: bool = False
    """No model made it now: it was made before, and kept."""


class SpeechService:
    """The one place where requests become speech. Its methods are for the event loop."""

    def __init__(self, settings: Settings, models: ModelCatalog) -> None:
        self._settings = settings
        self._models = models
        self._admission = Admission(settings.max_queue)
        self._audio = AudioStore()
        self._turns = TextTurns()
        self.cache = SpeechCache(settings.data / "speech", settings.cache_size * 1_000_000)
        self.observers: list[Observer] = []
        """Told of every utterance at its end."""

        self.sample_rate = settings.sample_rate or DEFAULT_SAMPLE_RATE

    def check_default_voice(self) -> None:
        """Raise SettingsError when the default voice of the settings is not offered; to be called once all are.

        That no voice speaks the settings' language is only logged: the default voice speaks then.
        """
        if self._settings.voice is not None:
            try:
                find_voice(self.voices, name=self._settings.voice)
            except UnknownVoice as error:
                raise SettingsError(f"voice: {error}") from None
        if self._settings.language is not None:
            try:
                find_voice(self.voices, language=self._settings.language)
            except UnknownVoice as error:
                _LOGGER.warning("--language has no effect: %s", error)

    def resolve_voice(self, request: SpeechRequest) -> Voice:
        """Returns the voice that a request means.

        Raises:
            VoiceNotFound, InvalidSetting: as `speak` would.
        """
        return self._resolve(request)[0]

    @property
    def default_voice(self) -> Voice | None:
        """The voice of requests that choose none; None where there is no voice at all."""
        try:
            return self._find_voice()
        except UnknownVoice:
            return None

    @property
    def voices(self) -> tuple[Voice, ...]:
        """Everything that can be chosen; the first is the model's default."""
        return self._models.voices

    @property
    def streaming(self) -> bool:
        """Whether clients are told that they may send text while it is written."""
        return self._settings.streaming

    @property
    def running(self) -> int:
        """Utterances that an engine works for or will; not those whose clients have to send text or take audio."""
        return self._admission.running

    def readiness(self) -> Readiness:
        """Which model would speak now; takes microseconds."""
        return self._models.readiness()

    def describe(self) -> str:
        """Which model speaks, in one line for people."""
        return self._models.describe()

    def new_text(self) -> TextStream:
        """A text for a request whose pieces will be fed one by one."""
        return TextStream(self._settings.max_text_chars, self._settings.text_timeout)

    def whole_text(self, text: str) -> TextStream:
        """A text for a request that has it all."""
        return TextStream.of(text, self._settings.max_text_chars)

    async def speak(self, request: SpeechRequest) -> AsyncGenerator[Speech, None]:
        """Speak one request, yielding audio as it is made; blank text yields nothing.

        Closing the generator cancels the work before the next speech token.

        Raises:
            SpeechError: with the code for the client; audio may have been yielded before.
        """
        metrics = UtteranceMetrics(request.id, request.streamed, request.received, request.edge)
        request.metrics = metrics
        outbox = self._audio.open(self.sample_rate)
        making = asyncio.create_task(self._make(request, metrics, outbox), name=f"utterance {request.id}")
        try:
            while (piece := await outbox.get()) is not None:
                yield piece
                metrics.audio_written()
        except SpeechError as error:
            metrics.outcome = error.code
            _LOGGER.warning("Utterance %d: %s", request.id, error.public)
            raise
        except (asyncio.CancelledError, GeneratorExit):
            metrics.outcome = "cancelled"
            raise
        except Exception:  # a fault of the server, of which the edge tells the client
            metrics.outcome = SpeechError.code
            raise
        finally:
            making.cancel()
            try:
                await asyncio.wait((making,))  # it gives its place back
            finally:
                outbox.close()
                metrics.log()
                for observer in self.observers:
                    observer(metrics)

    async def _make(self, request: SpeechRequest, metrics: UtteranceMetrics, outbox: Outbox) -> None:
        """Make an utterance's audio. Raises nothing: what ends it is in the outbox."""
        place = QueueSlot(self._admission)
        error: BaseException | None = None
        try:
            async with aclosing(self._speak(request, metrics, place, outbox)) as pieces:
                async for piece in pieces:
                    outbox.put(piece)
        except asyncio.CancelledError:
            raise  # the edge has left
        except Exception as problem:
            error = problem
        finally:
            place.release()
            outbox.end(error)

    async def _speak(
        self, request: SpeechRequest, metrics: UtteranceMetrics, place: QueueSlot, outbox: Outbox
    ) -> AsyncGenerator[Speech, None]:
        voice, settings = self._resolve(request)
        metrics.voice, metrics.model = voice.name, voice.model
        encoder = PCMEncoder(self.sample_rate)
        route = self._models.route(voice)
        pause = 0.0
        unspoken: EngineFailed | None = None
        if request.streamed:
            # A text that is still written is hardly one that is cached; the model can be loaded meanwhile.
            route.model.request_load()
        with route.model.lease(voice):
            async with aclosing(self._sentences(request, place)) as sentences:
                async for sentence in sentences:
                    text = clean(sentence.text)
                    if not text:
                        continue
                    if not outbox.has_room:
                        place.release()
                        await outbox.room()
                    await place.acquire()
                    metrics.begin_sentence(len(text))
                    spoken = self._speak_sentence(request, text, route, settings, metrics, encoder, pause, outbox)
                    try:
                        async with aclosing(spoken) as pieces:
                            async for piece in pieces:
                                yield piece
                    except NothingToSay as error:
                        public = without_spoken(str(error), text)
                        _LOGGER.warning("Utterance %d goes on without a sentence: %s", request.id, public)
                        unspoken = EngineFailed(str(error), public=public)
                        continue
                    pause = settings.sentence_silence * (_CLAUSE_PAUSE if sentence.ends_inside else 1.0)
        if unspoken is not None and not metrics.audio:
            raise unspoken
        rest = encoder.flush()
        if rest:
            cached = metrics.cached == metrics.sentences
            yield Speech(rest, route.voice, route.on_fallback, time.perf_counter(), cached)

    async def _speak_sentence(
        self,
        request: SpeechRequest,
        text: str,
        route: ModelRoute,
        settings: UtteranceSettings,
        metrics: UtteranceMetrics,
        encoder: PCMEncoder,
        pause: float,
        outbox: Outbox,
    ) -> AsyncGenerator[Speech, None]:
        key = (
            None
            if route.on_fallback
            else self.cache.key(text, route.voice, settings.generation, route.model.fingerprint)
        )
        if key is not None:
            kept = await self.cache.get(key)
            if kept is not None:
                metrics.model, metrics.voice = route.model.name, route.voice.name
                metrics.replay(kept.seconds)
                for samples in kept.pieces():
                    await outbox.room()
                    pcm = encoder.encode(silence(pause, kept.sample_rate), kept.sample_rate) if pause else b""
                    pause = 0.0
                    pcm += encoder.encode(louder(samples, settings.gain), kept.sample_rate)
                    if pcm:
                        yield Speech(pcm, route.voice, False, time.perf_counter(), cached=True)
                return
        recording = None if key is None else Recording(self.cache, key)
        while True:
            route.model.request_load()
            await route.ensure_ready()
            metrics.model, metrics.voice, metrics.fallback = route.model.name, route.voice.name, route.on_fallback
            spoken = False
            started = time.perf_counter()
            stream = route.model.stream(SentenceJob(request.id, text, route.voice, settings.generation))
            try:
                async with aclosing(stream) as chunks:
                    async for chunk in chunks:
                        samples, sample_rate = chunk.samples, chunk.sample_rate
                        if chunk.stats is not None:
                            metrics.update(chunk.stats)
                        pcm = b""
                        if not spoken and pause:
                            pcm = encoder.encode(silence(pause, sample_rate), sample_rate)
                        spoken = True
                        if not chunk.cacheable:
                            recording = None
                        if recording is not None and not route.on_fallback:
                            recording.add(samples, sample_rate)
                        if not route.on_fallback:  # whose loudness is another voice's
                            samples = louder(samples, settings.gain)
                        pcm += encoder.encode(samples, sample_rate)
                        if pcm:
                            yield Speech(pcm, route.voice, route.on_fallback, chunk.produced_at)
                if recording is not None:
                    recording.keep()
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
                if spoken or not route.switch_to_fallback():
                    raise EngineFailed(
                        f"Model {name} failed: {error}", public=f"Model {name} failed: {reason}"
                    ) from error
                _LOGGER.warning("Model %s failed, the embedded voice goes on: %s", name, reason)

    def _find_voice(self, name: str | None = None, language: str | None = None, speaker: str | None = None) -> Voice:
        if name is None and language is None and self._settings.language is not None:
            with contextlib.suppress(UnknownVoice):  # said at the start, and a voice for it may still come
                return self._lookup_voice(None, self._settings.language, speaker)
        return self._lookup_voice(name, language, speaker)

    def _lookup_voice(self, name: str | None, language: str | None, speaker: str | None) -> Voice:
        default = self._settings.default_voice
        return find_voice(self.voices, name=name, language=language, speaker=speaker, default=default)

    def _resolve(self, request: SpeechRequest) -> tuple[Voice, UtteranceSettings]:
        """The requested voice, and how it speaks: an utterance's own settings win over its voice's, and those over the
        server's. A setting in the voice's name wins over the same one in the request."""
        try:
            name, in_name = split_name(request.voice)
            voice = self._find_requested_voice(request, name)
            settings = self._settings.utterance.with_overrides(voice.settings).with_overrides(
                {**request.settings, **in_name}
            )
            return voice, settings
        except UnknownVoice as error:
            raise VoiceNotFound(str(error)) from None
        except (MalformedName, SettingsError) as error:
            raise InvalidSetting(str(error)) from None

    def _find_requested_voice(self, request: SpeechRequest, name: str | None) -> Voice:
        of_model = self._models.voices_of(request.model)
        if not of_model:
            return self._find_voice(name, request.language, request.speaker)
        if name is None:
            chosen = None if self.default_voice in of_model else of_model[0].name
            return self._find_voice(chosen, request.language, request.speaker)
        voice = self._find_voice(name, request.language, request.speaker)
        if voice not in of_model:
            raise UnknownVoice(f"Voice {voice.name!r} is spoken by model {voice.model!r}, not by {request.model!r}")
        return voice

    async def _sentences(self, request: SpeechRequest, place: QueueSlot) -> AsyncGenerator[Sentence, None]:
        splitter = SentenceSplitter(self._settings.max_sentence_chars, self._settings.first_clause_words)
        stripper = SSMLStripper() if request.ssml else ThoughtFilter()

        def feed(text: str) -> Iterator[Sentence]:
            return splitter.feed(stripper.strip(text))

        while True:
            if request.text.is_starved:
                place.release()
            try:
                piece = await request.text.read(_PATIENCE if splitter.may_be_complete else None)
            except TextPaused:
                for sentence in splitter.flush():
                    yield sentence
                continue
            if piece is None:
                break
            async with aclosing(self._turns.split(piece, feed)) as sentences:
                async for sentence in sentences:
                    yield sentence
        for sentence in splitter.feed(stripper.finish()):
            yield sentence
        for sentence in splitter.flush():
            yield sentence
