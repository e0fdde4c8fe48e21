"""Announcing, renewing and withdrawing the service, and its name."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wyoming_chatterbox.discovery import advertisement as advertisement_module
from wyoming_chatterbox.discovery.advertisement import Advertisement, clean_label, default_name
from wyoming_chatterbox.discovery.network_interfaces import Interface
from wyoming_chatterbox.testing.serving import ROOT


class FakeZeroconf:
    """Stands for AsyncZeroconf where no packet may be sent; the test decides what fails."""

    failures: list[Exception] = []  # noqa: RUF012
    registered: list[Any] = []  # noqa: RUF012
    opened = closed = 0

    def __init__(self, interfaces: list[str]) -> None:
        self.zeroconf = self
        self.engine = self
        self.senders = interfaces
        if self.failures:
            raise self.failures.pop(0)
        FakeZeroconf.opened += 1

    async def async_wait_for_start(self) -> None:
        pass

    async def async_register_service(self, info: Any) -> Any:
        self.registered.append(info)
        return asyncio.sleep(0)

    async def async_close(self) -> None:
        FakeZeroconf.closed += 1

    def close(self) -> None:
        pass


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakeZeroconf]:
    import zeroconf.asyncio

    monkeypatch.setattr(zeroconf.asyncio, "AsyncZeroconf", FakeZeroconf)
    monkeypatch.setattr(advertisement_module, "list_interfaces", lambda: [Interface("eth0", ("10.0.0.1",))])
    monkeypatch.setattr(FakeZeroconf, "failures", [])
    monkeypatch.setattr(FakeZeroconf, "registered", [])
    monkeypatch.setattr(FakeZeroconf, "opened", 0)
    monkeypatch.setattr(FakeZeroconf, "closed", 0)
    return FakeZeroconf


async def until(condition: Callable[[], bool]) -> None:
    async def poll() -> None:
        while not condition():
            await asyncio.sleep(0.01)

    await asyncio.wait_for(poll(), 5)


def test_refused_multicast_is_logged_once_and_tried_again(
    fake: type[FakeZeroconf], caplog: pytest.LogCaptureFixture
) -> None:
    fake.failures += [PermissionError(1, "Operation not permitted")] * 3

    async def scenario() -> None:
        advertisement = Advertisement(10200, ["0.0.0.0"], "Fake", interval=0.01)
        advertisement.start()
        await until(lambda: advertisement.name == "Fake")
        await advertisement.stop()
        assert advertisement.name is None

    asyncio.run(scenario())
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "Operation not permitted" in warnings[0]
    assert fake.closed == 1


def test_no_usable_socket_counts_as_failure(
    fake: type[FakeZeroconf], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(fake, "senders", property(lambda self: [], lambda self, value: None), raising=False)

    async def scenario() -> None:
        advertisement = Advertisement(10200, ["0.0.0.0"], "Fake", interval=0.01)
        advertisement.start()
        await until(lambda: fake.closed > 1)
        assert advertisement.name is None
        monkeypatch.setattr(advertisement_module, "list_interfaces", lambda: [])
        await until(lambda: "no LAN address" in caplog.text)
        assert fake.closed == fake.opened, "sockets of an attempt that failed are not left open"
        await advertisement.stop()

    asyncio.run(scenario())
    assert "no multicast socket could be opened on 10.0.0.1" in caplog.text


def test_failed_goodbye_does_not_prevent_the_next_announcement(
    fake: type[FakeZeroconf], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(self: FakeZeroconf) -> None:
        raise OSError("the network is gone")

    async def scenario() -> None:
        advertisement = Advertisement(10200, ["0.0.0.0"], "Fake", interval=0.01)
        advertisement.start()
        await until(lambda: advertisement.name == "Fake")
        monkeypatch.setattr(FakeZeroconf, "async_close", broken)
        monkeypatch.setattr(advertisement_module, "list_interfaces", lambda: [Interface("eth0", ("10.0.0.2",))])
        await until(lambda: len(fake.registered) == 2)
        await advertisement.stop()

    asyncio.run(scenario())
    assert fake.registered[1].parsed_addresses() == ["10.0.0.2"]
    assert "The zeroconf goodbye could not be sent: OSError('the network is gone')" in caplog.text


def test_stop_is_bounded_and_may_come_at_any_time(fake: type[FakeZeroconf], monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(self: FakeZeroconf) -> None:
        await asyncio.sleep(3600)

    async def scenario() -> None:
        advertisement = Advertisement(10200, ["0.0.0.0"])
        await advertisement.stop()
        advertisement.start()
        await advertisement.stop()
        assert not fake.registered
        monkeypatch.setattr(FakeZeroconf, "async_close", never)
        monkeypatch.setattr(advertisement_module, "_STOP_TIMEOUT", 0.1)
        advertisement.start()
        await until(lambda: bool(fake.registered))
        await asyncio.wait_for(advertisement.stop(), 1)
        await asyncio.wait_for(advertisement.stop(), 1)

    asyncio.run(scenario())


@pytest.mark.parametrize("hosts", [["127.0.0.1"], ["::1", "localhost"], []])
def test_server_of_this_machine_only_is_not_advertised(
    hosts: list[str], fake: type[FakeZeroconf], caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        advertisement = Advertisement(10200, hosts, interval=0.01)
        advertisement.start()
        await until(lambda: "listens only on" in caplog.text)
        await asyncio.sleep(0.1)
        await advertisement.stop()

    caplog.set_level(logging.INFO)
    asyncio.run(scenario())
    assert not fake.registered
    assert caplog.text.count("listens only on") == 1


@pytest.fixture
def one_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(advertisement_module, "machine_id", lambda: "0123456789abcdef")  # sha256: 9f9f5111...


@pytest.mark.usefixtures("one_machine")
@pytest.mark.parametrize(
    ("host", "port", "name"),
    [
        ("living-room", 10200, "chatterbox-living-room-9f9f51"),
        ("living-room", 10201, "chatterbox-living-room-9f9f51-10201"),
        ("pc.home.arpa", 10200, "chatterbox-pc-home-arpa-9f9f51"),
        (".dots..", 10200, "chatterbox-dots-9f9f51"),
        ("", 10200, "chatterbox-9f9f51"),
        ("...", 10200, "chatterbox-9f9f51"),
        ("a\x00b\tc", 10200, "chatterbox-a-b-c-9f9f51"),
        ("Büro", 10200, "chatterbox-Büro-9f9f51"),
        ("Bu\u0308ro", 10200, "chatterbox-Büro-9f9f51"),
        ("b\udcff", 10200, "chatterbox-b-9f9f51"),
        ("x" * 64, 10200, "chatterbox-" + "x" * 45 + "-9f9f51"),
        ("居" * 40, 65535, "chatterbox-" + "居" * 13 + "-9f9f51-65535"),
    ],
)
def test_default_name(host: str, port: int, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(advertisement_module.socket, "gethostname", lambda: host)
    assert default_name(port) == name
    assert len(name.encode()) <= 63


def test_default_name_differs_between_machines_of_one_host_name(monkeypatch: pytest.MonkeyPatch) -> None:
    names = set()
    for machine in ("one", "two"):
        monkeypatch.setattr(advertisement_module, "machine_id", lambda machine=machine: machine)
        names.add(default_name(10200))
    assert len(names) == 2


def test_machine_without_id_or_mac_still_has_a_stable_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(self: Path, encoding: str) -> str:
        raise FileNotFoundError(str(self))

    monkeypatch.setattr(Path, "read_text", missing)
    monkeypatch.setattr(uuid, "getnode", lambda: 0x001122334455)
    assert advertisement_module.machine_id.__wrapped__() == "001122334455"
    monkeypatch.setattr(uuid, "getnode", lambda: 0x011122334455)  # drawn at random: the multicast bit is set
    assert advertisement_module.machine_id.__wrapped__() == ""


@pytest.mark.parametrize(
    ("text", "suffix", "label"),
    [
        ("Kitchen v1.5", "", "Kitchen v1-5"),
        (" - Kitchen. ", "-2", "Kitchen-2"),
        ("k" * 70, "-12", "k" * 60 + "-12"),
        ("é" * 40, "-2", "é" * 30 + "-2"),
        ("😀" * 20, "", "😀" * 15),
    ],
)
def test_label_is_one_that_mdns_can_carry(text: str, suffix: str, label: str) -> None:
    assert clean_label(text, suffix) == label


def test_package_import_does_not_load_zeroconf() -> None:
    script = (
        "import wyoming_chatterbox.discovery.advertisement, sys; "
        "print(sorted({'zeroconf', 'ifaddr'} & set(sys.modules)))"
    )
    root = ROOT
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=root)
    assert done.stdout.strip() == "[]", done.stderr
