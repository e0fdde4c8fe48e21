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
from ..faults import log_fault, without_spoken
from ..hosting.base import SentenceJob
from ..metrics import Observer, UtteranceMetrics
from ..settings import Settings, SettingsError, UtteranceSettings
from ..voices.choosing import MalformedName, UnknownVoice, find_voice, split_name
from ..voices.voice import Voice
from ..waiting import within
from .admission import Admission, QueueSlot
from .cache import Recording, SpeechCache
from .cleaning import clean
from .errors import EngineFailed, InvalidSetting, ModelUnavailable, SpeechError, VoiceNotFound
from .model import Model, ModelStatus
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

_SETTLE_SECONDS = 60.0
"""Longest wait for the embedded voice to be loaded."""


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


@dataclass(frozen=True)
class Readiness:
    """Whether a request would be spoken now, and by whom."""

    model: str
    """The one that was chosen."""

    status: ModelStatus
    speaks: str | None
    """Name of the model that would answer a request for the default voice; None: nothing can."""


class SpeechService:
    """The one place where requests become speech. Its methods are for the event loop."""

    def __init__(self, settings: Settings, model: Model, fallback: Model | None) -> None:
        """
        Args:
            model: the one that was chosen.
            fallback: speaks while `model` cannot; None where nothing may.
        """
        self._settings = settings
        self._model = model
        self._fallback = fallback
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

    def check(self, request: SpeechRequest) -> Voice:
        """The voice that a request means.

        Raises:
            VoiceNotFound, InvalidSetting: as `speak` would.
        """
        return self._voice_and_settings(request)[0]

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
        extra = self._fallback.voices if self._fallback is not None and self._fallback is not self._model else ()
        return self._model.voices + extra

    @property
    def streaming(self) -> bool:
        """Whether clients are told that they may send text while it is written."""
        return self._settings.streaming

    @property
    def running(self) -> int:
        """Utterances that an engine works for or will; not those whose clients have to send text or take audio."""
        return self._admission.running

    def readiness(self) -> Readiness:
        """Who would speak now; takes microseconds."""
        models = [self._model] if self._fallback is None else [self._model, self._fallback]
        speaks = next((one.name for one in models if one.ready), None)
        return Readiness(self._model.name, self._model.status, speaks)

    def describe(self) -> str:
        """Who speaks, in one line for people."""
        model = f"Chatterbox speech, model {self._model.name} {self._model.status}"
        if self._model.ready or self._model is self._fallback:
            return f"{model}, but failed last: {self._model.last_error}" if self._model.last_error else model
        instead = "nothing speaks" if self._fallback is None else "the embedded voice speaks"
        return f"{model}; {instead} in its place"

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
        voice, settings = self._voice_and_settings(request)
        metrics.voice, metrics.model = voice.name, voice.model
        encoder = PCMEncoder(self.sample_rate)
        speaker = _Speaker(self._model, self._fallback, voice)
        pause = 0.0
        unspoken: EngineFailed | None = None
        if request.streamed:
            # A text that is still written is hardly one that is cached; the model can be loaded meanwhile.
            speaker.model.request_load()
        with speaker.model.lease(voice):
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
                    spoken = self._speak_sentence(request, text, speaker, settings, metrics, encoder, pause, outbox)
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
            yield Speech(rest, speaker.voice, speaker.fallback, time.perf_counter(), cached)

    async def _speak_sentence(
        self,
        request: SpeechRequest,
        text: str,
        speaker: _Speaker,
        settings: UtteranceSettings,
        metrics: UtteranceMetrics,
        encoder: PCMEncoder,
        pause: float,
        outbox: Outbox,
    ) -> AsyncGenerator[Speech, None]:
        key = (
            None
            if speaker.fallback
            else self.cache.key(text, speaker.voice, settings.generation, speaker.model.fingerprint)
        )
        if key is not None:
            kept = await self.cache.get(key)
            if kept is not None:
                metrics.model, metrics.voice = speaker.model.name, speaker.voice.name
                metrics.replay(kept.seconds)
                for samples in kept.pieces():
                    await outbox.room()
                    pcm = encoder.encode(silence(pause, kept.sample_rate), kept.sample_rate) if pause else b""
                    pause = 0.0
                    pcm += encoder.encode(louder(samples, settings.gain), kept.sample_rate)
                    if pcm:
                        yield Speech(pcm, speaker.voice, False, time.perf_counter(), cached=True)
                return
        recording = None if key is None else Recording(self.cache, key)
        while True:
            speaker.model.request_load()
            await speaker.choose()
            metrics.model, metrics.voice, metrics.fallback = speaker.model.name, speaker.voice.name, speaker.fallback
            spoken = False
            started = time.perf_counter()
            stream = speaker.model.stream(SentenceJob(request.id, text, speaker.voice, settings.generation))
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
                        if recording is not None and not speaker.fallback:
                            recording.add(samples, sample_rate)
                        if not speaker.fallback:  # whose loudness is another voice's
                            samples = louder(samples, settings.gain)
                        pcm += encoder.encode(samples, sample_rate)
                        if pcm:
                            yield Speech(pcm, speaker.voice, speaker.fallback, chunk.produced_at)
                if recording is not None:
                    recording.keep()
                return
            except NothingToSay:
                raise
            except Cancelled as error:
                raise EngineFailed(f"Model {speaker.model.name} was stopped") from error
            except Exception as error:
                name, reason = speaker.model.name, without_spoken(str(error), text)
                if not isinstance(error, EngineError):
                    log_fault(_LOGGER, error, "Model %s broke after %.2f s", name, time.perf_counter() - started)
                # A sentence that was heard in part cannot be begun again in another voice.
                if spoken or not speaker.fall_back():
                    raise EngineFailed(
                        f"Model {name} failed: {error}", public=f"Model {name} failed: {reason}"
                    ) from error
                _LOGGER.warning("Model %s failed, the embedded voice goes on: %s", name, reason)

    def _find_voice(self, name: str | None = None, language: str | None = None, speaker: str | None = None) -> Voice:
        if name is None and language is None and self._settings.language is not None:
            with contextlib.suppress(UnknownVoice):  # said at the start, and a voice for it may still come
                return self._found(None, self._settings.language, speaker)
        return self._found(name, language, speaker)

    def _found(self, name: str | None, language: str | None, speaker: str | None) -> Voice:
        default = self._settings.default_voice
        return find_voice(self.voices, name=name, language=language, speaker=speaker, default=default)

    def _voice_and_settings(self, request: SpeechRequest) -> tuple[Voice, UtteranceSettings]:
        """The voice that is meant, and how it is spoken: an utterance's own settings win over its voice's, those over
        the server's. Where both its voice's name and the request itself have one, the name's counts."""
        try:
            name, in_name = split_name(request.voice)
            voice = self._find_voice(name, request.language, request.speaker)
            own = {**request.settings, **in_name}
            return voice, self._settings.utterance.changed(voice.settings).changed(own)
        except UnknownVoice as error:
            raise VoiceNotFound(str(error)) from None
        except (MalformedName, SettingsError) as error:
            raise InvalidSetting(str(error)) from None

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


