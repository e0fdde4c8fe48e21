"""The scripts that s6 runs in the app, with stand-ins for bashio and the Supervisor (tests/addon/fakes)."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from wyoming_chatterbox.app_options import OPTIONS
from wyoming_chatterbox.testing.serving import ROOT, Process, environment, spawned

SERVICES = ROOT / "addon" / "rootfs" / "etc" / "s6-overlay" / "s6-rc.d"
FAKES = ROOT / "tests" / "addon" / "fakes"
TOKEN = "a-token-of-the-supervisor"

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="bashio's stand-in needs curl, as bashio does")


@dataclass
class Supervisor:
    """The HTTP server that plays the Supervisor."""

    process: subprocess.Popen[str]
    port: int

    def messages(self) -> list[dict[str, Any]]:
        """What it was told; ends it."""
        self.process.terminate()
        said, _ = self.process.communicate(timeout=10)
        return [json.loads(line) for line in said.splitlines()]


@contextlib.contextmanager
def supervisor(refusals: int = 0) -> Iterator[Supervisor]:
    process = subprocess.Popen(
        [sys.executable, FAKES / "supervisor.py", "0", TOKEN, str(refusals)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield Supervisor(process, json.loads(process.stdout.readline())["port"])
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def script(path: str, tmp_path: Path) -> Path:
    """A script of the app with its absolute paths in the test's folder, and pauses that a test can wait for."""
    text = (SERVICES / path).read_text()
    assert text.startswith("#!/command/with-contenv bashio\n")
    text = text.replace("/run/s6", f"{tmp_path}/run/s6").replace('sleep "${pause}"', "sleep 0.1")
    target = tmp_path / path.replace("/", "-")
    target.write_text(text)
    return target


