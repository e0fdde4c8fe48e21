"""Every knob of the program, once: name, default, unit, bounds, flag, environment variable.

A knob is a field of `Settings` (or of `GenerationSettings`, which `Settings` holds). The command line
flag is the field's name with dashes, the environment variable is `WYOMING_CHATTERBOX_` and the name in
capitals. A flag wins over the environment, the environment over the app's options (app_options.py), these over the
default.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ENVIRONMENT_PREFIX = "WYOMING_CHATTERBOX_"
MODELS = ("auto", "original", "embedded")

UNSUPPORTED = {
    "top_k": "does not exist for Chatterbox's original model: min_p and top_p say which tokens may be drawn",
    "speed": "does not exist in chatterbox-streaming: generate_stream() has no speaking rate",
    "audio_prompt_path": "is called --reference-clip here, or is a voice in --voices-dir",
}
"""Settings people bring from other Chatterbox servers, and why they are refused rather than ignored."""

SERVER_ONLY = ("sampling", "decoder")
"""Generation settings that no voice and no request can change."""

DEFAULT_HTTP_HOST, DEFAULT_HTTP_PORT = "127.0.0.1", 10201

_HOST_NAME = re.compile(r"(\*\.)?[\w-]+(\.[\w-]+)*\.?")

PATH_SECONDS = 2.0
"""Longest wait at the start for what a path is; a share that sleeps takes longer, and is taken to be right."""

_URIS = "allowed: tcp://HOST:PORT, unix://PATH, stdio://"


class SettingsError(ValueError):
    """A setting is unknown, malformed or out of its range; the message names it and the remedy."""


def unknown_setting(name: str, known: Sequence[str]) -> SettingsError:
    """The error for a setting that does not exist: why, or the nearest that does."""
    if name in UNSUPPORTED:
        return SettingsError(f"{name}: refused, it {UNSUPPORTED[name]}")
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(known))}"
    return SettingsError(f"{name}: unknown setting; {hint}")


@dataclass(frozen=True)
class Knob:
    """What the command line, the environment and the docs need to know about one field."""

    name: str
    kind: type
    default: Any
    help: str
    group: str
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    repeatable: bool = False

    @property
    def flag(self) -> str:
        """The flag as written; a switch that is on by default is turned off with `--no-…`."""
        name = self.name.replace("_", "-")
        return f"--no-{name}" if self.kind is bool and self.default else f"--{name}"

    @property
    def environment(self) -> str:
        return ENVIRONMENT_PREFIX + self.name.upper()

    @property
    def allowed(self) -> str:
        """The allowed values in words, for messages and docs; empty when anything goes."""
        if self.choices:
            return ", ".join(self.choices)
        if self.kind is bool:
            return "true, false"
        if self.minimum is None and self.maximum is None:
            return ""
        return f"{_plain(self.minimum)} to {_plain(self.maximum)}{' ' + self.unit if self.unit else ''}"

    def parse(self, text: str) -> Any:
        """One value from its text. Raises SettingsError naming the knob, the value and what is allowed."""
        try:
            value: Any
            if self.kind is bool:
                value = {"1": True, "true": True, "yes": True, "on": True}.get(text.strip().lower())
                if value is None:
                    value = {"0": False, "false": False, "no": False, "off": False}[text.strip().lower()]
            elif self.kind is Path:
                value = Path(text).expanduser()
            else:
                value = self.kind(text)
        except (ValueError, KeyError):
            raise SettingsError(f"{self.name}: {text!r} is not a valid value{self._remedy()}") from None
        self.check(value)
        return value

    def taken(self, value: object) -> Any:
        """One value from its text or from JSON. Raises SettingsError as `parse` does."""
        if isinstance(value, str):
            return self.parse(value)
        whole = isinstance(value, float) and value.is_integer()
        if self.kind is int and whole:
            value = int(value)  # type: ignore[call-overload]
        right = isinstance(value, bool) if self.kind is bool else self._is_number(value)
        if not right:
            raise SettingsError(f"{self.name}: {value!r} is not a valid value{self._remedy()}")
        self.check(value)
        return self.kind(value)

    def _is_number(self, value: object) -> bool:
        allowed = {int: (int,), float: (int, float)}.get(self.kind, (self.kind,))
        return isinstance(value, allowed) and not isinstance(value, bool)

    def check(self, value: Any) -> None:
        """Raise SettingsError when a value of the right type lies outside the allowed ones."""
        if self.choices and value not in self.choices:
            raise SettingsError(f"{self.name}: {value!r} is unknown{self._remedy()}")
        if self.kind in (int, float) and self.minimum is not None and self.maximum is not None:
            # "not (a <= b <= c)" rather than two comparisons: nan must fail too.
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise SettingsError(f"{self.name}: {value!r} is not a number{self._remedy()}")
            if not (self.minimum <= value <= self.maximum):
                raise SettingsError(f"{self.name}: {value!r} is out of range{self._remedy()}")

    def _remedy(self) -> str:
        return f" (allowed: {self.allowed})" if self.allowed else ""


def _plain(number: float | None) -> str:
    """A bound as a person writes it: 2147483647 rather than 2.14748e+09."""
    return "any" if number is None else str(int(number)) if number == int(number) else str(number)


def knob(
    default: Any,
    help: str,
    *,
    unit: str = "",
    bounds: tuple[float, float] | None = None,
    choices: tuple[str, ...] = (),
    kind: type | None = None,
    group: str = "",
    repeatable: bool = False,
) -> Any:
    """Declare a dataclass field as a knob. `bounds` are inclusive; `kind` is needed where default is None."""
    minimum, maximum = bounds if bounds is not None else (None, None)
    metadata = {
        "kind": kind or type(default),
        "help": help,
        "unit": unit,
        "minimum": minimum,
        "maximum": maximum,
        "choices": choices,
        "group": group,
        "repeatable": repeatable,
    }
    return field(default=default, metadata=metadata)


def knobs_of(cls: type) -> Iterator[Knob]:
    """The knobs of a settings dataclass, nested ones included, in the order of the source."""
    for f in dataclasses.fields(cls):
        if f.metadata:
            yield Knob(name=f.name, default=f.default, **f.metadata)
        else:
            yield from knobs_of(f.default_factory)  # type: ignore[arg-type]


@dataclass(frozen=True)
class GenerationSettings:
    """How one utterance is spoken: the parameters of chatterbox-streaming's `generate_stream()` and our own.

    Its other two parameters are the text, which every request brings, and `audio_prompt_path`, which is
    the voice's reference clip.
    """

    exaggeration: float = knob(
        0.5, "Emotion of the delivery; 0.5 is neutral, higher is more dramatic", bounds=(0.0, 2.0), group="Chatterbox"
    )
    cfg_weight: float = knob(
        0.5,
        "Classifier-free guidance: lower speaks slower and follows the clip's accent less",
        bounds=(0.0, 1.0),
        group="Chatterbox",
    )
    temperature: float = knob(0.8, "Sampling temperature; higher varies more", bounds=(0.05, 5.0), group="Chatterbox")
    sampling: str = knob(
        "current",
        "How speech tokens are drawn: current is what Chatterbox's developers recommend for these weights, with the "
        "three settings below; streaming is chatterbox-streaming's older way, which can end in noise: a repetition "
        "penalty of 2, top_p 0.8 and no min_p, whatever these settings are (seamless only: upstream has no other)",
        choices=("current", "streaming"),
        group="Chatterbox",
    )
    repetition_penalty: float = knob(
        1.2,
        "How much less likely a speech token becomes once it was drawn; 1 is no penalty (sampling current only)",
        bounds=(1.0, 2.0),
        group="Chatterbox",
    )
    min_p: float = knob(
        0.05,
        "Speech tokens less likely than this share of the likeliest one are never drawn; 0 excludes none (sampling "
        "current only)",
        bounds=(0.0, 1.0),
        group="Chatterbox",
    )
    top_p: float = knob(
        1.0,
        "Only the likeliest speech tokens, which together have this probability, are drawn; 1 excludes none (sampling "
        "current only)",
        bounds=(0.0, 1.0),
        group="Chatterbox",
    )
    decoder: str = knob(
        "seamless",
        "How speech tokens become sound: seamless is ours, upstream is chatterbox-streaming's own, for comparison",
        choices=("seamless", "upstream"),
        group="Chatterbox",
    )
    chunk_size: int = knob(
        0,
        "Speech tokens (25 per second) of the first chunk, at least 5; fewer sound sooner and cost more (seamless: 12 "
        "at least); 0 is what suits the profile and the device (12 or 16; upstream: 25)",
        unit="tokens",
        bounds=(0, 500),
        group="Chatterbox",
    )
    chunk_growth: float = knob(
        0.0,
        "How much longer each chunk is than the one before, at least 1, up to 200 tokens; 1 keeps them equal, 0 is "
        "what suits the profile and the device (1.5 to 4; seamless only)",
        bounds=(0.0, 4.0),
        group="Chatterbox",
    )
    context_window: int = knob(
        50,
        "Speech tokens of context that each chunk is decoded with (upstream only: seamless takes all there are)",
        unit="tokens",
        # Upstream slices tokens[-context_window:], so 0 would mean all of them rather than none.
        bounds=(1, 1000),
        group="Chatterbox",
    )
    fade_duration: float = knob(
        0.02,
        "Fade-in at the start of every chunk (upstream only: seamless needs none)",
        unit="seconds",
        bounds=(0.0, 0.5),
        group="Chatterbox",
    )
    print_metrics: bool = knob(
        False, "Let chatterbox-streaming print its own metrics too, to the log (upstream only)", group="Chatterbox"
    )
    seed: int = knob(
        0,
        "Same text, voice, settings and seed give the same samples; -1 draws a new seed for every utterance",
        bounds=(-1, 2**31 - 1),
        group="Chatterbox",
    )

    def __post_init__(self) -> None:
        for one in knobs_of(GenerationSettings):
            one.check(getattr(self, one.name))
        if 0 < self.chunk_size < 5:
            raise SettingsError(f"chunk_size: {self.chunk_size} is out of range (allowed: 0, or 5 to 500 tokens)")
        if 0 < self.chunk_growth < 1:
            raise SettingsError(f"chunk_growth: {self.chunk_growth} is out of range (allowed: 0, or 1 to 4)")

    def changed(self, values: Mapping[str, object]) -> GenerationSettings:
        """These settings with some others in their place: a voice's, or those of one utterance.

        Args:
            values: by the knob's name, as text (of a query) or of the knob's type. `SERVER_ONLY` is the server's alone.

        Raises:
            SettingsError: a name is unknown or a value is not allowed; the message names it and the remedy.
        """
        if not values:
            return self
        knobs = {one.name: one for one in knobs_of(GenerationSettings) if one.name not in SERVER_ONLY}
        unknown = next((name for name in values if name not in knobs), None)
        if unknown is not None:
            raise unknown_setting(unknown, list(knobs))
        return dataclasses.replace(self, **{name: knobs[name].taken(value) for name, value in values.items()})


@dataclass(frozen=True)
class UtteranceSettings:
    """How one utterance is spoken and what is done with its sound: the server's, its voice's, its own."""

    generation: GenerationSettings
    gain: float
    """dB"""

    sentence_silence: float
    """Seconds."""

    def changed(self, values: Mapping[str, object]) -> UtteranceSettings:
        """These settings with some others in their place. Args and Raises: as of `GenerationSettings.changed`."""
        if not values:
            return self
        known = {one.name: one for one in utterance_knobs()}
        unknown = next((name for name in values if name not in known), None)
        if unknown is not None:
            raise unknown_setting(unknown, list(known))
        own = {name: known[name].taken(value) for name, value in values.items() if hasattr(self, name)}
        others = {name: value for name, value in values.items() if name not in own}
        return dataclasses.replace(self, generation=self.generation.changed(others), **own)


def utterance_knobs() -> tuple[Knob, ...]:
    """What a voice or a request may set for an utterance."""
    names = ("gain", "sentence_silence")
    return (
        *(one for one in knobs_of(GenerationSettings) if one.name not in SERVER_ONLY),
        *(one for one in knobs_of(Settings) if one.name in names),
    )


@dataclass(frozen=True)
class ComputeSettings:
    """How the original model is computed: decided once, when it is loaded.

    What is `auto` or 0 here is chosen by the profile and the machine, see engine/profiles.py.
    """

    profile: str = knob(
        "exact",
        "Speed against fidelity: exact computes what upstream does, balanced and fast trade some of it for speed "
        "(docs/performance.md); the five settings below override single parts of a profile",
        choices=("exact", "balanced", "fast"),
        group="Speed",
    )
    dtype: str = knob(
        "auto",
        "Precision of the weights; auto is on an NVIDIA GPU bfloat16 for the language model, and for the flow decoder "
        "float32 with exact, else bfloat16 (before RTX 30xx float16 and float32); on a CPU float32 with exact, else "
        "what a timed test finds fastest; float16 is for the language model alone on a GPU, and computes in float32 "
        "on a CPU",
        choices=("auto", "float32", "float16", "bfloat16"),
        group="Speed",
    )
    quantize: str = knob(
        "auto",
        "8-bit integers for the weights of the language model and the flow decoder, on a CPU; auto is int8 with fast, "
        "if this CPU gains from it",
        choices=("auto", "none", "int8"),
        group="Speed",
    )
    flow_attention: str = knob(
        "auto",
        "What a mel frame attends to: full is everything so far, again for every chunk; causal is what was there "
        "when its chunk was decoded, kept from then on; auto is full with exact "
        "and on a GPU, else causal",
        choices=("auto", "full", "causal"),
        group="Speed",
    )
    flow_steps: int = knob(
        0,
        "Euler steps of the flow decoder; 0 is the profile's (10, fast: 4)",
        unit="steps",
        bounds=(0, 50),
        group="Speed",
    )
    flow_prompt: float = knob(
        0.0,
        "How much of the voice's reference clip the flow decoder hears; 0 is the profile's (10, fast: 3)",
        unit="seconds",
        bounds=(0.0, 10.0),
        group="Speed",
    )
    cuda_graphs: bool = knob(
        True,
        "Let an NVIDIA GPU get its work piece by piece, not as CUDA graphs: slower, for a driver or a build of torch "
        "that has trouble with them",
        group="Speed",
    )
    threads: int = knob(
        0,
        "CPU threads for the model; 0 is one for each core that the server may use (a container may have a limit)",
        unit="threads",
        bounds=(0, 1024),
        group="Speed",
    )

    def __post_init__(self) -> None:
        for one in knobs_of(ComputeSettings):
            one.check(getattr(self, one.name))


@dataclass(frozen=True)
class Settings:
    """Everything the command line and the environment decide. Values are checked when it is made."""

    uri: tuple[str, ...] = knob(
        ("tcp://0.0.0.0:10200",),
        "Where to listen: tcp://HOST:PORT (0.0.0.0 is every address, IPv4 and IPv6), unix://PATH or stdio://",
        kind=str,
        group="Server",
        repeatable=True,
    )
    model: str = knob(
        "auto",
        "Which model speaks; auto is the original where an NVIDIA GPU and its packages are, else the embedded voice",
        choices=MODELS,
        group="Model",
    )
    model_dir: Path | None = knob(
        None, "Directory with the model's weights; nothing is downloaded then", kind=Path, group="Model"
    )
    download_dir: Path | None = knob(
        None, "Where downloaded weights are kept (default: the Hugging Face cache)", kind=Path, group="Model"
    )
    local_files_only: bool = knob(False, "Never download; use weights that are already here", group="Model")
    device: str = knob("auto", "Where the model runs: auto, cpu, mps, cuda or cuda:N", group="Model")
    unload_after: float = knob(
        0.0,
        "The model's memory is given back after so long without speech; the next request loads it again, and the "
        "embedded voice answers meanwhile. 0 keeps it loaded",
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
        "Language of requests that name neither a voice nor a language, e.g. en (default: that of the default voice)",
        kind=str,
        group="Voice",
    )
    reference_clip: Path | None = knob(
        None,
        "Audio file of a voice to clone, which becomes the default; the voice is named like the file",
        kind=Path,
        group="Voice",
    )
    voices_dir: tuple[Path, ...] = knob(
        (),
        "Folder of voices to clone, looked after while the server runs (default: voices in --data-dir)",
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
        group="Audio",
    )
    gain: float = knob(
        0.0, "Louder (or, below 0, softer); loud peaks are rounded, not cut", unit="dB", bounds=(-24, 12), group="Audio"
    )
    sentence_silence: float = knob(
        0.25, "Silence between two sentences", unit="seconds", bounds=(0.0, 5.0), group="Audio"
    )
    first_clause_words: int = knob(
        8,
        "Speak the first clause by itself once it has this many words, so that a long first sentence is heard sooner; "
        "0 waits for the whole sentence",
        unit="words",
        bounds=(0, 100),
        group="Text",
    )
    max_sentence_chars: int = knob(
        240, "Longer sentences are split at clauses", unit="characters", bounds=(40, 1000), group="Text"
    )
    max_text_chars: int = knob(
        20_000, "Longest text of one request", unit="characters", bounds=(100, 1_000_000), group="Text"
    )
    streaming: bool = knob(True, "Advertise no streaming: Home Assistant then waits for whole answers", group="Server")
    max_queue: int = knob(
        32, "Utterances that may be spoken or wait at once; more are refused", bounds=(1, 10_000), group="Server"
    )
    max_connections: int = knob(
        128,
        "Clients connected at once; those without work make room for new ones, else new ones are refused",
        bounds=(1, 10_000),
        group="Server",
    )
    event_timeout: float = knob(
        30.0, "How long one event may take to arrive once begun", unit="seconds", bounds=(0.1, 3600), group="Server"
    )
    idle_timeout: float = knob(
        600.0, "How long a connection may be idle", unit="seconds", bounds=(0.1, 86400), group="Server"
    )
    text_timeout: float = knob(
        300.0,
        "How long a streamed text may pause (a language model may call tools between two words)",
        unit="seconds",
        bounds=(0.1, 3600),
        group="Server",
    )
    engine_timeout: float = knob(
        300.0,
        "How long a model may work on one chunk before it is taken to hang",
        unit="seconds",
        bounds=(0.1, 86400),
        group="Server",
    )
    exit_on_gpu_failure: bool = knob(
        True,
        "Keep running after a failure from which a GPU does not recover in this process; the embedded voice answers. "
        "Otherwise the server ends with status 1 (five minutes after its start at the earliest), to be restarted by "
        "systemd or Docker",
        group="Server",
    )
    write_timeout: float = knob(
        60.0, "A client that takes no audio for so long is cut off", unit="seconds", bounds=(0.1, 3600), group="Server"
    )
    shutdown_timeout: float = knob(
        5.0, "How long running utterances may finish after SIGTERM", unit="seconds", bounds=(0.0, 600), group="Server"
    )
    cache_size: int = knob(
        200,
        "Sentences that were spoken are kept in DATA/speech up to this size (200 MB are an hour) and said again "
        "without any work of the model; those not asked for for longest are deleted first. 0 keeps nothing",
        unit="MB",
        bounds=(0, 1_000_000),
        group="Cache",
    )
    http_uri: str | None = knob(
        None,
        "Serve HTTP, WebSocket and the page too, at http://HOST:PORT; without a host at 127.0.0.1, without a port at "
        "10201. Needs the http extra",
        kind=str,
        group="HTTP",
    )
    http_token_file: Path | None = knob(
        None,
        "File with the bearer tokens that clients must show, one a line, each at least 16 characters; read again "
        "when it changes. Voices can be uploaded only where there is one",
        kind=Path,
        group="HTTP",
    )
    http_public_voices: bool = knob(
        False,
        "Tell clients without a token which voices and models there are (GET /v1/audio/voices, /v1/audio/models): Open "
        "WebUI asks for its list of voices without one",
        group="HTTP",
    )
    http_host: tuple[str, ...] = knob(
        (),
        "Name under which clients may ask for this server, or *.NAME for all that end so. Names of the local network "
        "(without a dot, .local, .lan, .internal and so on) and addresses need none; other names are refused, because "
        "web pages of others could resolve theirs to it",
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
        "The options.json of the Home Assistant app, whose options are settings too; flags and variables win over it",
        kind=Path,
        group="Server",
    )
    log_level: str = knob(
        "INFO", "How much is logged (to stderr)", choices=("DEBUG", "INFO", "WARNING", "ERROR"), group="Server"
    )

    def __post_init__(self) -> None:
        for one in knobs_of(Settings):
            if hasattr(self, one.name) and not one.repeatable:
                value = getattr(self, one.name)
                if value is not None:
                    one.check(value)
        for uri in self.uri:
            check_uri(uri)
        if 0 < self.sample_rate < 8000:
            raise SettingsError(f"sample_rate: {self.sample_rate} is out of range (allowed: 0, or 8000 to 48000 Hz)")
        name, _, index = self.device.partition(":")
        if name not in ("auto", "cpu", "mps", "cuda") or (index and not (name == "cuda" and index.isdigit())):
            raise SettingsError(f"device: {self.device!r} is unknown (allowed: auto, cpu, mps, cuda, cuda:N)")
        if self.model_dir is not None and not _holds(self.model_dir.is_dir):
            raise SettingsError(f"model_dir: {str(self.model_dir)!r} is not a directory; give the one with the weights")
        if self.reference_clip is not None and not _holds(self.reference_clip.is_file):
            raise SettingsError(f"reference_clip: {str(self.reference_clip)!r} is not a file; give an audio file")
        if self.http_uri is not None:
            http_address(self.http_uri)
        if self.http_token_file is not None and not _holds(self.http_token_file.is_file):
            raise SettingsError(
                f"http_token_file: {str(self.http_token_file)!r} is not a file; write a token of 16 characters or more "
                "into it"
            )
        for name in self.http_host:
            check_host_name(name)
        for origin in self.http_cors_origin:
            check_origin(origin)
        for folder in self.voices_dir:
            if not _holds(functools.partial(_may_be_folder, folder)):
                raise SettingsError(f"voices_dir: {str(folder)!r} is not a directory; make it, or name another")
        if len(self.uri) > 1 and "stdio://" in self.uri:
            raise SettingsError("uri: 'stdio://' serves one client on standard input and cannot be combined")

    @property
    def utterance(self) -> UtteranceSettings:
        """How an utterance is spoken whose voice and request say nothing about it."""
        return UtteranceSettings(self.generation, self.gain, self.sentence_silence)

    @property
    def default_voice(self) -> str | None:
        """Name of the voice for requests that choose none; None: the model's own."""
        if self.voice is None and self.reference_clip is not None:
            return self.reference_clip.stem
        return self.voice

    @property
    def data(self) -> Path:
        """Where the server keeps what it keeps; not made yet."""
        if self.data_dir is not None:
            return self.data_dir
        base = os.environ.get("XDG_DATA_HOME", "")
        if not os.path.isabs(base):  # the XDG specification: a relative path is to be ignored
            base = os.path.expanduser("~/.local/share")
        return Path(base if os.path.isabs(base) else "/var/lib") / "wyoming-chatterbox"

    @property
    def voice_folders(self) -> tuple[Path, ...]:
        """Where voices are looked for, the ones that win first."""
        return self.voices_dir or (self.data / "voices",)


