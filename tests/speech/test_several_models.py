"""Several models in one process: who speaks, when they are loaded, and what happens where memory is too small."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from wyoming.client import AsyncTcpClient
from wyoming.event import Event
from wyoming.info import Info

from tests.voices.audio_factory import sound, write
from wyoming_chatterbox.engine.base import CancelToken, Engine
from wyoming_chatterbox.engine.registry import MODELS, create_library
from wyoming_chatterbox.errors import SettingsError
from wyoming_chatterbox.hosting.base import EngineSpec, StatusReport
from wyoming_chatterbox.hosting.thread import ThreadHost
from wyoming_chatterbox.model_factory import create_catalog
from wyoming_chatterbox.server import Server
from wyoming_chatterbox.settings import Settings
from wyoming_chatterbox.speech.catalog import ModelCatalog
from wyoming_chatterbox.speech.memory_room import MemoryRoom
from wyoming_chatterbox.speech.model import Model, ModelState
from wyoming_chatterbox.testing.engines import ToneEngine, model_of
from wyoming_chatterbox.testing.serving import Answer, describe, read_answer, settings, synthesize

GB = 4.0
"""What each model takes."""


class Machine:
    """A computer with so many GB, and models that take some of them while they are loaded."""

    def __init__(self, gb: float) -> None:
        self.free = gb
        self.least = gb
        self.loaded: list[str] = []
        self.room = MemoryRoom({"turbo": GB, "multilingual": GB}, lambda: self.free)

    def model(self, name: str, languages: tuple[str, ...], *, on_demand: bool) -> Model:
        engine = Tone(self, name)
        engine.voices = tuple(
            dataclasses.replace(engine.voices[0], name=f"{name}-{code}", languages=(code,)) for code in languages
        )

        def build(spec: EngineSpec, report: StatusReport, cancel: CancelToken) -> Engine:
            self.free -= GB
            self.least = min(self.least, self.free)
            self.loaded.append(name)
            return engine

        host = ThreadHost(name, build, chunk_timeout=5.0)
        return Model(name, engine.voices, host, retry_seconds=(0.2,), on_demand=on_demand)


class Tone(ToneEngine):
    def __init__(self, machine: Machine, model: str) -> None:
        super().__init__(model)
        self._machine = machine

    def close(self) -> None:
        self._machine.free += GB


@contextlib.asynccontextmanager
async def house(machine: Machine) -> AsyncIterator[tuple[Server, AsyncTcpClient]]:
    """A server with turbo and multilingual, once turbo is loaded."""
    turbo = machine.model("turbo", ("en",), on_demand=False)
    multilingual = machine.model("multilingual", ("de", "en"), on_demand=True)
    catalog = ModelCatalog(turbo, model_of(ToneEngine("embedded")), [multilingual], machine.room)
    server = Server(settings(), catalog)
    await server.start()
    try:
        await asyncio.wait_for(turbo.wait_until_decided(), 10)
        port = server.wyoming.listeners[0].port
        assert port is not None
        async with AsyncTcpClient("127.0.0.1", port) as client:
            yield server, client
    finally:
        server.stop()
        await server.shutdown()


async def until(condition: object, *arguments: object) -> None:
    for _ in range(200):
        if condition(*arguments):  # type: ignore[operator]
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"{condition} never was so")


def model_is_ready(model: Model) -> bool:
    return model.ready


async def spoken(client: AsyncTcpClient, voice: str) -> tuple[str, bool]:
    answer = await synthesize(client, "Hello.", voice)
    return str(answer.start["model"]), bool(answer.start["fallback"])


async def test_each_model_is_a_program_and_the_first_has_all_voices() -> None:
    async with house(Machine(16)) as (_, client):
        programs = Info.from_event(await describe(client)).tts
    assert [program.name for program in programs] == ["chatterbox", "chatterbox-multilingual"]
    assert [[voice.name for voice in program.voices] for program in programs] == [
        ["turbo-en", "multilingual-de", "multilingual-en", "embedded"],
        ["multilingual-de", "multilingual-en"],
    ]
    assert programs[1].description == "Chatterbox speech, model multilingual not loaded, loads with the next request"


async def test_a_further_model_is_loaded_when_it_is_asked_for() -> None:
    machine = Machine(16)
    async with house(machine) as (server, client):
        assert await spoken(client, "turbo-en") == ("turbo", False)
        assert machine.loaded == ["turbo"]
        assert await spoken(client, "multilingual-de") == ("embedded", True), "while it is loaded"
        (other,) = server.models.others
        await until(lambda: other.ready)
        assert await spoken(client, "multilingual-de") == ("multilingual", False)
        assert await spoken(client, "turbo-en") == ("turbo", False)
    assert machine.loaded == ["turbo", "multilingual"], "both have room"


async def test_a_program_chooses_the_model() -> None:
    async with house(Machine(16)) as (server, client):
        server.models.others[0].request_load()
        await until(lambda: server.models.others[0].ready)
        await client.write_event(Event("select-program", {"name": "chatterbox-multilingual"}))
        chosen = await synthesize(client, "Hello.")
        refused = await synthesize(client, "Hello.", "turbo-en")
        await client.write_event(Event("select-program", {"name": "chatterbox"}))
        first = await synthesize(client, "Hello.")
        await client.write_event(Event("select-program", {"name": "piper"}))
        unknown: Answer = await read_answer(client, "error")
    assert (chosen.start["model"], chosen.start["voice"]) == ("multilingual", "multilingual-de")
    assert "Voice 'turbo-en' is spoken by model 'turbo', not by 'multilingual'" in str(refused.error)
    assert first.start["model"] == "turbo"
    assert "There is no program 'piper'; available: chatterbox, chatterbox-multilingual" in str(unknown.error)


async def test_where_memory_is_too_small_one_makes_way_for_the_other(caplog: pytest.LogCaptureFixture) -> None:
    machine = Machine(6)
    with caplog.at_level(logging.INFO):
        async with house(machine) as (server, client):
            turbo, multilingual = server.models.speakers
            for model in (multilingual, turbo, multilingual):
                voice = model.voices[-1].name
                assert await spoken(client, voice) == ("embedded", True), "while it is loaded"
                await until(model_is_ready, model)
                assert await spoken(client, voice) == (model.name, False)
                assert [one.loaded for one in (turbo, multilingual)].count(True) == 1
    assert machine.loaded == ["turbo", "multilingual", "turbo", "multilingual"] and machine.least >= 0
    assert "Model multilingual needs 2.0 GB more than are free: model turbo makes way once it is" in caplog.text
    assert "Model turbo makes way for another: unloading it" in caplog.text


async def test_who_speaks_does_not_make_way() -> None:
    machine = Machine(6)
    async with house(machine) as (server, client):
        turbo, multilingual = server.models.speakers
        with turbo.lease(turbo.voices[0]):
            multilingual.request_load()
            await asyncio.sleep(0.3)
            assert turbo.ready and not multilingual.loaded
            assert await spoken(client, "turbo-en") == ("turbo", False)
        await until(lambda: multilingual.ready)
    assert machine.least >= 0


async def test_what_has_no_room_at_all_is_tried_again() -> None:
    machine = Machine(3)
    machine.free = 4.0
    async with house(machine) as (server, client):
        (multilingual,) = server.models.others
        machine.free = -1.0  # another program takes the rest
        assert await spoken(client, "multilingual-de") == ("embedded", True)
        await until(lambda: multilingual.status.state is ModelState.FAILED)
        assert "GB more memory than are free" in str(multilingual.status.error)
        machine.free = 8.0
        await until(lambda: multilingual.ready)


def test_voices_that_name_no_model_are_for_each(tmp_path: Path) -> None:
    for name in ("anna", "ben", "cleo"):
        write(tmp_path / f"{name}.wav", sound(6.0))
    (tmp_path / "ben.yaml").write_text("model: multilingual\nlanguages: [en, fr]\n")
    (tmp_path / "cleo.yaml").write_text("model: original\n")
    library = create_library([tmp_path], None, ["turbo", "multilingual"], ["de", "en"])
    library.scan(patient=False)
    assert [(voice.name, voice.model, voice.languages, voice.description) for voice in library.voices] == [
        ("anna", "turbo", ("en",), "anna (turbo)"),
        ("anna-de", "multilingual", ("de",), "anna (de)"),
        ("anna-multilingual-en", "multilingual", ("en",), "anna (multilingual-en)"),
        ("ben", "multilingual", ("en",), "ben (en)"),
        ("ben-fr", "multilingual", ("fr",), "ben (fr)"),
        ("cleo", "original", ("en",), "cleo"),
    ]
    absent = "cleo.yaml: model: original does not run here, so that the voice is not offered"
    assert any(absent in str(problem) for problem in library.problems)


def test_the_settings_make_the_models(tmp_path: Path) -> None:
    catalog = create_catalog(Settings(model="turbo,multilingual", languages=("de,en",), data_dir=tmp_path))
    assert [model.name for model in catalog.models] == ["embedded", "turbo", "multilingual"]
    assert [voice.name for voice in catalog.voices] == ["default", "multilingual", "multilingual-en", "embedded"]
    assert catalog.others[0].status.state is ModelState.UNLOADED
    assert all(spec.memory_gb > 1 for spec in MODELS.values() if spec.clones)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "turbo,piper"}, "model: 'piper' is unknown"),
        ({"model": "turbo,"}, "model: '' is unknown"),
        ({"model": "turbo,turbo"}, "model: 'turbo,turbo' names a model twice"),
        ({"model": "auto,turbo"}, "model: 'auto' cannot be combined, it finds one model"),
        ({"model": "turbo,embedded"}, "model: 'embedded' cannot be combined, it is there beside every model"),
        ({"model": "turbo,nano", "model_dir": Path("/tmp")}, "model_dir: '/tmp' has the weights of one model"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError) as error:
        Settings(**changes)  # type: ignore[arg-type]
    assert message in str(error.value)