def run(path: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a script as bashio does."""
    bin_path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        [FAKES / "bashio", path, *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        env=environment(PATH=bin_path, **env),
    )


def discover(tmp_path: Path, server: Process, to: Supervisor, token: str = TOKEN) -> subprocess.CompletedProcess[str]:
    return run(
        script("discovery/run", tmp_path),
        WYOMING_CHATTERBOX_URI=f"tcp://127.0.0.1:{server.port}",
        SUPERVISOR_API=f"http://127.0.0.1:{to.port}",
        SUPERVISOR_TOKEN=token,
    )


WANTED = {"service": "wyoming", "config": {"uri": f"tcp://{socket.gethostname()}:10200"}}


def test_home_assistant_is_told_through_the_supervisor_once_the_server_answers(tmp_path: Path) -> None:
    with supervisor() as playing, spawned(tmp_path) as server:
        done = discover(tmp_path, server, playing)
        told = playing.messages()
    assert done.returncode == 0, done.stderr
    assert [(one["path"], one["status"], one["message"]) for one in told] == [("/discovery", 200, WANTED)]
    assert "Home Assistant was told" in done.stderr


def test_a_supervisor_that_is_starting_is_asked_again(tmp_path: Path) -> None:
    with supervisor(refusals=2) as playing, spawned(tmp_path) as server:
        done = discover(tmp_path, server, playing)
        told = playing.messages()
    assert [one["status"] for one in told] == [503, 503, 200]
    assert done.stderr.count("did not take") == 2
    assert "Home Assistant was told" in done.stderr


def test_a_supervisor_that_refuses_is_not_asked_for_ever(tmp_path: Path) -> None:
    with supervisor() as playing, spawned(tmp_path) as server:
        done = discover(tmp_path, server, playing, token="another")
        told = playing.messages()
    assert [one["status"] for one in told] == [401] * 4
    assert done.returncode == 0
    assert "by hand" in done.stderr


def test_nobody_is_told_about_a_server_that_does_not_answer(tmp_path: Path) -> None:
    target = script("discovery/run", tmp_path)
    target.write_text(target.read_text().replace("-ge 120", "-ge 2"))
    with supervisor() as playing:
        done = run(
            target,
            WYOMING_CHATTERBOX_URI=f"unix://{tmp_path}/none.sock",
            SUPERVISOR_API=f"http://127.0.0.1:{playing.port}",
            SUPERVISOR_TOKEN=TOKEN,
        )
        assert playing.messages() == []
    assert done.returncode == 0
    assert "does not answer" in done.stderr


def test_a_wrong_option_ends_the_waiting_early(tmp_path: Path) -> None:
    """The server is about to halt the container, and s6 would wait until this script has ended."""
    options = tmp_path / "options.json"
    options.write_text('{"modell": "embedded"}')
    counted = script("discovery/run", tmp_path)
    counted.write_text(counted.read_text().replace("    sleep 0.5", "    echo again >&2"))
    done = run(counted, WYOMING_CHATTERBOX_OPTIONS_FILE=str(options), WYOMING_CHATTERBOX_URI="tcp://127.0.0.1:1")
    assert done.returncode == 0
    assert "does not answer" in done.stderr
    assert done.stderr.count("again") == 3


def test_the_run_script_starts_the_server_with_the_apps_options(tmp_path: Path) -> None:
    options = tmp_path / "options.json"
    options.write_text(json.dumps({one.name: one.default for one in OPTIONS} | {"log_level": "DEBUG"}))
    program = [str(FAKES / "bashio"), str(script("wyoming-chatterbox/run", tmp_path))]
    env = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "WYOMING_CHATTERBOX_OPTIONS_FILE": str(options),
        "WYOMING_CHATTERBOX_VOICES_DIR": str(tmp_path / "share" / "wyoming-chatterbox"),
        "WYOMING_CHATTERBOX_DATA_DIR": str(tmp_path / "data"),
        "WYOMING_CHATTERBOX_ZEROCONF": "false",
        "WYOMING_CHATTERBOX_URI": "tcp://127.0.0.1:0",
        "SUPERVISOR_TOKEN": TOKEN,
        "HASSIO_TOKEN": TOKEN,
    }
    log = tmp_path / "log"
    with log.open("w") as output:
        process = subprocess.Popen(program, stderr=output, stdout=output, text=True, env=environment(**env))
    try:
        server = Process(process, log)
        server.wait_for("Model embedded speaks")
        assert " DEBUG " in server.log
        voices = tmp_path / "share" / "wyoming-chatterbox"
        assert stat.S_IMODE(voices.stat().st_mode) == 0o700
        inherited = Path(f"/proc/{process.pid}/environ").read_bytes()
        assert TOKEN.encode() not in inherited, "the Supervisor's token is not the server's business"
        # The process that s6 watches is the server itself, so that signals reach it.
        assert server.stop(signal.SIGTERM) == 0
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("status", "number", "container", "halts"),
    [
        (0, 0, "0", False),  # it was told to stop
        (256, 15, "0", False),  # the container is being stopped
        (2, 0, "2", True),  # a wrong option
        (1, 0, "1", True),
        (256, 9, "137", True),  # out of memory
    ],
)
def test_the_containers_end_is_the_servers(
    tmp_path: Path, status: int, number: int, container: str, halts: bool
) -> None:
    results = tmp_path / "run/s6-linux-init-container-results"
    halt = tmp_path / "run/s6/basedir/bin/halt"
    results.mkdir(parents=True)
    halt.parent.mkdir(parents=True)
    (results / "exitcode").write_text("0")
    halt.write_text(f"#!/bin/sh\ntouch {tmp_path}/halted\n")
    halt.chmod(0o755)
    done = run(script("wyoming-chatterbox/finish", tmp_path), str(status), str(number))
    assert done.returncode == 0, done.stderr
    assert (results / "exitcode").read_text().strip() == container
    assert (tmp_path / "halted").exists() is halts
    assert ("the line above says which one" in done.stderr) is (status == 2)


def test_services_are_complete_and_wait_for_each_other() -> None:
    enabled = {path.name for path in (SERVICES / "user" / "contents.d").iterdir()}
    assert enabled == {path.name for path in SERVICES.iterdir()} - {"user"}
    for name in enabled:
        kind = (SERVICES / name / "type").read_text().strip()
        runner = SERVICES / name / "run"
        assert stat.S_IMODE(runner.stat().st_mode) & 0o111 == 0o111, f"{runner} is not executable"
        assert kind in ("longrun", "oneshot")
        if kind == "oneshot":
            assert (SERVICES / name / "up").read_text().strip() == f"/etc/s6-overlay/s6-rc.d/{name}/run"
    assert [path.name for path in (SERVICES / "discovery" / "dependencies.d").iterdir()] == ["wyoming-chatterbox"]


def test_a_server_that_starts_slowly_is_waited_for(tmp_path: Path) -> None:
    """The address is taken before the server begins: discovery starts first, as s6 starts a one-shot at once."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with supervisor() as playing:
        bin_path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        env = environment(
            PATH=bin_path,
            WYOMING_CHATTERBOX_URI=f"tcp://127.0.0.1:{port}",
            SUPERVISOR_API=f"http://127.0.0.1:{playing.port}",
            SUPERVISOR_TOKEN=TOKEN,
        )
        waiting = subprocess.Popen([FAKES / "bashio", script("discovery/run", tmp_path)], env=env)
        try:
            time.sleep(1)
            assert waiting.poll() is None
            with spawned(tmp_path, uri=f"tcp://127.0.0.1:{port}"):
                assert waiting.wait(60) == 0
        finally:
            if waiting.poll() is None:
                waiting.kill()
                waiting.wait()
        assert [one["status"] for one in playing.messages()] == [200]
