"""One entry for each model, and what the rest of the program makes of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from wyoming_chatterbox.engine.registry import MODELS, ModelSpec
from wyoming_chatterbox.errors import SettingsError
from wyoming_chatterbox.knobs import knobs_of
from wyoming_chatterbox.model_factory import create_catalog
from wyoming_chatterbox.settings import CLONING_MODELS, Settings
from wyoming_chatterbox.testing.serving import environment


@pytest.mark.parametrize("spec", MODELS.values(), ids=MODELS)
def test_an_entry_fits_its_voices_and_its_weights(spec: ModelSpec) -> None:
    assert spec.licence and spec.languages
    assert all(voice.model == spec.name and set(voice.languages) <= set(spec.languages) for voice in spec.voices)
    assert (spec.repository is None) == (spec.download_bytes == 0)
    assert spec.clones == (spec.min_clip_seconds > 0)
    assert {name: knob.name for name, knob in spec.parameters.items()} == {name: name for name in spec.parameters}


def test_the_settings_and_the_app_offer_the_models_there_are(tmp_path: Path) -> None:
    knob = next(knob for knob in knobs_of(Settings) if knob.name == "model")
    assert (
        knob.choices
        == ("auto", "original", "turbo", "nano", "multilingual", "multilingual-v2", "embedded")
        == ("auto", *MODELS)
    )
    assert CLONING_MODELS == ("original", "turbo", "nano", "multilingual", "multilingual-v2")
    for name, spec in MODELS.items():
        catalog = create_catalog(Settings(model=name, data_dir=tmp_path))
        assert catalog.primary.name == name and catalog.primary.voices == spec.voices


def test_the_original_heeds_all_settings_of_speech_and_the_embedded_voice_the_seed() -> None:
    assert list(MODELS["embedded"].parameters) == ["seed"]
    assert {"exaggeration", "seed", "decoder", "print_metrics"} <= set(MODELS["original"].parameters)


def test_the_registry_imports_nothing_that_has_to_be_installed() -> None:
    """script/run asks it what to install, with the system's Python."""
    program = (
        "import json, sys, sysconfig\n"
        "import wyoming_chatterbox.engine.registry\n"
        "roots = (sysconfig.get_path('purelib'), sysconfig.get_path('platlib'))\n"
        "files = {name: getattr(module, '__file__', None) or '' for name, module in sys.modules.items()}\n"
        "print(json.dumps([n for n, f in files.items() if f.startswith(roots) and n.split('.')[0] in "
        "('numpy', 'torch', 'yaml', 'regex', 'soundfile', 'soxr', 'wyoming')]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment(), timeout=60
    )
    assert json.loads(done.stdout) == []


def test_downloads_are_as_large_as_their_publisher_says() -> None:
    assert MODELS["turbo"].download_bytes == 2_987_680_596
    assert MODELS["nano"].download_bytes == 1_942_099_748
    hashes = {file.sha256 for spec in MODELS.values() for file in spec.files}
    assert all(len(sha256) == 64 for sha256 in hashes)
    by_hash = {(file.sha256, file.size) for spec in MODELS.values() for file in spec.files}
    assert len(by_hash) == len(hashes), "one file has one size"


def test_every_file_that_a_model_is_made_of_is_downloaded() -> None:
    for spec in MODELS.values():
        if spec.layout is None:
            continue
        names = {file.name for file in spec.files}
        for part in (spec.layout.t3, spec.layout.s3gen, spec.layout.voice_encoder):
            assert names & set(part), (spec.name, part)
        assert names >= {*spec.layout.tokenizer, *spec.layout.optional, "conds.pt"}


def test_a_house_has_its_languages_in_its_order() -> None:
    multilingual = MODELS["multilingual"]
    spec = multilingual.speaking(("de", "en"))
    assert [(voice.name, voice.languages) for voice in spec.voices] == [("default", ("de",)), ("default-en", ("en",))]
    assert spec.languages == ("de", "en") and multilingual.speaking(()) is multilingual
    assert MODELS["nano"].speaking(("de",)) is MODELS["nano"]
    with pytest.raises(SettingsError, match="languages: 'uk' is not spoken by model multilingual"):
        multilingual.speaking(("de", "uk"))
    assert Settings(languages=("de-AT, nb", "de")).house_languages == ("de", "no")


def test_a_folder_with_the_weights_for_all_languages_is_no_pack(tmp_path: Path) -> None:
    (tmp_path / "t3_hi.safetensors").touch()
    hindi = MODELS["multilingual"].in_folder(tmp_path)
    assert (hindi.languages, [voice.name for voice in hindi.voices]) == (("hi",), ["default"])
    assert hindi.layout is not None and hindi.layout.t3 == ("t3_hi.safetensors",)
    assert MODELS["turbo"].in_folder(tmp_path) is MODELS["turbo"]
    (tmp_path / "t3_mtl23ls_v3.safetensors").touch()
    assert MODELS["multilingual"].in_folder(tmp_path) is MODELS["multilingual"]