class _Speaker:
    """Who speaks an utterance: the model of its voice, or from some sentence on the fallback."""

    def __init__(self, model: Model, fallback: Model | None, voice: Voice) -> None:
        self.model = fallback if fallback is not None and voice.model == fallback.name else model
        self.voice = voice
        self.fallback = False
        self._other = fallback

    async def choose(self) -> None:
        """Make sure that `model` can speak the next sentence, or put the fallback in its place.

        Raises:
            ModelUnavailable: nothing can.
        """
        if self.model.ready:
            return
        if self.model is not self._other and self._other is None:
            raise ModelUnavailable(f"Model {self.model.name} is {self.model.status}; try again later")
        if self.model is not self._other and not self.fall_back():
            raise ModelUnavailable(f"Model {self.model.name} is {self.model.status}; see the log")
        # The embedded voice is ready a second after the start: worth waiting for.
        with contextlib.suppress(asyncio.TimeoutError):
            await within(_SETTLE_SECONDS, self.model.wait_until_decided())
        if not self.model.ready:
            raise ModelUnavailable(f"The embedded voice is {self.model.status}")

    def fall_back(self) -> bool:
        """Let the fallback speak from now on; False when there is none, or it spoke already."""
        if self._other is None or self.model is self._other:
            return False
        self.model = self._other
        self.voice = self._other.voices[0]
        self.fallback = True
        return True
