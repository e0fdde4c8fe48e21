"""Which model speaks, and what is said about settings that are of no use to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from wyoming_chatterbox.model_factory import create_catalog
from wyoming_chatterbox.settings import Settings


def said(caplog: pytest.LogCaptureFixture, **values: object) -> list[str]:
    """What the log says when the embedded voice is chosen."""
    caplog.clear()
    create_catalog(Settings(model="embedded", **values))  # type: ignore[arg-type]
    return [record.getMessage() for record in caplog.records if "of no use" in record.getMessage()]


def test_clips_are_of_no_use_to_the_embedded_voice_and_it_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for folder in (tmp_path / "share", tmp_path / "data" / "voices"):
        folder.mkdir(parents=True)
    clip = tmp_path / "share" / "anna.wav"
    clip.touch()
    expected = "{} is of no use to the embedded voice; voices are cloned with --model original"
    assert said(caplog, reference_clip=clip, data_dir=tmp_path) == [expected.format(clip)]
    assert said(caplog, voices_dir=(tmp_path / "share",)) == [expected.format(tmp_path / "share")]
    (tmp_path / "data" / "voices" / "bernd.wav").touch()
    assert said(caplog, data_dir=tmp_path / "data") == [expected.format(tmp_path / "data" / "voices")]


def test_an_empty_folder_of_voices_is_nothing_to_warn_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The app's image names one at every start, and it is there at the first."""
    (tmp_path / "share").mkdir()
    (tmp_path / "share" / ".DS_Store").touch()
    assert said(caplog, voices_dir=(tmp_path / "share",)) == []
    assert said(caplog, voices_dir=(tmp_path / "not-yet",)) == []
    assert said(caplog, data_dir=tmp_path / "none") == []
