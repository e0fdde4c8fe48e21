"""Every knob is bounded, named when it is refused, and settable in both ways."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from wyoming_chatterbox.cli import from_command_line
from wyoming_chatterbox.errors import SettingsError
from wyoming_chatterbox.knobs import knobs_of
from wyoming_chatterbox.path_checks import check_paths
from wyoming_chatterbox.settings import Settings
from wyoming_chatterbox.speech_settings import GenerationSettings, utterance_knobs, voice_knobs

KNOBS = list(knobs_of(Settings))


def load(*arguments: str, **environment: str) -> Settings:
    return from_command_line(arguments, environment)


def test_the_nine_parameters_of_upstream_are_settings_or_named_otherwise() -> None:
    upstream = {"exaggeration", "cfg_weight", "temperature", "chunk_size", "context_window", "fade_duration"}
    ours = {"sampling", "repetition_penalty", "min_p", "top_p", "top_k", "decoder", "chunk_growth", "seed"}
    assert upstream | {"print_metrics"} | ours == {knob.name for knob in knobs_of(GenerationSettings)}
    with pytest.raises(SettingsError, match="is called --reference-clip here"):
        load("--audio-prompt-path", "x.wav")


def test_defaults_are_upstreams_and_the_servers() -> None:
    settings = load()
    assert settings.uri == ("tcp://0.0.0.0:10200",)
    assert settings.generation == GenerationSettings(
        exaggeration=0.5, cfg_weight=0.5, temperature=0.8, chunk_size=0, context_window=50, fade_duration=0.02
    )


@pytest.mark.parametrize("knob", KNOBS, ids=lambda knob: knob.name)
def test_every_knob_is_described_and_every_number_bounded(knob) -> None:  # type: ignore[no-untyped-def]
    assert knob.help and knob.group
    if knob.kind in (int, float):
        assert knob.minimum is not None and knob.maximum is not None
        assert knob.minimum <= knob.default <= knob.maximum


@pytest.mark.parametrize("knob", [k for k in KNOBS if k.kind in (int, float)], ids=lambda knob: knob.name)
def test_every_number_out_of_range_is_refused_by_name_with_what_is_allowed(knob) -> None:  # type: ignore[no-untyped-def]
    for value in (knob.minimum - 1, knob.maximum + 1, "nan", "inf", "much", ""):
        with pytest.raises(SettingsError) as refused:
            load(f"{knob.flag}={value}")
        assert str(refused.value).startswith(f"{knob.flag}: ")
        assert knob.allowed in str(refused.value)


@pytest.mark.parametrize(
    ("arguments", "variables", "message"),
    [
        (["--no-such-flag"], {}, "--no-such-flag: unknown flag; see wyoming-chatterbox --help"),
        (
            ["--voice-dir=x"],
            {},
            "--voice-dir: unknown flag; did you mean --voices-dir? See wyoming-chatterbox --help",
        ),
        (["--Exaggeration", "1"], {}, "--Exaggeration: unknown flag; did you mean --exaggeration? See "),
        (["--max_queue", "1"], {}, "--max_queue: unknown flag; did you mean --max-queue? See "),
        (["-x"], {}, "-x: unknown flag; see "),
        (["--streaming"], {}, "--streaming: it is on unless --no-streaming turns it off; leave it out"),
        (["--no-local-files-only"], {}, "--no-local-files-only: it is off unless --local-files-only turns it on"),
        (["--speed", "2"], {}, "--speed: refused, it does not exist in chatterbox-streaming"),
        (["--gain"], {}, "argument --gain: expected one argument; see wyoming-chatterbox --help"),
        (["--uri", "x"], {}, "--uri: 'x' is not valid"),
        ([], {"MODEl": "x"}, "WYOMING_CHATTERBOX_MODEl: unknown environment variable; did you mean "),
        ([], {"QWERTY": "x"}, "WYOMING_CHATTERBOX_QWERTY: unknown environment variable; see "),
        ([], {"GIAN": "1"}, "variable; did you mean WYOMING_CHATTERBOX_GAIN? See wyoming-chatterbox --help"),
        ([], {"SPEED": "1"}, "WYOMING_CHATTERBOX_SPEED: refused, it does not exist"),
        ([], {"GAIN": "99"}, "WYOMING_CHATTERBOX_GAIN: 99.0 is out of range (allowed: -24 to 12 dB)"),
        (["--gain", "98"], {"GAIN": "3"}, "--gain: 98.0 is out of range"),
    ],
)
def test_what_is_wrong_is_named_as_it_was_typed(arguments: list[str], variables: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError) as refused:
        from_command_line(
            arguments,
            {f"WYOMING_CHATTERBOX_{name}": value for name, value in variables.items()},
            program="wyoming-chatterbox",
        )
    assert message in str(refused.value) and len(str(refused.value)) < 200


def test_a_flag_wins_over_the_environment() -> None:
    assert load(WYOMING_CHATTERBOX_CHUNK_SIZE="30").generation.chunk_size == 30
    assert load("--chunk-size", "40", WYOMING_CHATTERBOX_CHUNK_SIZE="30").generation.chunk_size == 40


def test_switches_are_turned_by_their_flag_and_by_words() -> None:
    assert load().zeroconf and not load("--no-zeroconf").zeroconf
    assert not load(WYOMING_CHATTERBOX_ZEROCONF="off").zeroconf
    assert load("--local-files-only").local_files_only
    with pytest.raises(SettingsError, match=r"ZEROCONF: 'maybe' is not a valid value \(allowed: true, false\)"):
        load(WYOMING_CHATTERBOX_ZEROCONF="maybe")


def test_repeatable_flags_and_their_variable() -> None:
    assert load("--uri", "tcp://[::1]:1", "--uri", "unix:///tmp/x").uri == ("tcp://[::1]:1", "unix:///tmp/x")
    assert load(WYOMING_CHATTERBOX_ZEROCONF_INTERFACE="eth0, wlan0").zeroconf_interface == ("eth0", "wlan0")


@pytest.mark.parametrize("uri", ["tcp://1.2.3.4", "tcp://:1", "tcp://a:99999", "tcp://a:1/x", "unix://", "stdio", "x"])
def test_what_cannot_be_listened_on_is_refused(uri: str) -> None:
    with pytest.raises(SettingsError, match="allowed: tcp://HOST:PORT, unix://PATH, stdio://"):
        load("--uri", uri)


def test_stdio_stands_alone() -> None:
    with pytest.raises(SettingsError, match="cannot be combined"):
        load("--uri", "stdio://", "--uri", "tcp://127.0.0.1:1")


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "cpu:0", ""])
def test_unknown_devices_are_refused(device: str) -> None:
    with pytest.raises(SettingsError, match="allowed: auto, cpu, mps, cuda, cuda:N"):
        load(f"--device={device}")


def test_a_sample_rate_below_8000_is_refused() -> None:
    with pytest.raises(SettingsError, match="--sample-rate: 4000"):
        load("--sample-rate", "4000")


def test_paths_must_exist(tmp_path: Path) -> None:
    clip = tmp_path / "anna.wav"
    clip.touch()
    assert load("--model-dir", str(tmp_path), "--reference-clip", str(clip)).reference_clip == clip
    with pytest.raises(SettingsError, match="is not a file"):
        load("--reference-clip", str(tmp_path))


def test_making_settings_touches_no_file(tmp_path: Path) -> None:
    """Settings are a value: they can be copied, changed and sent elsewhere, whatever has become of the files."""
    settings = Settings(model_dir=tmp_path / "a", reference_clip=tmp_path / "b.wav", voices_dir=(tmp_path / "c" / "d",))
    assert dataclasses.replace(settings, model="embedded").model_dir == tmp_path / "a"
    with pytest.raises(SettingsError, match=r"model_dir: .* is not a directory; name the directory with the weights"):
        check_paths(settings)


def test_settings_of_speech_say_who_can_change_them() -> None:
    """What only upstream's decoder heeds can be tried in a request, and is not for a voice's settings."""
    knobs = list(knobs_of(GenerationSettings))
    upstream_only = [knob.name for knob in knobs if knob.upstream_only]
    assert upstream_only == ["context_window", "fade_duration", "print_metrics"]
    assert [knob.name for knob in knobs if knob.server_only] == ["sampling", "decoder"]
    assert [knob.name for knob in utterance_knobs() if knob not in voice_knobs()] == upstream_only


def test_settings_of_one_utterance_are_taken_as_text_and_as_values() -> None:
    base = GenerationSettings(exaggeration=0.7, seed=3)
    changed = base.with_overrides({"cfg_weight": "0.2", "temperature": 1, "chunk_size": 30.0, "print_metrics": True})
    assert (changed.exaggeration, changed.seed) == (0.7, 3)
    assert (changed.cfg_weight, changed.temperature, changed.chunk_size) == (0.2, 1.0, 30)
    assert changed.print_metrics is True
    assert base.with_overrides({}) is base


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"exagerration": 1}, "exagerration: unknown setting; did you mean exaggeration?"),
        ({"speed": 2}, "speed: refused, it does not exist in chatterbox-streaming"),
        ({"decoder": "upstream"}, "decoder: unknown setting"),
        ({"sampling": "streaming"}, "sampling: unknown setting"),
        ({"repetition_penalty": 0.9}, "repetition_penalty: 0.9 is out of range (allowed: 1 to 2)"),
        ({"min_p": "5%"}, "min_p: '5%' is not a valid value (allowed: 0 to 1)"),
        ({"top_p": -0.1}, "top_p: -0.1 is out of range (allowed: 0 to 1)"),
        ({"top_k": 7000}, "top_k: 7000 is out of range (allowed: 0 to 6561)"),
        ({"exaggeration": 5}, "exaggeration: 5 is out of range (allowed: 0 to 2)"),
        ({"exaggeration": "loud"}, "exaggeration: 'loud' is not a valid value (allowed: 0 to 2)"),
        ({"exaggeration": True}, "exaggeration: True is not a valid value"),
        ({"exaggeration": None}, "exaggeration: None is not a valid value"),
        ({"exaggeration": float("nan")}, "exaggeration: nan is out of range"),
        ({"seed": 1.5}, "seed: 1.5 is not a valid value"),
        ({"print_metrics": 1}, "print_metrics: 1 is not a valid value"),
        ({"chunk_size": 3}, "chunk_size: 3 is out of range"),
    ],
)
def test_settings_of_one_utterance_that_are_wrong_are_refused_by_name(values: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError) as refused:
        GenerationSettings().with_overrides(values)
    assert message in str(refused.value)


def test_help_groups_what_only_upstreams_decoder_follows(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        from_command_line(["--help"], {})
    group = capsys.readouterr().out.partition("Chatterbox, only with --decoder upstream:\n")[2].partition("\n\n")[0]
    assert re.findall(r"^  (--[a-z-]+)", group, re.M) == ["--context-window", "--fade-duration", "--print-metrics"]
