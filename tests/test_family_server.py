"""The other models of the family through the socket: the real program, the real classes, random weights."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from wyoming.client import AsyncTcpClient
from wyoming.info import Info

from tests.test_original_server import PROGRAM, seconds
from wyoming_chatterbox.testing.random_checkpoint import CLIP, build
from wyoming_chatterbox.testing.serving import describe, spawned, stream, synthesize


async def test_nano_speaks_clones_and_refuses_what_it_does_not_have(tiny_checkpoint: Path, tmp_path: Path) -> None:
    weights = build(tmp_path / "weights", model="nano", eos_at=90, clip_seconds=6.0)
    voices = tmp_path / "voices"
    voices.mkdir()
    shutil.copy(weights / CLIP, voices / "anna.wav")
    (voices / "anna.yaml").write_text("exaggeration: 0.9\ntemperature: 0.5\n")
    arguments = ("--model", "nano", "--model-dir", str(weights), "--voices-dir", str(voices), "--exaggeration", "0.7")
    with spawned(tmp_path, *arguments, program=PROGRAM) as server:
        server.wait_for("Model nano is ready")
        async with AsyncTcpClient("127.0.0.1", server.port) as client:
            names = [voice.name for voice in Info.from_event(await describe(client)).tts[0].voices]
            plain = await synthesize(client, "Well, [laugh] the kettle is on.", voice="default")
            streamed = await stream(client, ["Well, [la", "ugh] the kettle ", "is on."], voice="default")
            cloned = await synthesize(client, "Well, the kettle is on.", voice="anna?top_k=50")
            refused = await synthesize(client, "Well.", voice="anna?exaggeration=1.5")
            silent = await synthesize(client, "Hello [laugh] there.", voice="embedded")
            spoken = await synthesize(client, "Hello there.", voice="embedded")
        log = server.log
    assert names == ["default", "anna", "embedded"]
    assert (plain.start["model"], plain.start["voice"], plain.start["fallback"]) == ("nano", "default", False)
    assert plain.pcm == streamed.pcm and seconds(plain) > 1
    assert (cloned.start["model"], cloned.start["voice"]) == ("nano", "anna")
    assert "error" in refused.types and "exaggeration: refused, model nano has no such setting" in str(refused.events)
    assert silent.pcm == spoken.pcm, "nobody reads the tag aloud"
    assert "--exaggeration has no effect: model nano has no such setting" in log
    assert len(re.findall("Voice anna: exaggeration has no effect, model nano has no such setting", log)) == 1


async def test_multilingual_has_a_voice_for_each_language_of_the_house(tiny_checkpoint: Path, tmp_path: Path) -> None:
    weights = build(tmp_path / "weights", model="multilingual", eos_at=20)
    voices = tmp_path / "voices"
    voices.mkdir()
    shutil.copy(weights / CLIP, voices / "anna.wav")
    shutil.copy(weights / CLIP, voices / "ben.wav")
    (voices / "ben.yaml").write_text("languages: [fr, en-GB]\n")
    flags = ("--voices-dir", str(voices), "--languages", "de,nb")
    with spawned(tmp_path, "--model", "multilingual", "--model-dir", str(weights), *flags, program=PROGRAM) as server:
        server.wait_for("Model multilingual is ready")
        async with AsyncTcpClient("127.0.0.1", server.port) as client:
            listed = Info.from_event(await describe(client)).tts[0].voices
            answers = [
                await synthesize(client, "Radio 7", voice=name) for name in (None, "default-no", "anna-no", "ben-en-GB")
            ]
    assert {voice.name: voice.languages for voice in listed} == {
        "default": ["de"],
        "default-no": ["no"],
        "anna": ["de"],
        "anna-no": ["no"],
        "ben": ["fr"],
        "ben-en-GB": ["en-GB"],
        "embedded": ["en"],
    }
    assert [answer.start["voice"] for answer in answers] == ["default", "default-no", "anna-no", "ben-en-GB"]
    assert len({answer.pcm for answer in answers}) >= 3, "languages sound different"
    assert all(seconds(answer) == pytest.approx(19 / 25, abs=0.01) for answer in answers)


async def test_a_single_language_pack_speaks_its_language(tiny_checkpoint: Path, tmp_path: Path) -> None:
    weights = build(tmp_path / "weights", model="multilingual", eos_at=20)
    (weights / "t3_mtl23ls_v3.safetensors").rename(weights / "t3_pt_br.safetensors")
    (weights / "s3gen.safetensors").rename(weights / "s3gen_v3.safetensors")
    voices = tmp_path / "voices"
    voices.mkdir()
    shutil.copy(weights / CLIP, voices / "anna.wav")
    flags = ("--model", "multilingual", "--model-dir", str(weights), "--voices-dir", str(voices))
    with spawned(tmp_path, *flags, program=PROGRAM) as server:
        server.wait_for("Model multilingual is ready")
        async with AsyncTcpClient("127.0.0.1", server.port) as client:
            listed = Info.from_event(await describe(client)).tts[0].voices
            answers = [await synthesize(client, "Radio 7", voice=name) for name in ("default", "anna")]
        log = server.log
    assert [(voice.name, voice.languages) for voice in listed] == [
        ("default", ["pt"]),
        ("anna", ["pt"]),
        ("embedded", ["en"]),
    ]
    assert [(answer.start["model"], answer.start["fallback"]) for answer in answers] == [("multilingual", False)] * 2
    assert "has a single-language pack: model multilingual speaks pt" in log
