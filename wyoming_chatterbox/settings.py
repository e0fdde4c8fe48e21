"""Every knob of the program, once: as a field of `Settings` or of the dataclasses it holds.

A flag wins over the environment, the environment over the app's options (app_options.py), these over the default. What
a knob is: knobs.py. The knobs of speech and of computing are in modules of their own, as engines need no others:
speech_settings.py and compute_settings.py.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from .addresses import check_host_name, check_origin, check_uri, http_address
from .compute_settings import ComputeSettings
from .engine.registry import EMBEDDED, MODELS
from .errors import SettingsError
from .knobs import check_knobs, knob, same_knob
from .language_codes import model_language
from .speech_settings import GenerationSettings, UtteranceSettings

__all__ = ["CLONING_MODELS", "ComputeSettings", "GenerationSettings", "Settings", "SettingsError", "UtteranceSettings"]

MODEL_CHOICES = ("auto", *MODELS)

CLONING_MODELS = tuple(name for name, spec in MODELS.items() if spec.clones)
"""Names of the models that speak in cloned voices; the first is that of voices which name none."""


@dataclass(frozen=True)
class Settings:
    """Everything the command line and the environment decide.

    Values are checked when it is made; files and folders are not looked at (see path_checks.py).
    """

    uri: tuple[str, ...] = knob(
        ("tcp://0.0.0.0:10200",),
        "Address to listen on: tcp://HOST:PORT (0.0.0.0 is every address, IPv4 and IPv6), unix://PATH or stdio://",
        kind=str,
        group="Server",
        repeatable=True,
    )
    model: str = knob(
        "auto",
        "Which model speaks: original (English), multilingual (23 languages; multilingual-v2 is the version before), "
        "turbo (English, for GPUs; it laughs), nano (turbo made small, for CPUs) or embedded (a small voice that is "
        "always there). auto is, with an NVIDIA GPU, original or turbo by its memory, or multilingual for --languages; "
        "without one nano where its packages are installed and the processor is fast enough, otherwise embedded. "
        "Several, such as turbo,multilingual: the first speaks unless a request chooses another, which is loaded when "
        "it is asked for",
        choices=MODEL_CHOICES,
        several=True,
        group="Model",
    )
    model_dir: Path | None = knob(
        None, "Folder with the model's weights; nothing is downloaded then", kind=Path, group="Model"
    )
    download_dir: Path | None = knob(None, "Folder for downloaded weights", kind=Path, group="Model")
    local_files_only: bool = knob(False, "Never download; use only weights that are already present", group="Model")
    device: str = knob("auto", "Device for the model: auto, cpu, mps, cuda or cuda:N", group="Model")
    unload_after: float = knob(
        0.0,
        "Unload the model after this long without speech; the next request loads it again, and the embedded voice "
        "answers meanwhile. 0 keeps it loaded",
        unit="minutes",
        bounds=(0.0, 10_080.0),  # a week
        group="Model",
    )
    fallback: bool = knob(
        True,
        "Refuse requests while the model cannot speak, instead of letting the embedded voice answer",
        group="Model",
    )
    voice: str | None = knob(
        None, "Voice for requests that name none (default: the model's first)", kind=str, group="Voice"
    )
    language: str | None = knob(
        None,
        "Language of requests that name neither a voice nor a language, e.g. en",
        kind=str,
        group="Voice",
    )
    languages: tuple[str, ...] = knob(
        (),
        "Languages of the house, such as de,en: with a model of several languages every voice is listed for these, for "
        "the first one under its own name (default: all that the model speaks)",
        kind=str,
        group="Voice",
        repeatable=True,
    )
    detect_language: bool = knob(
        True,
        "Speak requests that name neither a voice nor a language in the default voice's language, rather than in the "
        "one of --languages that each sentence is written in",
        group="Voice",
    )
    reference_clip: Path | None = knob(
        None,
        "Audio file of a voice to clone, which becomes the default voice; it is named after the file",
        kind=Path,
        group="Voice",
    )
    voices_dir: tuple[Path, ...] = knob(
        (),
        "Folder of voices to clone, watched while the server runs",
        kind=Path,
        group="Voice",
        repeatable=True,
    )
    data_dir: Path | None = knob(
        None,
        "Folder for what the server keeps: voices and what was computed of them (default: "
        "~/.local/share/wyoming-chatterbox, or under XDG_DATA_HOME)",
        kind=Path,
        group="Server",
    )
    generation: GenerationSettings = field(default_factory=GenerationSettings)
    compute: ComputeSettings = field(default_factory=ComputeSettings)
    sample_rate: int = knob(
        0,
        "Sample rate sent to clients, at least 8000; 0 keeps the model's 24000 (satellites ask for different rates)",
        unit="Hz",
        bounds=(0, 48000),
        nonzero_minimum=8000,
        group="Audio",
    )
    gain: float = same_knob(UtteranceSettings, "gain")
    sentence_silence: float = same_knob(UtteranceSettings, "sentence_silence")
    first_clause_words: int = knob(
        8,
        "Speak the first clause by itself once it has this many words, so that a long first sentence starts sooner;"
        " 0 waits for the whole sentence",
        unit="words",
        bounds=(0, 100),
        group="Text",
    )
    max_sentence_chars: int = knob(
        240, "Longer sentences are split at clauses", unit="characters", bounds=(40, 1000), group="Text"
    )
    max_text_chars: int = knob(
        20_000, "Maximum length of the text of one request", unit="characters", bounds=(100, 1_000_000), group="Text"
    )
    streaming: bool = knob(
        True, "Do not offer streaming: Home Assistant then waits for complete answers", group="Server"
    )
    max_queue: int = knob(
        32,
        "Maximum number of active and queued utterances; further requests are refused",
        bounds=(1, 10_000),
        group="Server",
    )
    max_connections: int = knob(
        128,
        "Maximum number of connected clients; idle ones make room for new ones, otherwise new ones are refused",
        bounds=(1, 10_000),
        group="Server",
    )
    event_timeout: float = knob(
        30.0, "Time limit for one event to arrive once it has begun", unit="seconds", bounds=(0.1, 3600), group="Server"
    )
    idle_timeout: float = knob(
        600.0,
        "Close a connection that has been idle for this long",
        unit="seconds",
        bounds=(0.1, 86400),
        group="Server",
    )
    text_timeout: float = knob(
        300.0,
        "Maximum pause in a streamed text (a language model may call tools between two words)",
        unit="seconds",
        bounds=(0.1, 3600),
        group="Server",
    )
    engine_timeout: float = knob(
        300.0,
        "Time a model may work on one chunk before it counts as hung",
        unit="seconds",
        bounds=(0.1, 86400),
        group="Server",
    )
    exit_on_gpu_failure: bool = knob(
        True,
        "Keep running after a GPU failure from which this process cannot recover; the embedded voice answers. By "
        "default the server exits with status 1 (five minutes after its start at the earliest), so that systemd or "
        "Docker restarts it",
        group="Server",
    )
    write_timeout: float = knob(
        60.0,
        "Disconnect a client that reads no audio for this long",
        unit="seconds",
        bounds=(0.1, 3600),
        group="Server",
    )
    shutdown_timeout: float = knob(
        5.0,
        "Time that active utterances may take to finish after SIGTERM",
        unit="seconds",
        bounds=(0.0, 600),
        group="Server",
    )
    cache_size: int = knob(
        200,
        "Maximum size of the sentence cache in DATA/speech (200 MB hold an hour); cached sentences are spoken "
        "without the model, and least recently used entries are evicted. 0 disables it",
        unit="MB",
        bounds=(0, 1_000_000),
        group="Cache",
    )
    http_uri: str | None = knob(
        None,
        "Also serve HTTP, WebSocket and the page at http://HOST:PORT; without a host at 127.0.0.1, without a port "
        "at 10201. Needs the http extra",
        kind=str,
        group="HTTP",
    )
    http_token_file: Path | None = knob(
        None,
        "File with the bearer tokens that clients must present, one per line, each at least 16 characters; read "
        "again when it changes. Voices can be uploaded only if it is set",
        kind=Path,
        group="HTTP",
    )
    http_public_voices: bool = knob(
        False,
        "Show clients without a token the list of voices and models (GET /v1/audio/voices, /v1/audio/models): Open "
        "WebUI asks for it without one",
        group="HTTP",
    )
    http_host: tuple[str, ...] = knob(
        (),
        "Host name by which clients may address this server, or *.NAME for all names that end so. Names of the "
        "local network (without a dot, .local, .lan, .internal and so on) and addresses are always allowed; other "
        "names are refused, because foreign web pages could resolve theirs to this server",
        kind=str,
        group="HTTP",
        repeatable=True,
    )
    http_cors_origin: tuple[str, ...] = knob(
        (),
        "Origin (https://example.org) whose web pages may use this server; null is a page opened from a file",
        kind=str,
        group="HTTP",
        repeatable=True,
    )
    zeroconf: bool = knob(True, "Do not advertise the server on the LAN", group="Discovery")
    zeroconf_name: str | None = knob(
        None, "Instance name on the LAN (default: from host name, machine id and port)", kind=str, group="Discovery"
    )
    zeroconf_interface: tuple[str, ...] = knob(
        (),
        "Advertise only on this network interface, by its name or address",
        kind=str,
        group="Discovery",
        repeatable=True,
    )
    options_file: Path | None = knob(
        None,
        "The options.json of the Home Assistant app; command line flags and environment variables take precedence "
        "over it",
        kind=Path,
        group="Server",
    )
    log_level: str = knob(
        "INFO", "How much is logged to stderr", choices=("DEBUG", "INFO", "WARNING", "ERROR"), group="Server"
    )

    def __post_init__(self) -> None:
        check_knobs(self)
        for uri in self.uri:
            check_uri(uri)
        for name in ("auto", EMBEDDED.name):
            if name in self.models and len(self.models) > 1:
                reason = "finds one model" if name == "auto" else "is there beside every model"
                raise SettingsError(f"model: {name!r} cannot be combined, it {reason}; leave it out")
        if len(set(self.models)) < len(self.models):
            raise SettingsError(f"model: {self.model!r} names a model twice; name each once")
        if self.model_dir is not None and len(self.models) > 1:
            raise SettingsError(
                f"model_dir: {str(self.model_dir)!r} has the weights of one model, and --model names "
                f"{len(self.models)}; leave it out, or name one model"
            )
        if len(self.uri) > 1 and "stdio://" in self.uri:
            raise SettingsError("uri: 'stdio://' serves one client on standard input and cannot be combined")
        name, _, index = self.device.partition(":")
        if name not in ("auto", "cpu", "mps", "cuda") or (index and not (name == "cuda" and index.isdigit())):
            raise SettingsError(f"device: {self.device!r} is unknown (allowed: auto, cpu, mps, cuda, cuda:N)")
        if self.http_uri is not None:
            http_address(self.http_uri)
        for name in self.http_host:
            check_host_name(name)
        for origin in self.http_cors_origin:
            check_origin(origin)

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models of `model`; the first is the primary one."""
        return tuple(self.model.split(","))

    @property
    def utterance(self) -> UtteranceSettings:
        """Settings of an utterance whose voice and request change nothing."""
        return UtteranceSettings(self.generation, self.gain, self.sentence_silence)

    @property
    def house_languages(self) -> tuple[str, ...]:
        """Codes of `languages` as models call them; none: all that the model speaks."""
        codes = (code.strip() for entry in self.languages for code in entry.split(","))
        return tuple(dict.fromkeys(model_language(code) for code in codes if code))

    @property
    def default_voice(self) -> str | None:
        """Name of the voice for requests that choose none; None: the model's built-in one."""
        if self.voice is None and self.reference_clip is not None:
            return self.reference_clip.stem
        return self.voice

    @property
    def data(self) -> Path:
        """Folder of the server's own files; it may not exist yet."""
        if self.data_dir is not None:
            return self.data_dir
        base = os.environ.get("XDG_DATA_HOME", "")
        if not os.path.isabs(base):  # the XDG specification: a relative path is to be ignored
            base = os.path.expanduser("~/.local/share")
        return Path(base if os.path.isabs(base) else "/var/lib") / "wyoming-chatterbox"

    @property
    def voice_folders(self) -> tuple[Path, ...]:
        """Folders of voices; of two voices with one name, that in the earlier folder wins."""
        return self.voices_dir or (self.data / "voices",)
