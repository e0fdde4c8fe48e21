"""Every command in the README is run, as it stands there, on a machine of the test's own."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.namespaces import Namespace, lan, why_not
from wyoming_chatterbox.testing.random_checkpoint import write_clip
from wyoming_chatterbox.testing.serving import ROOT, environment

COMMANDS = [
    command
    for block in re.findall(r"^```sh\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)
    for command in block.splitlines()
]

ORIGINALS = {
    "script/run --model original --reference-clip anna.wav": "anna",
    "script/run --model original --profile fast": "default",
}
"""And the voice that each of them offers."""

WITH_HTTP = "script/run --http-uri http://127.0.0.1:10201"
SERVERS = ["script/run", WITH_HTTP, *ORIGINALS, "wyoming-chatterbox --model embedded"]
INSTALLATIONS = [
    "pip install .",
    "pip install -c constraints.txt '.[chatterbox]'",
    "pip install --no-deps -r requirements-chatterbox.txt",
]


@pytest.fixture(scope="module")
def machine() -> Iterator[Namespace]:
    """A machine with a network of its own: port 10200 is free there, and multicast stays there."""
    reason = why_not()
    if reason:
        pytest.skip(reason)
    with lan() as (first, _, _):
        yield first


@contextlib.contextmanager
def started(command: str, machine: Namespace, folder: Path, path: str = "") -> Iterator[Path]:
    """A command that serves, run by a shell in `folder`; yields its log."""
    log = folder / f"{time.monotonic_ns()}.log"
    own = {"HF_HOME": str(folder / "hub"), "XDG_DATA_HOME": str(folder / "share")}
    env = environment(PATH=f"{path}:{os.environ['PATH']}", **own)
    del env["PYTHONPATH"]  # a user has none
    with log.open("w") as output:
        process = subprocess.Popen(
            ["ip", "netns", "exec", machine.name, "sh", "-c", f"exec {command}"],
            cwd=folder,
            stdout=output,
            stderr=output,
            env=env,
        )
    try:
        yield log
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0, log.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def wait_for(log: Path, text: str, timeout: float = 60) -> None:
    deadline = time.monotonic() + timeout
    while text not in log.read_text():
        assert time.monotonic() < deadline, f"{text!r} is not in the log:\n{log.read_text()}"
        time.sleep(0.05)


def run(command: str, folder: Path, *prefix: str) -> str:
    done = subprocess.run(
        [*prefix, "sh", "-c", command], cwd=folder, capture_output=True, text=True, timeout=110, env=environment()
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder in which the README's relative commands work and leave nothing behind."""
    for name in ("script", "constraints.txt", "requirements-chatterbox.txt"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


def test_the_readme_has_the_commands_that_are_run_here() -> None:
    said = [command for command in COMMANDS if command.startswith("script/say ")]
    assert len(said) == 2
    assert sorted(COMMANDS) == sorted([*SERVERS, *INSTALLATIONS, *said, "script/test"])
    assert "exec script/test" in (ROOT / ".ci" / "run").read_text(), "CI runs the README's test command"


def test_the_server_starts_is_advertised_and_speaks(machine: Namespace, checkout: Path) -> None:
    with started("script/run", machine, checkout) as log:
        wait_for(log, "Advertised on the LAN as 'chatterbox-")
        assert "listens on tcp://0.0.0.0:10200" in log.read_text()
        for command in COMMANDS:
            if command.startswith("script/say "):
                said = run(command, checkout, "ip", "netns", "exec", machine.name)
                assert "model embedded, voice embedded" in said
                assert re.search(r"first audio after \d+ ms, \d+ chunks, \d+\.\d\d s of audio, RTF 0\.\d+", said)
    for name in ("morning.wav", "stream.wav"):
        with wave.open(str(checkout / name)) as saved:
            assert (saved.getframerate(), saved.getnchannels(), saved.getsampwidth()) == (24000, 1, 2)
            samples = np.frombuffer(saved.readframes(saved.getnframes()), dtype="<i2")
        assert 1.5 < len(samples) / 24000 < 8
        assert np.abs(samples).max() > 3000


@pytest.mark.parametrize(("command", "voice"), ORIGINALS.items())
def test_the_original_model_is_answered_for_by_the_embedded_voice_where_there_is_no_network(
    machine: Namespace, checkout: Path, command: str, voice: str
) -> None:
    if sys.prefix != str(ROOT / ".venv"):
        pytest.skip("needs the .venv that script/test makes")
    write_clip(checkout / "anna.wav", seconds=6)
    with started(command, machine, checkout) as log:
        wait_for(log, "Model original cannot be loaded yet")
        said = run(f'script/say "Hello." --voice {voice} -o a.wav', checkout, "ip", "netns", "exec", machine.name)
    assert "model embedded, voice embedded, in the place of the model that cannot speak yet" in said


def test_the_server_with_http_serves_the_page_and_speaks(machine: Namespace, checkout: Path) -> None:
    if sys.prefix != str(ROOT / ".venv"):
        pytest.skip("needs the .venv that script/test makes")
    program = (
        "from urllib.request import Request, urlopen\n"
        "page = urlopen('http://127.0.0.1:10201').read().decode()\n"
        "assert '<title>' in page\n"
        "asked = Request('http://127.0.0.1:10201/v1/audio/speech', b'{\"input\": \"Hello.\"}')\n"
        "asked.add_header('Content-Type', 'application/json')\n"
        "print(len(urlopen(asked).read()))"
    )
    with started(WITH_HTTP, machine, checkout) as log:
        wait_for(log, ", http://127.0.0.1:10201")
        (checkout / "ask.py").write_text(program)
        said = run(f"{sys.executable} ask.py", checkout, "ip", "netns", "exec", machine.name)
    assert int(said) > 1000


@pytest.mark.slow
def test_pip_alone_installs_a_light_server_that_speaks(machine: Namespace, checkout: Path) -> None:
    venv = checkout / "venv"
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    bin_path = str(venv / "bin")
    source = checkout / "source"
    source.mkdir()
    run(f"tar c --exclude=.venv --exclude=.git --exclude=build -C {ROOT} . | tar x -C {source}", checkout)
    for command in INSTALLATIONS:
        # What a torch for CUDA would cost is not downloaded; that it can be resolved is seen.
        dry = "" if command == "pip install ." else " --dry-run"
        run(f"PATH={bin_path}:$PATH PYTHONPATH= {command}{dry}", source)
    assert not list(venv.glob("lib/python*/site-packages/torch")), "the light server has no torch"
    with started("wyoming-chatterbox --model embedded", machine, checkout, bin_path) as log:
        wait_for(log, "Model embedded speaks")
        said = run('script/say "Hello." -o light.wav', checkout, "ip", "netns", "exec", machine.name)
        assert "model embedded" in said


def test_the_settings_page_is_the_settings() -> None:
    assert run("script/docs --check", ROOT) == "up to date\n"