def _may_be_folder(path: Path) -> bool:
    """A folder that is still to be made is as good as an empty one; a path that is mistyped is not."""
    return (path.is_dir() or path.absolute().parent.is_dir()) and not path.is_file()


def _holds(check: Callable[[], bool]) -> bool:
    """Returns what a check of a path finds. A share that hangs fails none: it may be back when it is needed, and the
    server speaks without what is on it until then."""
    from .blocking import call_within  # here, as it imports asyncio

    try:
        return call_within(PATH_SECONDS, check)
    except TimeoutError:
        return True


def check_uri(uri: str) -> None:
    """Raise SettingsError unless the URI is one the server can listen on."""
    try:
        parts = urlsplit(uri)
        port = parts.port
    except ValueError as error:
        raise SettingsError(f"uri: {uri!r} is not valid: {error} ({_URIS})") from None
    if parts.scheme == "tcp" and parts.hostname and port is not None and not parts.path.strip("/"):
        return
    if parts.scheme == "unix" and (parts.netloc + parts.path):
        return
    if uri == "stdio://":
        return
    raise SettingsError(f"uri: {uri!r} is not valid ({_URIS})")


def http_address(uri: str) -> tuple[str, int]:
    """(host, port) to serve HTTP at. Raises SettingsError for what is not such a URI."""
    try:
        parts = urlsplit(uri)
        port = parts.port
    except ValueError as error:
        raise SettingsError(f"http_uri: {uri!r} is not valid: {error} (allowed: http://HOST:PORT)") from None
    if parts.scheme != "http" or parts.path.strip("/") or parts.query or parts.username is not None:
        hint = "; TLS is a reverse proxy's work" if parts.scheme == "https" else ""
        raise SettingsError(f"http_uri: {uri!r} is not valid (allowed: http://HOST:PORT{hint})")
    return parts.hostname or DEFAULT_HTTP_HOST, DEFAULT_HTTP_PORT if port is None else port


def check_host_name(name: str) -> None:
    """Raise SettingsError unless it is a host name, or `*.` before one."""
    if not _HOST_NAME.fullmatch(name):
        raise SettingsError(f"http_host: {name!r} is no host name (allowed: tts.example.org, *.example.org; no port)")


def check_origin(origin: str) -> None:
    """Raise SettingsError unless it is what a browser sends as an Origin."""
    parts = urlsplit(origin)
    if origin != "null" and (parts.scheme not in ("http", "https") or origin != f"{parts.scheme}://{parts.netloc}"):
        raise SettingsError(f"http_cors_origin: {origin!r} is no origin (allowed: http://HOST:PORT, https://…, null)")
