"""Files in a folder become voices; a mistake in one disables only that voice."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.voices.audio_factory import sound, write
from tests.voices.libraries import library_of, names, problems
from wyoming_chatterbox.engine.registry import create_library, create_voices
from wyoming_chatterbox.errors import SettingsError
from wyoming_chatterbox.voices.errors import VoiceError
from wyoming_chatterbox.voices.library import built_in
from wyoming_chatterbox.voices.voice import Voice

MANY = {"original": ("en",), "many": ("en", "de", "no", "fr")}


# What is a voice


def test_a_file_or_a_folder_of_clips_is_a_voice_and_folders_in_it_are_speakers(tmp_path: Path) -> None:
    for path in ("anna.wav", "bernd/1.wav", "bernd/2.flac", "family/mum/a.mp3", "family/dad/b.ogg", "Chloé B.opus"):
        write(tmp_path / path, sound(5.5, rate=48_000), 48_000)
    (tmp_path / "notes.txt").write_text("nothing to hear")
    (tmp_path / ".anna.wav.part").write_bytes(b"RIFF")
    library = library_of(tmp_path)
    assert names(library) == ["Chloé B", "anna", "bernd", "family/dad", "family/mum"]
    assert not library.problems
    bernd = library.voices[2]
    assert [clip.name for clip in bernd.clips] == ["1.wav", "2.flac"]
    assert (bernd.model, bernd.languages, bernd.description) == ("original", ("en",), "bernd")
    assert library.seconds_of(bernd) == pytest.approx(11, abs=0.01)
    assert len({voice.fingerprint for voice in library.voices}) == 5


def test_the_fingerprint_is_of_the_content_alone(tmp_path: Path) -> None:
    write(tmp_path / "a.wav")
    write(tmp_path / "b.wav")
    write(tmp_path / "c.wav", sound(pitch=130))
    (tmp_path / "b.yaml").write_text("exaggeration: 1\n")
    a, b, c = library_of(tmp_path).voices
    assert a.fingerprint == b.fingerprint != c.fingerprint


def test_the_manner_is_that_of_the_yaml_beside_or_inside(tmp_path: Path) -> None:
    write(tmp_path / "anna.wav")
    (tmp_path / "anna.yaml").write_text(
        "title: Anna (warm)\nlanguages: [en-GB, de]\nexaggeration: 0.7\nseed: 5\ngain: -3\nsentence_silence: 0.1\n"
        "attribution: Anna A.\nurl: https://example.org\nlicence: CC0\naliases: [Mum, the boss]\nhidden: true\n"
    )
    write(tmp_path / "bernd/1.wav")
    (tmp_path / "bernd/bernd.yml").write_text("title: Bernd\n")
    library = library_of(tmp_path)
    anna, bernd = library.voices
    assert (anna.description, anna.languages, anna.hidden) == ("Anna (warm)", ("en-GB", "de"), True)
    assert anna.settings == {"exaggeration": 0.7, "seed": 5, "gain": -3.0, "sentence_silence": 0.1}
    assert (anna.attribution, anna.attribution_url, anna.licence) == ("Anna A.", "https://example.org", "CC0")
    assert anna.aliases == ("Mum", "the boss")
    assert bernd.description == "Bernd"
    assert problems(library) == [
        "anna.yaml: language: model original only speaks en; the voice is listed for de anyway"
    ]


@pytest.mark.parametrize(
    ("config", "guidance"),
    [
        ("", [None, None, None]),
        ("clip_language: nb_NO\n", [0.0, 0.0, None]),
        ("clip_language: de\n", [None, 0.0, 0.0]),
        ("clip_language: de\ncfg_weight: 0.3\n", [0.3, 0.3, 0.3]),
    ],
)
def test_a_clip_in_another_language_is_spoken_without_guidance(
    tmp_path: Path, config: str, guidance: list[float | None]
) -> None:
    write(tmp_path / "anna.wav")
    (tmp_path / "anna.yaml").write_text(f"model: many\nlanguages: [de, en, 'no']\n{config}")
    voices = library_of(tmp_path, models=MANY).voices
    assert [voice.settings.get("cfg_weight") for voice in voices] == guidance
    (tmp_path / "anna.yaml").write_text(config)
    (english,) = library_of(tmp_path, models=MANY).voices
    assert english.settings.get("cfg_weight") == (0.3 if "0.3" in config else None)


def test_a_model_of_several_languages_has_one_voice_for_each(tmp_path: Path) -> None:
    write(tmp_path / "anna.wav")
    (tmp_path / "anna.yaml").write_text("model: many\nlanguages: [de, en, nb]\ntitle: Anna\naliases: mum\n")
    library = library_of(tmp_path, models=MANY)
    assert names(library) == ["anna", "anna-en", "anna-nb"] and not library.problems
    assert [(voice.description, voice.languages, voice.base) for voice in library.voices] == [
        ("Anna (de)", ("de",), "anna"),
        ("Anna (en)", ("en",), "anna"),
        ("Anna (nb)", ("nb",), "anna"),
    ]
    assert library.voices[0].aliases == ("mum",)


def test_short_clips_are_enough_together(tmp_path: Path) -> None:
    for number in range(4):
        write(tmp_path / "anna" / f"{number}.wav", sound(1.5))
        write(tmp_path / "ben" / "dad" / f"{number % 2}.wav", sound(1.5))
    write(tmp_path / "cleo.wav", sound(1.5))
    assert problems(library_of(tmp_path)) == [
        "ben/dad: it has only 3.0 s of audio; 5 to 15 s give a better voice",
        "cleo.wav: it has only 1.5 s of audio; 5 to 15 s give a better voice",
    ]


# What is wrong disables that voice only


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ("exaggeration: 3", "exaggeration: 3 is out of range (allowed: 0 to 2)"),
        ("exageration: 1", "exageration: unknown key; did you mean exaggeration?"),
        ("zoom: 3", "zoom: unknown key; known: aliases, attribution, cfg_weight"),
        ("temperature: warm", "temperature: 'warm' is not a valid value (allowed: 0.05 to 5)"),
        ("seed: 1.5", "seed: 1.5 is not a valid value (allowed: -1 to 2147483647)"),
        ("chunk_size: 3", "chunk_size: 3 is out of range (allowed: 0, or 5 to 500 tokens)"),
        ("chunk_growth: 0.5", "chunk_growth: 0.5 is out of range (allowed: 0, or 1 to 4)"),
        ("gain: 40", "gain: 40 is out of range (allowed: -24 to 12 dB)"),
        ("gain: .nan", "gain: nan is out of range"),
        ("sentence_silence: -1", "sentence_silence: -1 is out of range (allowed: 0 to 5 seconds)"),
        ("decoder: upstream", "decoder: unknown key"),
        ("model: embedded", "model: 'embedded' cannot clone a voice (allowed: original, turbo, nano"),
        ("language: english!", "language: 'english!' is not a language code (allowed: codes such as en, en-US, nb)"),
        ("hidden: perhaps", "hidden: 'perhaps' is not a valid value (allowed: true, false)"),
        ("title: [a, b]", "title: ['a', 'b'] is not a single line of text"),
        ("title: " + "x" * 300, "title: has 300 characters (allowed: 1 to 200)"),
        ("url: javascript:alert(1)", "url: 'javascript:alert(1)' is not a URL"),
        ("aliases: ['a?b']", "aliases: a voice's name cannot contain '?'"),
        ("seed: 1\nseed: 2", "seed: appears twice; remove one of them"),
        ("language: en\nlanguages: [de]", "languages: appears twice, in two spellings; remove one of them"),
        ("clip_language: [de, en]", "clip_language: has 2 entries (allowed: 1); give a clip of one language"),
        ("clip_language: German", "clip_language: 'German' is not a language code"),
        ("a: &a [x]\nb: *a", "anchors and aliases (& and *) are not allowed"),
        ("title: !!python/object/apply:os.system [id]", "line 1: it is not YAML (could not determine a constructor"),
        ("- a\n- b", "it is not a list of settings"),
        ("title: 'open", "it is not YAML"),
        (
            "exaggeration: 9\nseed: x",
            "exaggeration: 9 is out of range (allowed: 0 to 2); seed: 'x' is not a valid value",
        ),
    ],
)
def test_a_yaml_that_is_wrong_names_file_key_and_what_is_allowed(
    tmp_path: Path, yaml: str, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "anna.wav")
    write(tmp_path / "ben.wav")
    (tmp_path / "anna.yaml").write_text(yaml)
    library = library_of(tmp_path)
    assert names(library) == ["ben"]
    (problem,) = problems(library)
    assert problem.startswith("anna.yaml: ") and message in problem
    assert caplog.messages == [f"Voice not usable: {problem}"]
    library.scan(patient=False)
    assert len(caplog.messages) == 1, "said once"
    (tmp_path / "anna.yaml").write_text("exaggeration: 1.0\n")
    library.scan(patient=False)
    assert names(library) == ["anna", "ben"] and not library.problems


def test_a_bomb_of_a_yaml_takes_no_time(tmp_path: Path) -> None:
    write(tmp_path / "anna.wav")
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60))
    for text in (bomb, "[" * 30_000, "x: " + "y" * 70_000, "\x00", "title: \ud800".encode("utf-8", "surrogatepass")):
        (tmp_path / "anna.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
        started = time.perf_counter()
        library = library_of(tmp_path)
        assert time.perf_counter() - started < 2 and not library.voices
        assert len(problems(library)[0]) < 300


def test_names_that_are_taken_are_said(tmp_path: Path) -> None:
    for path in ("Anna.wav", "anna.flac", "embedded.wav", "ben.wav", "cleo.wav"):
        write(tmp_path / path, sound(pitch=90 + len(path)))
    (tmp_path / "ben.yaml").write_text("aliases: [CLEO, boss]\n")
    (tmp_path / "cleo.yaml").write_text("aliases: boss\n")
    (tmp_path / "gone.yaml").write_text("title: No clip\n")
    (tmp_path / "cleo.yml").write_text("title: Two files\n")
    library = library_of(tmp_path)
    assert names(library) == ["Anna", "ben"]
    assert library.voices[1].aliases == ("CLEO", "boss")
    assert problems(library) == [
        "anna.flac: a voice with this name already exists: Anna.wav; rename one of them",
        "gone.yaml: it has no clip; expected gone.wav beside it",
        "cleo.yaml: there are 2 settings files for cleo.wav; keep one",
        "embedded.wav: the name 'embedded' is reserved for the built-in voice; rename it",
    ]
    (tmp_path / "cleo.yml").unlink()
    library.scan(patient=False)
    assert [voice.aliases for voice in library.voices] == [(), ("boss",), ()]
    assert "ben.yaml: aliases: 'CLEO' already belongs to another voice, cleo; it is ignored" in problems(library)
    assert "cleo.yaml: aliases: 'boss' already belongs to another voice, ben; it is ignored" in problems(library)


def test_the_first_folder_wins_and_the_reference_clip_before_it(tmp_path: Path) -> None:
    for folder in ("a", "b", "elsewhere"):
        write(tmp_path / folder / "anna.wav", sound(pitch=100 + len(folder)))
    write(tmp_path / "b" / "ben.wav")
    library = create_library((tmp_path / "a", tmp_path / "b", tmp_path / "missing"))
    library.scan(patient=False)
    assert names(library) == ["anna", "ben"] and library.voices[0].clips == (tmp_path / "a" / "anna.wav",)
    assert (
        f"anna.wav: the name 'anna' is already used by {tmp_path / 'a' / 'anna.wav'}; rename one of them"
        in problems(library)
    )
    library = create_library((tmp_path / "a",), tmp_path / "elsewhere" / "anna.wav")
    library.scan(patient=False)
    assert library.voices[0].clips == (tmp_path / "elsewhere" / "anna.wav",)
    library.check_reference_clip()
    library = create_library((tmp_path / "a",), tmp_path / "a" / "anna.wav")
    library.scan(patient=False)
    library.check_reference_clip()
    assert names(library) == ["anna"] and not library.problems, "it may lie among the others"


def test_a_reference_clip_that_is_none_is_an_error_of_the_settings(tmp_path: Path) -> None:
    (tmp_path / "anna.wav").write_text("not audio")
    library = create_library((), tmp_path / "anna.wav")
    library.scan(patient=False)
    with pytest.raises(SettingsError, match=r"reference_clip: '.*anna\.wav' cannot be used: it cannot be decoded"):
        library.check_reference_clip()
    with pytest.raises(VoiceError, match=r"anna\.wav: it cannot be decoded"):
        create_voices(tmp_path / "anna.wav")


def test_a_cloned_voice_takes_the_place_of_the_built_in_one_of_its_name() -> None:
    model_voice = Voice("default", "original", "", ("en",), "", "")
    cloned = Voice("Default", "original", "", ("en",), "", "")
    assert built_in((model_voice,), (cloned,)) == () and built_in((model_voice,), ()) == (model_voice,)
