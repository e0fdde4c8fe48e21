"""The program with --http-uri: from its flags to its end."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx2 as httpx
import pytest

from wyoming_chatterbox.addresses import http_address
from wyoming_chatterbox.cli import from_command_line
from wyoming_chatterbox.errors import SettingsError
from wyoming_chatterbox.settings import Settings
from wyoming_chatterbox.testing.serving import ROOT, environment, spawned


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        ("http://:8000", ("127.0.0.1", 8000)),
        ("http://", ("127.0.0.1", 10201)),
        ("http://0.0.0.0", ("0.0.0.0", 10201)),
        ("http://[::1]:80/", ("::1", 80)),
        ("http://tts.local:0", ("tts.local", 0)),
    ],
)
def test_an_address_is_completed_with_loopback_and_a_port(uri: str, address: tuple[str, int]) -> None:
    assert http_address(uri) == address
    assert from_command_line(["--http-uri", uri], {}).http_uri == uri


@pytest.mark.parametrize("uri", ["https://a:1", "tcp://a:1", "a:1", "http://a:99999", "http://a/x", "http://u@a", ""])
def test_what_is_no_address_is_refused(uri: str) -> None:
    with pytest.raises(SettingsError, match=r"http_uri: .*allowed: http://HOST:PORT"):
        Settings(http_uri=uri)


@pytest.mark.parametrize("origin", ["ha.example", "https://ha.example/", "https://ha.example/x", "*", "ftp://a"])
def test_what_is_no_origin_is_refused(origin: str) -> None:
    with pytest.raises(SettingsError, match=r"http_cors_origin: .* is not an origin"):
        Settings(http_cors_origin=(origin,))


def test_it_is_off_by_default() -> None:
    assert from_command_line([], {}).http_uri is None


def test_the_program_serves_and_ends_with_its_http_edge(tmp_path: Path) -> None:
    with spawned(tmp_path, "--model", "embedded", "--http-uri", "http://:0") as server:
        base = server.wait_for(r"listens on tcp://\S+, (http://127\.0\.0\.1:\d+)").group(1)
        assert httpx.get(f"{base}/health/ready").json()["speaks"] == "embedded"
        answer = httpx.post(f"{base}/v1/audio/speech", json={"input": "Hello.", "response_format": "pcm"})
        assert len(answer.content) > 10_000
        assert server.stop() == 0
        assert "Stopped" in server.log and "Traceback" not in server.log


def test_a_port_that_is_taken_ends_the_start_with_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        uri = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with spawned(tmp_path, "--model", "embedded", "--http-uri", uri) as server:
            assert server.process.wait(30) == 2
            assert f"Cannot listen on {uri}: the port is in use" in server.log
            assert "Traceback" not in server.log


def test_a_port_of_two_uris_ends_the_start_with_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    both = ("--uri", f"tcp://0.0.0.0:{port}", "--http-uri", f"http://127.0.0.1:{port}")
    with spawned(tmp_path, "--model", "embedded", *both) as server:
        assert server.process.wait(30) == 2
        assert f"Cannot listen on http://127.0.0.1:{port}: the port is in use" in server.log
        assert "Traceback" not in server.log


def test_without_its_packages_it_says_how_to_get_them(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['fastapi'] = None; from wyoming_chatterbox.__main__ import main; sys.exit(main())"
    )
    arguments = ["--uri", "tcp://127.0.0.1:0", "--no-zeroconf", "--model", "embedded", "--http-uri", "http://:0"]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert "script/setup --http" in done.stderr and "Traceback" not in done.stderr
    assert "wyoming-chatterbox[" not in done.stderr, "no registry has it"


def test_the_light_server_imports_none_of_its_packages() -> None:
    program = (
        "import sys, wyoming_chatterbox.server\n"
        "print(sorted({'fastapi', 'uvicorn', 'pydantic', 'prometheus_client', 'websockets'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment(), capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == "[]", done.stderr


def test_what_takes_long_is_done_before_clients_are_served(tmp_path: Path) -> None:
    """Loading FFmpeg, and describing the routes: each would stop the event loop for longer than `describe` may take
    on a small machine."""
    code = (
        "import sys\n"
        "from wyoming_chatterbox.http import edge\n"
        "from wyoming_chatterbox.model_factory import create_catalog\n"
        "from wyoming_chatterbox.settings import Settings\n"
        "from wyoming_chatterbox.speech.service import SpeechService\n"
        "settings = Settings(model='embedded', cache_size=0)\n"
        "context = edge.EdgeState(settings, SpeechService(settings, create_catalog(settings)))\n"
        "print('av.filter' in sys.modules, edge.create_app(context).openapi_schema is not None)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=environment(), check=True
    )
    assert done.stdout.split() == ["True", "True"]


def test_script_run_installs_them_where_they_are_asked_for() -> None:
    """The same reading of flags and environment that the server does."""
    program = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'script')!r})\n"
        "from importlib.machinery import SourceFileLoader\n"
        f"run = SourceFileLoader('run', {str(ROOT / 'script' / 'run')!r}).load_module()\n"
        "installed, executed = [], []\n"
        "run.ensure = lambda *parts, **_: installed.extend(parts)\n"
        "run.is_ready = lambda part: True\n"
        "run.os.execv = lambda *words: executed.append(words)\n"
        "try: run.main(sys.argv[1:])\n"
        "finally: print(installed)"
    )
    for arguments, variables, installed in (
        ([], {}, "[]"),
        (["--http-uri", "http://:1"], {}, "['http']"),
        (["--http-uri=http://:1"], {}, "['http']"),
        ([], {"WYOMING_CHATTERBOX_HTTP_URI": "http://:1"}, "['http']"),
        (["--help", "--http-uri", "http://:1"], {}, "[]"),
    ):
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", program, *arguments],
            env=environment(**variables),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.stdout.splitlines()[-1] == installed, (arguments, variables, done.stdout, done.stderr)


def test_a_second_signal_ends_what_is_still_spoken(tmp_path: Path) -> None:
    arguments = ("--model", "embedded", "--http-uri", "http://:0", "--shutdown-timeout", "60", "--write-timeout", "60")
    with spawned(tmp_path, *arguments) as server:
        port = int(server.wait_for(r"listens on .*http://127\.0\.0\.1:(\d+)").group(1))
        # A client that reads nothing keeps its utterance going for as long as it is allowed to.
        with socket.create_connection(("127.0.0.1", port)) as client:
            body = (
                b'{"input": "'
                + b"The quick brown fox jumps over the lazy dog. " * 400
                + b'", "response_format": "wav"}'
            )
            head = f"POST /v1/audio/speech HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
            client.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + body)
            assert client.recv(10)
            server.process.send_signal(signal.SIGTERM)
            server.wait_for("SIGTERM: stopping")
            time.sleep(0.5)
            assert server.process.poll() is None, "it did not wait for the client"
            assert server.stop(timeout=15) == 0
            assert "Second signal" in server.log
