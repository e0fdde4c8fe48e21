"""A GPU that fails for good: the embedded voice speaks, and the process ends so that a new one can begin."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from wyoming_chatterbox import server as server_module
from wyoming_chatterbox.engine.base import CancelToken, EngineBroken, EngineError
from wyoming_chatterbox.hosting.base import EngineSpec, StatusReport
from wyoming_chatterbox.server import EXIT_ENGINE_BROKEN, Server
from wyoming_chatterbox.speech.catalog import ModelCatalog
from wyoming_chatterbox.speech.model import Model, ModelState
from wyoming_chatterbox.testing.engines import SlowEngine, ToneEngine, hosted_model, model_of, voice
from wyoming_chatterbox.testing.serving import ROOT, describe, running, settings, synthesize

LOST = "the GPU failed (CUDA error: device-side assert triggered)"


class Breaking(ToneEngine):
    """Speaks `sentences` sentences; then its GPU is lost."""

    def __init__(self, sentences: int = 1, after_chunks: int = 0) -> None:
        super().__init__("original")
        self._sentences, self._after_chunks = sentences, after_chunks

    def work(self, number: int, cancel: CancelToken) -> None:
        if len(self.texts) > self._sentences and number > self._after_chunks:
            raise EngineBroken(LOST)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "LEAST_UPTIME_SECONDS", 0.0)


def _model(engine: ToneEngine) -> Model:
    return hosted_model("original", engine.voices, lambda spec, report, cancel: engine)


async def test_the_server_ends_once_its_gpu_is_lost_and_the_embedded_voice_finishes() -> None:
    model, embedded = _model(Breaking()), model_of(SlowEngine(0.1, chunks=4, model="embedded"))
    async with running(model, embedded) as running_server, running_server.client() as client:
        first = await synthesize(client, "One.")
        assert first.start["model"] == "original"
        second = await synthesize(client, "Two.")
        assert second.types == ["audio-start", "audio-chunk", "audio-stop"], "finished although the server stops"
        assert second.start["model"] == "embedded"
        server = running_server.server
        await asyncio.wait_for(server.stopped(), 10)
        assert server.exit_status == EXIT_ENGINE_BROKEN == 1
        assert model.status.state is ModelState.FAILED and LOST in str(model.status)


async def test_a_sentence_that_was_heard_in_part_ends_in_an_error_and_so_does_the_server() -> None:
    embedded = model_of(ToneEngine("embedded"))
    async with running(_model(Breaking(0, after_chunks=1)), embedded) as running_server:
        async with running_server.client() as client:
            answer = await synthesize(client, "One.")
        assert "device-side assert" in answer.error["text"]
        await asyncio.wait_for(running_server.server.stopped(), 10)
        assert running_server.server.exit_status == EXIT_ENGINE_BROKEN


@pytest.mark.parametrize("error", [EngineBroken(LOST), RuntimeError("CUDA error: unspecified launch failure")])
async def test_a_gpu_that_is_lost_while_the_model_is_loaded_is_not_tried_again(error: Exception) -> None:
    tries = []

    def make(spec: EngineSpec, report: StatusReport, cancel: CancelToken) -> ToneEngine:
        tries.append(1)
        raise error

    model = hosted_model("original", (voice("anna", "original"),), make, retry_seconds=(0.01,))
    async with running(model, model_of(ToneEngine("embedded"))) as running_server:
        await asyncio.wait_for(running_server.server.stopped(), 10)
        assert running_server.server.exit_status == EXIT_ENGINE_BROKEN
    assert tries == [1]


async def test_where_that_is_not_wanted_the_server_stays() -> None:
    embedded = model_of(ToneEngine("embedded"))
    async with running(_model(Breaking(0)), embedded, exit_on_gpu_failure=False) as running_server:
        async with running_server.client() as client:
            assert (await synthesize(client, "One.")).start["model"] == "embedded"
            assert (await synthesize(client, "Two.")).start["model"] == "embedded"
            assert LOST in str((await describe(client)).data)
        await asyncio.sleep(0.1)
        assert not running_server.server._stop.is_set()


async def test_a_process_is_not_restarted_again_and_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server_module, "LEAST_UPTIME_SECONDS", 100.0)
    with caplog.at_level(logging.ERROR):
        async with running(_model(Breaking(0)), model_of(ToneEngine("embedded"))) as running_server:
            async with running_server.client() as client:
                await synthesize(client, "One.")
                await asyncio.sleep(0.1)
                assert not running_server.server._stop.is_set()
                assert (await synthesize(client, "Two.")).start["model"] == "embedded"
    assert "lest it be restarted again and again" in caplog.text


async def test_other_errors_end_nothing() -> None:
    class Failing(ToneEngine):
        def work(self, number: int, cancel: CancelToken) -> None:
            raise EngineError("the GPU has too little memory left for this text")

    model = _model(Failing("original"))
    async with running(model, model_of(ToneEngine("embedded"))) as running_server:
        async with running_server.client() as client:
            assert (await synthesize(client, "One.")).start["model"] == "embedded"
        await asyncio.sleep(0.1)
        assert model.ready and not running_server.server._stop.is_set()


async def test_run_says_with_which_status_the_process_ends() -> None:
    server = Server(settings(), ModelCatalog(_model(Breaking(0)), model_of(ToneEngine("embedded"))))
    server.models.primary._mark_broken(LOST)
    await asyncio.wait_for(server.run(), 20)
    assert server.exit_status == EXIT_ENGINE_BROKEN


def test_the_process_ends_with_that_status() -> None:
    program = f"""
import asyncio, wyoming_chatterbox.server as s
s.LEAST_UPTIME_SECONDS = 0.0
start = s.Server.start
async def broken(self):
    await start(self)
    self.models.primary._mark_broken({LOST!r})
s.Server.start = broken
from wyoming_chatterbox import __main__
__main__.run()
"""
    arguments = ["--uri", "tcp://127.0.0.1:0", "--no-zeroconf", "--model", "embedded", "--cache-size", "0"]
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == EXIT_ENGINE_BROKEN, done.stderr
    assert "ends with status 1" in done.stderr


def test_service_managers_start_it_anew() -> None:
    unit = (ROOT / "systemd" / "wyoming-chatterbox.service").read_text().splitlines()
    assert "Restart=on-failure" in unit
    assert f"RestartPreventExitStatus={EXIT_ENGINE_BROKEN}" not in unit
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    assert services["gpu"]["restart"] == "unless-stopped"
    finish = Path(ROOT, "addon/rootfs/etc/s6-overlay/s6-rc.d/wyoming-chatterbox/finish").read_text()
    assert 'echo "${status}" > "${results}"' in finish and "/bin/halt" in finish, "the Supervisor's watchdog sees it"
