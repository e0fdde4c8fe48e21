"""The health check asks the real server, and says no when it should."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from wyoming_chatterbox import __version__
from wyoming_chatterbox.testing.serving import environment, spawned


def check(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "wyoming_chatterbox.healthcheck", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(**(env or {})),
    )


@contextlib.contextmanager
def answering(answer: bytes, *, then_close: bool = True) -> Iterator[str]:
    """A server that gives every client one answer; yields its URI."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        done = threading.Event()

        def serve() -> None:
            with contextlib.suppress(OSError):
                client, _ = server.accept()
                with client:
                    client.recv(1000)
                    client.sendall(answer)
                    if not then_close:
                        done.wait(10)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"tcp://127.0.0.1:{server.getsockname()[1]}"
        finally:
            done.set()
    thread.join(5)


def test_a_server_is_healthy_as_soon_as_it_listens_at_every_address(tmp_path: Path) -> None:
    path = tmp_path / "speech.sock"
    with spawned(tmp_path, "--uri", f"unix://{path}", uri="tcp://0.0.0.0:0") as server:
        port = server.port
        done = check("--uri", f"tcp://0.0.0.0:{port}", "--uri", f"unix://{path}")
        assert (done.returncode, done.stderr) == (0, "")
        first, second = done.stdout.splitlines()
        assert first.startswith(f"healthy: tcp://0.0.0.0:{port} after ")
        assert f"chatterbox {__version__}, 1 voice; Chatterbox speech, model embedded" in first
        assert second.startswith(f"healthy: unix://{path} after ")


def test_it_takes_the_servers_settings(tmp_path: Path) -> None:
    options = tmp_path / "options.json"
    options.write_text(json.dumps({"model": "embedded", "log_level": "ERROR"}))
    with spawned(tmp_path) as server:
        env = {
            "WYOMING_CHATTERBOX_URI": f"tcp://127.0.0.1:{server.port}",
            "WYOMING_CHATTERBOX_OPTIONS_FILE": str(options),
        }
        assert check(env=env).returncode == 0
        options.write_text('{"modell": "embedded"}')
        refused = check(env=env)
    assert (refused.returncode, refused.stderr) == (
        2,
        f"health: {options}: modell: unknown setting; did you mean model?\n",
    )


def test_it_costs_less_than_a_second_of_processor_time(tmp_path: Path) -> None:
    with spawned(tmp_path) as server:
        uri = f"tcp://127.0.0.1:{server.port}"
        before = os.times()
        assert check("--uri", uri).returncode == 0
        after = os.times()
    # Not the clock's time: this machine may have other work.
    assert after.children_user + after.children_system - before.children_user - before.children_system < 1


def test_it_loads_neither_the_edge_nor_the_voice() -> None:
    program = (
        "import sys, wyoming_chatterbox.healthcheck\n"
        "print(sorted({'numpy', 'wyoming', 'asyncio', 'zeroconf', 'onnxruntime', 'regex'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment())
    assert done.stdout == "[]\n"


def test_nobody_there_is_unhealthy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        uri = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
    done = check("--uri", uri)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"unhealthy: {uri}: ")
    assert "refused" in done.stderr


def test_one_address_of_two_is_not_enough(tmp_path: Path) -> None:
    with spawned(tmp_path) as server:
        done = check("--uri", f"tcp://127.0.0.1:{server.port}", "--uri", f"unix://{tmp_path}/none.sock")
    assert done.returncode == 1
    assert "none.sock" in done.stderr


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"", "closed the connection without an answer"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "Expecting value"),
        (b'{"type":"error","data":{"text":"no"}}\n', "the answer is no info"),
        (b"[1]\n", "the answer is no info"),
        (b'{"type":"info","data_length":99999999}\n', "the info has 99999999 bytes"),
        (b'{"type":"info","data_length":20}\n{"tts":', "closed the connection"),
        (b'{"type":"info","data":{"asr":[]}}\n', "it offers no speech"),
        (b'{"type":"info","data":{"tts":[{"installed":true,"voices":[]}]}}\n', "it offers no speech"),
        (b"x" * 70_000, "header does not end"),
    ],
    ids=lambda one: str(one)[:40],
)
def test_an_answer_that_is_no_info_is_unhealthy(answer: bytes, message: str) -> None:
    with answering(answer) as uri:
        done = check("--uri", uri)
    assert done.returncode == 1
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_an_answer_that_does_not_come_is_unhealthy_in_time() -> None:
    with answering(b'{"type":"info","data_length":20}\n', then_close=False) as uri:
        started = time.monotonic()
        done = check("--uri", uri, "--timeout", "0.3")
        seconds = time.monotonic() - started
    assert done.returncode == 1
    assert "time" in done.stderr
    assert seconds < 9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "1"], "--port: unknown flag"),
        (["--timeout", "0"], "timeout: 0.0 is out of range"),
        (["--uri", "stdio://"], "has one client only"),
    ],
)
def test_wrong_use_has_a_status_of_its_own(arguments: list[str], message: str) -> None:
    done = check(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
