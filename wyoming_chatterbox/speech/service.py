"""The speech service: resolves a request and hands out its utterance."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass

from ..errors import SettingsError
from ..language_codes import model_language, same_language
from ..settings import Settings
from ..speech_settings import UtteranceSettings
from ..voices.selection import MalformedName, UnknownVoice, find_voice, split_name
from ..voices.voice import Voice
from .admission import Admission
from .cache import SpeechCache
from .catalog import ModelCatalog, Readiness
from .errors import InvalidSetting, VoiceNotFound
from .fallback import ModelRoute
from .metrics import Observer
from .outbox import AudioStore
from .request import SpeechRequest, TextStream
from .text.language import LanguageDetector, UtteranceLanguage
from .text_turns import TextTurns
from .utterance import SpeechResources, Utterance

_LOGGER = logging.getLogger(__name__)

DEFAULT_SAMPLE_RATE = 24000
"""The rate of Chatterbox and the embedded voice."""


@dataclass(frozen=True)
class FurtherModel:
    """A model beside the primary one."""

    name: str
    description: str
    """What it does, in one line for people."""

    voices: tuple[Voice, ...]


class SpeechService:
    """Turns requests into utterances, and says what can be requested. All methods are for the event loop."""

    def __init__(self, settings: Settings, models: ModelCatalog) -> None:
        self._settings = settings
        self._models = models
        self._admission = Admission(settings.max_queue)
        self.cache = SpeechCache(settings.data / "speech", settings.cache_size * 1_000_000)
        self.observers: list[Observer] = []
        """Told of every utterance at its end."""

        self._detector = _language_detector(settings, models)
        self.sample_rate = settings.sample_rate or DEFAULT_SAMPLE_RATE
        self._resources = SpeechResources(
            settings, self.sample_rate, self._admission, AudioStore(), TextTurns(), self.cache, self.observers
        )

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
            VoiceNotFound, InvalidSetting: as its utterance would.
        """
        return self.resolve(request)[0].voice

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
        """Returns which model would speak now; takes microseconds."""
        return self._models.readiness()

    def describe(self) -> str:
        """Returns which model speaks, in one line for people."""
        return self._models.describe()

    @property
    def further_models(self) -> tuple[FurtherModel, ...]:
        """The models beside the primary one, which a request has to name."""
        return tuple(
            FurtherModel(model.name, self._models.describe_other(model), model.voices) for model in self._models.others
        )

    def new_text(self) -> TextStream:
        """Returns a text for a request whose pieces will be fed one by one."""
        return TextStream(self._settings.max_text_chars, self._settings.text_timeout)

    def whole_text(self, text: str) -> TextStream:
        """Returns a text for a request that has it all."""
        return TextStream.of(text, self._settings.max_text_chars)

    def speak(self, request: SpeechRequest) -> Utterance:
        """Returns the utterance that speaks a request; nothing happens until its `chunks()` are read."""
        return Utterance(request, self, self._resources)

    def load_languages(self) -> None:
        """Load what tells the languages of the house apart; it blocks all threads, 0.1 s for each of them."""
        if self._detector is not None:
            self._detector.load()

    def detected_language(self, request: SpeechRequest) -> UtteranceLanguage | None:
        """Returns what finds the language of a request's sentences; None where request or settings name a language or a
        voice, or there is but one language."""
        if self._detector is None or request.language or self._settings.language:
            return None
        try:
            if split_name(request.voice)[0] is not None:
                return None
        except MalformedName:
            return None
        default = self.default_voice
        return None if default is None else UtteranceLanguage(self._detector, model_language(default.languages[0]))

    def _find_voice(self, name: str | None = None, language: str | None = None, speaker: str | None = None) -> Voice:
        if name is None and language is None and self._settings.language is not None:
            with contextlib.suppress(UnknownVoice):  # said at the start, and a voice for it may still come
                return self._lookup_voice(None, self._settings.language, speaker)
        return self._lookup_voice(name, language, speaker)

    def _lookup_voice(self, name: str | None, language: str | None, speaker: str | None) -> Voice:
        default = self._settings.default_voice
        return find_voice(self.voices, name=name, language=language, speaker=speaker, default=default)

    def resolve(self, request: SpeechRequest, language: str | None = None) -> tuple[ModelRoute, UtteranceSettings]:
        """Returns which model speaks a request, in which voice and how; in a language, where the request names none.

        An utterance's own settings win over its voice's, and those over the server's. A setting in the voice's name
        wins over the same one in the request.
        """
        try:
            name, in_name = split_name(request.voice)
            voice = self._find_requested_voice(request, name, request.language or language)
            asked = {**request.settings, **in_name}
            route = self._models.route(voice)
            route.model.check_parameters(asked)
            route.model.warn_of_settings(voice)
            settings = self._settings.utterance.with_overrides(voice.settings).with_overrides(asked)
            return route, settings
        except UnknownVoice as error:
            raise VoiceNotFound(str(error)) from None
        except (MalformedName, SettingsError) as error:
            raise InvalidSetting(str(error)) from None

    def _find_requested_voice(self, request: SpeechRequest, name: str | None, language: str | None) -> Voice:
        of_model = self._models.voices_of(request.model)
        if not of_model:
            return self._find_voice(name, language, request.speaker)
        if name is None:
            chosen = None if self.default_voice in of_model else of_model[0].name
            return self._find_voice(chosen, language, request.speaker)
        voice = self._find_voice(name, language, request.speaker)
        if voice not in of_model:
            raise UnknownVoice(f"Voice {voice.name!r} is spoken by model {voice.model!r}, not by {request.model!r}")
        return voice


def _language_detector(settings: Settings, models: ModelCatalog) -> LanguageDetector | None:
    """Returns what tells the languages of the house apart; None where there is one, or nobody asks."""
    languages = [
        language
        for language in settings.house_languages
        if any(same_language(language, code) for voice in models.voices for code in voice.languages)
    ]
    return LanguageDetector(languages) if settings.detect_language and len(languages) > 1 else None
