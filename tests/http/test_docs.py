"""The commands, the clients and the schema in docs/ are run and compared as they stand there."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import sys
import wave
from collections.abc import Iterator
from pathlib import Path

import jsonschema_rs
import numpy as np
import pytest
from websockets.asyncio.client import connect

from tests.http.clients import decoded, hear, say, serving, socket_uri
from wyoming_chatterbox.http.errors import STATUS
from wyoming_chatterbox.http.messages import schemas
from wyoming_chatterbox.testing.engines import BreakingEngine, model_of
from wyoming_chatterbox.testing.serving import ROOT, environment, spawned

HTTP_PAGE = (ROOT / "docs" / "http.md").read_text()
SOCKET_PAGE = (ROOT / "docs" / "websocket.md").read_text()


def commands(page: str) -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```", page, re.M | re.S)
    return [command for block in blocks for command in block.splitlines()]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The real program with its embedded voice; HOST:PORT of its HTTP edge."""
    arguments = ("--model", "embedded", "--http-uri", "http://127.0.0.1:0", "--http-cors-origin", "null")
    with spawned(tmp_path_factory.mktemp("docs"), *arguments) as process:
        yield process.wait_for(r"listens on .*http://(\S+)").group(1)


def run(command: str, folder: Path, server: str) -> str:
    done = subprocess.run(
        ["sh", "-c", command.replace("localhost:10201", server).replace("script/", f"{ROOT}/script/")],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(),
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_every_curl_command_works(server: str, tmp_path: Path) -> None:
    answers = {command.split("localhost:10201")[1].split()[0]: command for command in commands(HTTP_PAGE)}
    assert len(commands(HTTP_PAGE)) == 10
    said = {path: run(command, tmp_path, server) for path, command in answers.items()}
    for command in commands(HTTP_PAGE):
        run(command, tmp_path, server)
    for name in ("speech.mp3", "speech.wav"):
        sound, rate = decoded((tmp_path / name).read_bytes())
        assert 0.5 < len(sound) / rate < 6 and np.abs(sound).max() > 0.1
    assert len((tmp_path / "speech.pcm").read_bytes()) > 24000
    assert json.loads(said["/v1/models"])["object"] == "list"
    assert json.loads(said["/v1/audio/voices"])["voices"][0]["name"] == "embedded"
    assert json.loads(said["/api/settings"])[0]["name"] == "exaggeration"
    assert said["/health/live"] == "OK" and json.loads(said["/health/ready"])["speaks"] == "embedded"
    assert "wyoming_chatterbox_utterances_total" in said["/metrics"]


def test_ws_say_speaks_and_says_what_it_cost(server: str, tmp_path: Path) -> None:
    if sys.prefix != str(ROOT / ".venv"):
        pytest.skip("needs the .venv that script/test makes")
    assert len(commands(SOCKET_PAGE)) == 2
    for command in commands(SOCKET_PAGE):
        said = run(f"{command} --url ws://{server}/ws/stream/audio", tmp_path, server)
        assert "model embedded, voice embedded" in said
        assert re.search(r"first audio after \d+ ms, \d+ chunks, \d+\.\d\d s of audio, RTF 0\.\d+", said)
    for name in ("morning.wav", "stream.wav"):
        with wave.open(str(tmp_path / name)) as saved:
            samples = np.frombuffer(saved.readframes(saved.getnframes()), dtype="<i2")
        assert 1.5 < len(samples) / 24000 < 8 and np.abs(samples).max() > 3000


def test_ws_say_says_what_is_wrong(server: str, tmp_path: Path) -> None:
    if sys.prefix != str(ROOT / ".venv"):
        pytest.skip("needs the .venv that script/test makes")
    for options, url, said in (
        ("--set exaggeration=9", f"ws://{server}/ws/stream/audio", "exaggeration: 9.0 is out of range"),
        ("--voice nobody", f"ws://{server}/ws/stream/audio", "There is no voice 'nobody'"),
        ("", "ws://127.0.0.1:1/ws/stream/audio", "does the server run with --http-uri?"),
        ("", f"ws://{server}/elsewhere", "refused"),
        ("", "http://localhost", "give ws://HOST:PORT"),
    ):
        command = f"{ROOT}/script/ws-say Hello. {options} -o x.wav --url {url}"
        done = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert done.returncode != 0 and said in done.stderr, done.stderr


def test_the_python_client_works(server: str, tmp_path: Path) -> None:
    example = ROOT / "docs" / "examples" / "speak.py"
    said = run(f"{sys.executable} {example} ws://{server}/ws/stream/audio", tmp_path, server)
    assert re.search(r"voices: \['embedded'\]\nfirst audio after 0\.\d+ s, \d\.\d\d s of audio by embedded", said)
    with wave.open(str(tmp_path / "spoken.wav")) as saved:
        assert saved.getnframes() > 2 * 24000


def test_the_pages_client_works(server: str) -> None:
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs Playwright")
    if shutil.which("chromium") is None:
        pytest.skip("needs Debian's chromium")
    example = (ROOT / "docs" / "examples" / "speak.html").as_uri()
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        try:
            page = browser.new_page()
            page.goto(f"{example}?ws://{server}/ws/stream/audio")
            page.get_by_role("button", name="Speak").click()
            page.wait_for_function("document.getElementById('status').textContent.includes('s by embedded')")
        finally:
            browser.close()


def test_the_schema_is_that_of_the_messages() -> None:
    assert json.loads((ROOT / "docs" / "websocket.schema.json").read_text()) == schemas(), "run script/docs"


async def test_what_is_sent_is_what_the_schema_says() -> None:
    written = json.loads((ROOT / "docs" / "websocket.schema.json").read_text())
    server_says, client_says = (jsonschema_rs.validator_for(written[side]) for side in ("server", "client"))
    for right in (
        {"type": "start", "text": "x", "seed": 3, "chunk_size": 0, "exaggeration": 2, "top_p": 1, "min_p": 0.1},
        {"type": "start", "voice": "x", "response_format": "mp3", "id": "a"},
        {"type": "text", "text": ""},
        {"type": "cancel"},
    ):
        assert client_says.is_valid(right), right
    for wrong in (
        {"type": "start", "exaggeration": 2.1},
        {"type": "start", "chunk_size": 3},
        {"type": "start", "top_p": 1.1},
        {"type": "start", "speed_up": 1},
        {"type": "shout"},
        {"text": "x"},
    ):
        assert not client_says.is_valid(wrong), wrong
    async with serving(model_of(BreakingEngine(at=2))) as server:
        async with connect(socket_uri(server)) as socket:
            messages = [json.loads(await socket.recv())]
            for text in ("Hello.", "This will break."):
                await say(socket, type="start", text=text)
                messages += (await hear(socket)).messages
            await say(socket, type="ping")
            messages.append(json.loads(await asyncio.wait_for(socket.recv(), 5)))
    assert {message["type"] for message in messages} == {
        *("connected", "started", "chunk", "metrics", "error", "pong"),
    }
    for message in messages:
        server_says.validate(message)


def test_the_pages_name_every_message_field_and_code() -> None:
    for side in schemas().values():
        for name, definition in side["$defs"].items():
            for field in definition["properties"]:
                if name not in ("VoiceItem", "Format"):
                    assert f"`{field}`" in SOCKET_PAGE, f"{name}.{field}"
    elsewhere = {"text-timeout", "invalid-event", "program-not-found", "unsupported-text-format"}  # not said by HTTP
    for code, status in STATUS.items():
        if code not in elsewhere:
            row = next(line for line in HTTP_PAGE.splitlines() if f"`{code}`" in line and line.startswith("| "))
            assert row.startswith(f"| {status} |"), code
