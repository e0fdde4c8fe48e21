"""What is written in several places is the same in all of them: options, versions, names, paths."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml

from tests.addon.rules import allows
from wyoming_chatterbox import __version__
from wyoming_chatterbox.app_options import OPTIONS, Option
from wyoming_chatterbox.knobs import knobs_of
from wyoming_chatterbox.settings import Settings
from wyoming_chatterbox.testing.serving import ROOT

ADDON = ROOT / "addon"
CONFIG: dict[str, Any] = yaml.safe_load((ADDON / "config.yaml").read_text())
LANGUAGES = ("en", "de", "fr", "es", "nl")
NAMES = [option.name for option in OPTIONS]


def element(option: Option) -> str:
    """An option as config.yaml's schema has to say it, from what its setting allows."""
    knob = option.knob
    if knob.kind is bool or isinstance(option.default, bool):
        return "bool"
    if knob.choices:
        return f"list({'|'.join(knob.choices)})"
    if knob.kind in (int, float):
        assert knob.minimum is not None and knob.maximum is not None
        return f"{knob.kind.__name__}({knob.minimum:g},{knob.maximum:g})"
    return "str?"


def test_config_has_the_options_in_their_order_with_their_defaults_and_bounds() -> None:
    assert list(CONFIG["options"].items()) == [(option.name, option.default) for option in OPTIONS]
    assert list(CONFIG["schema"].items()) == [(option.name, element(option)) for option in OPTIONS]


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_what_the_form_takes_the_settings_take(option: Option) -> None:
    schema = CONFIG["schema"][option.name]
    candidates: list[object] = [0, 0.05, 0.5, 1, 2, 5, 20, -1, "", "en", "DEBUG", "fast", "original", "auto", True]
    for value in candidates:
        if allows(schema, value):
            option.coerce(value)  # raises otherwise


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_option_and_port_is_translated(language: str) -> None:
    translation = yaml.safe_load((ADDON / "translations" / f"{language}.yaml").read_text())
    assert list(translation["configuration"]) == NAMES
    assert list(translation["network"]) == list(CONFIG["ports"])


def test_translations_are_translated() -> None:
    """No text of another language is the English one, apart from words that are the same."""
    texts = {
        language: yaml.safe_load((ADDON / "translations" / f"{language}.yaml").read_text())["configuration"]
        for language in LANGUAGES
    }
    for language in LANGUAGES[1:]:
        for name, text in texts[language].items():
            assert text["description"] != texts["en"][name]["description"], f"{language}: {name}"
    assert sorted(path.stem for path in (ADDON / "translations").iterdir()) == sorted(LANGUAGES)


def test_the_apps_page_has_the_options_with_their_defaults() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (?:`([^`]*)`)? ?\|", (ADDON / "DOCS.md").read_text(), re.M)
    said = [(name, default) for name, default in rows]
    shown = [str(one.default).lower() if isinstance(one.default, bool) else str(one.default) for one in OPTIONS]
    assert said == list(zip(NAMES, shown, strict=True))


def test_every_option_is_a_setting() -> None:
    knobs = {knob.name for knob in knobs_of(Settings)}
    for option in OPTIONS:
        assert option.knob.name in knobs


def test_versions_are_equal() -> None:
    assert CONFIG["version"] == __version__
    assert re.search(r"^## (\S+)$", (ADDON / "CHANGELOG.md").read_text(), re.M).group(1) == __version__  # type: ignore[union-attr]
    assert f"ARG BUILD_VERSION={__version__}\n" in (ADDON / "Dockerfile").read_text()
    assert f'image.version="{__version__}"' in (ROOT / "Dockerfile").read_text()
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    tags = {name: service["image"].rpartition(":")[2] for name, service in services.items()}
    assert tags == {"wyoming-chatterbox": __version__, "gpu": f"{__version__}-cuda"}


def test_the_repository_has_one_address() -> None:
    repository = yaml.safe_load((ROOT / "repository.yaml").read_text())["url"]
    assert CONFIG["url"] == repository
    assert CONFIG["image"] == repository.replace("https://github.com", "ghcr.io") + "-app"
    assert repository.replace("https://github.com", "ghcr.io") in (ROOT / "compose.yaml").read_text()


def environment(path: str) -> dict[str, str]:
    """The variables that a Dockerfile sets."""
    text = (ROOT / path).read_text().replace("\\\n", " ")
    return dict(
        pair.split("=", 1) for line in re.findall(r"^ENV (.*)$", text, re.M) for pair in re.findall(r"\S+=\S+", line)
    )


@pytest.mark.parametrize("path", ["Dockerfile", "addon/Dockerfile"])
def test_the_images_variables_are_settings(path: str) -> None:
    ours = {name: value for name, value in environment(path).items() if name.startswith("WYOMING_CHATTERBOX_")}
    by_variable = {knob.environment: knob for knob in knobs_of(Settings)}
    assert ours
    for name, value in ours.items():
        by_variable[name].parse(value)


def test_weights_and_caches_are_in_data_and_left_out_of_backups() -> None:
    variables = environment("addon/Dockerfile")
    excluded = CONFIG["backup_exclude"]
    for name in ("WYOMING_CHATTERBOX_DOWNLOAD_DIR", "XDG_CACHE_HOME"):
        assert variables[name].startswith("/data/")
        # The Supervisor's way: the pattern against the folder's path on the host.
        path = PurePosixPath("/mnt/data/supervisor/addons/data/x_chatterbox") / variables[name].removeprefix("/data/")
        assert any(path.match(pattern) for pattern in excluded), f"{name} is in backups"
    assert not PurePosixPath("/mnt/data/supervisor/addons/data/x/options.json").match(excluded[0])


def test_what_the_server_computes_again_is_left_out_of_backups_and_named_on_the_page() -> None:
    """All folders of --data-dir but the voices, which nobody can compute again and which the app has in share."""
    sources = "".join(path.read_text() for path in (ROOT / "wyoming_chatterbox").rglob("*.py"))
    folders = set(re.findall(r'(?:options|settings)\.data / "(\w+)"', sources))
    assert {"conditionals", "speech"} <= folders
    assert folders <= set(CONFIG["backup_exclude"])
    page = (ROOT / "docs" / "install.md").read_text()
    assert all(f"`{name}`" in page for name in folders)


def test_one_config_yaml_and_no_build_yaml() -> None:
    """The Supervisor takes every folder with a config.yaml, .yml or .json for an app, but for hidden folders."""
    found = [path.relative_to(ROOT) for path in ROOT.rglob("config.*") if path.suffix in (".yaml", ".yml", ".json")]
    seen = [path for path in found if not any(part.startswith(".") for part in path.parts)]
    assert [path for path in seen if not {"build", "node_modules"} & set(path.parts)] == [Path("addon/config.yaml")]
    assert not list(ADDON.glob("build.*"))


def test_labels_are_those_of_2026() -> None:
    text = (ADDON / "Dockerfile").read_text()
    assert 'io.hass.type="app"' in text
    assert 'io.hass.version="${BUILD_VERSION}"' in text
    assert 'io.hass.arch="${BUILD_ARCH}"' in text
    assert f'ARG BUILD_ARCH="{"|".join(CONFIG["arch"])}"' in text
