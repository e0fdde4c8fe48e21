"""Network namespaces for tests that must not touch the real network.

`lan()` makes three machines. A and C hang on the ports of a switch that is B's `br0`, and A and C share a second
cable. Nothing connects them to the host, so multicast stays inside.

    A eth0 10.77.1.1, fd00:77:1::1 ──┐
    B br0  10.77.1.2, fd00:77:1::2 ──┤        A eth1 10.77.2.1, fd00:77:2::1 ── C eth1 10.77.2.3, fd00:77:2::3
    C eth0 10.77.1.3, fd00:77:1::3 ──┘
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parent.parent


def ip(*arguments: str) -> str:
    """Run `ip`; its message becomes the test's when it fails."""
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, timeout=10)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


@dataclass(frozen=True)
class Namespace:
    """One machine of the test's network."""

    name: str

    def ip(self, *arguments: str) -> str:
        return ip("-n", self.name, *arguments)

    def address(self, link: str, *addresses: str) -> None:
        """Add addresses and switch the interface on."""
        for address in addresses:
            # Without duplicate detection, which keeps an IPv6 address unusable for its first second.
            self.ip("address", "replace", address, "dev", link, *(["nodad"] if ":" in address else []))
        self.ip("link", "set", link, "up")

    @contextlib.contextmanager
    def python(self, script: str, *arguments: str) -> Iterator[Program]:
        """A Python script running on this machine; it is ended by closing its standard input, else killed."""
        command = ["ip", "netns", "exec", self.name, sys.executable, "-u", "-c", script, *arguments]
        environment = {**os.environ, "PYTHONPATH": str(_ROOT)}
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        )
        program = Program(process)
        try:
            yield program
        finally:
            program.end()


class Program:
    """A running script whose output lines are JSON (events) or anything else (its log)."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._lines: list[str] = []
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._changed:
                self._lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    @property
    def log(self) -> str:
        with self._changed:
            return "\n".join(line for line in self._lines if not line.startswith("{"))

    @property
    def events(self) -> list[dict[str, Any]]:
        with self._changed:
            return [json.loads(line) for line in self._lines if line.startswith("{")]

    def wait_for(self, wanted: Callable[[dict[str, Any]], bool], timeout: float = 10.0) -> dict[str, Any]:
        """The first event that is wanted, those already read included."""
        return self._wait(lambda: next((event for event in self.events if wanted(event)), None), timeout)

    def wait_for_log(self, text: str, timeout: float = 10.0) -> None:
        self._wait(lambda: text in self.log or None, timeout, text)

    def _wait(self, found: Callable[[], Any], timeout: float, text: str = "") -> Any:
        deadline = time.monotonic() + timeout
        while True:
            result = found()
            if result is not None:
                return result
            remaining = deadline - time.monotonic()
            assert remaining > 0, f"not within {timeout:g} s: {text}\n" + "\n".join(self._lines)
            with self._changed:
                self._changed.wait(min(remaining, 0.1))

    def end(self) -> int:
        """Close its standard input, wait, and return its exit status."""
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        try:
            self._process.wait(timeout=8)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(timeout=5)
        self._reader.join(timeout=5)
        return self._process.returncode


def why_not() -> str | None:
    """Why namespaces cannot be made here, or None."""
    if not sys.platform.startswith("linux") or shutil.which("ip") is None:
        return "network namespaces need Linux and the ip command"
    if os.geteuid() != 0:
        return "network namespaces need root"
    name = f"wyc{os.getpid()}probe"
    try:
        ip("netns", "add", name)
        try:
            ip("-n", name, "link", "add", "eth0", "type", "veth", "peer", "name", "eth1")
            ip("-n", name, "link", "add", "br0", "type", "bridge")
            ip("netns", "exec", name, "true")
        finally:
            ip("netns", "delete", name)
    except RuntimeError as error:
        return f"network namespaces are not permitted here: {error}"
    return None


@contextlib.contextmanager
def lan() -> Iterator[tuple[Namespace, Namespace, Namespace]]:
    """The machines A, B and C, gone afterwards."""
    machines = tuple(Namespace(f"wyc{os.getpid()}{letter}") for letter in "abc")
    a, b, c = machines
    try:
        for machine in machines:
            ip("netns", "add", machine.name)
            machine.ip("link", "set", "lo", "up")
        # Both ends of every cable are made inside the namespaces, never on the host.
        b.ip("link", "add", "br0", "type", "bridge", "mcast_snooping", "0", "forward_delay", "0")
        for port, machine in (("port1", a), ("port2", c)):
            b.ip("link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", machine.name)
            b.ip("link", "set", port, "master", "br0", "up")
        a.ip("link", "add", "eth1", "type", "veth", "peer", "name", "eth1", "netns", c.name)
        b.address("br0", "10.77.1.2/24", "fd00:77:1::2/64")
        for number, machine in ((1, a), (3, c)):
            machine.address("eth0", f"10.77.1.{number}/24", f"fd00:77:1::{number}/64")
            machine.address("eth1", f"10.77.2.{number}/24", f"fd00:77:2::{number}/64")
        yield a, b, c
    finally:
        for machine in machines:
            with contextlib.suppress(RuntimeError):
                ip("netns", "delete", machine.name)
