"""Zeroconf as another machine sees it: a real browser, real multicast, in network namespaces of the test."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.namespaces import Namespace, Program, lan, why_not
from wyoming_chatterbox.discovery import advertisement as advertisement_module
from wyoming_chatterbox.discovery.advertisement import Advertisement, clean_label, default_name
from wyoming_chatterbox.discovery.network_interfaces import (
    Interface,
    list_interfaces,
    resolve,
    select_addresses,
    unknown_interfaces,
)
from wyoming_chatterbox.testing.serving import ROOT, environment

Machines = tuple[Namespace, Namespace, Namespace]

A_LAN = ["10.77.1.1", "10.77.2.1", "fd00:77:1::1", "fd00:77:2::1"]
"""Every address of machine A that another machine can reach."""

ADVERTISE = """
import asyncio, json, logging, sys, time
from wyoming_chatterbox.discovery.advertisement import Advertisement
async def main():
    logging.basicConfig(level="INFO", format="%(levelname)s %(name)s %(message)s")
    advertisement = Advertisement(**json.loads(sys.argv[1]))
    begun = time.monotonic()
    advertisement.start()
    print(json.dumps({"started_in": time.monotonic() - begun}))
    await asyncio.to_thread(sys.stdin.read)
    begun = time.monotonic()
    await advertisement.stop()
    print(json.dumps({"stopped_in": time.monotonic() - begun}))
    await advertisement.stop()
asyncio.run(main())
"""

BROWSE = """
import json, sys, threading
from zeroconf import InterfaceChoice, IPVersion, ServiceBrowser, Zeroconf
TYPE = "_wyoming._tcp.local."
known, lock = {}, threading.Lock()
def tell(**event):
    with lock:
        print(json.dumps(event), flush=True)
class Listener:
    def add_service(self, zc, type_, name):
        info = zc.get_service_info(type_, name, 3000)
        if info is not None:
            tell(event="seen", name=name[:-len(TYPE) - 1], port=info.port, host=info.server,
                 addresses=sorted(info.parsed_addresses()), properties=info.decoded_properties)
    update_service = add_service
    def remove_service(self, zc, type_, name):
        tell(event="removed", name=name[:-len(TYPE) - 1])
zc = Zeroconf(interfaces=InterfaceChoice.All, ip_version=IPVersion.All)
ServiceBrowser(zc, TYPE, Listener())
tell(event="browsing")
sys.stdin.read()
zc.close()
"""


SPEAK = """
import asyncio, json, sys
from wyoming.client import AsyncTcpClient
from wyoming_chatterbox.testing.serving import synthesize
async def main():
    async with AsyncTcpClient(sys.argv[1], int(sys.argv[2])) as client:
        print(json.dumps({"types": (await synthesize(client, "Hello.")).types}), flush=True)
asyncio.run(main())
"""


@pytest.fixture(scope="module")
def machines() -> Iterator[Machines]:
    """Three machines on two LANs, shared by the tests of this module."""
    reason = why_not()
    if reason:
        pytest.skip(reason)
    with lan() as three:
        yield three


@pytest.fixture(scope="module")
def browser(machines: Machines) -> Iterator[Program]:
    """What machine B sees, from the module's first test to its last."""
    with machines[1].python(BROWSE) as program:
        program.wait_for(lambda event: event["event"] == "browsing")
        yield program


def advertise(machine: Namespace, name: str | None = None, **changes: Any) -> Any:
    arguments = {"port": 10200, "hosts": ["0.0.0.0"], "name": name, "interfaces": [], "interval": 0.3, **changes}
    return machine.python(ADVERTISE, json.dumps(arguments))


def seen(browser: Program, name: str, addresses: list[str]) -> dict[str, Any]:
    return browser.wait_for(lambda e: e["event"] == "seen" and e["name"] == name and e["addresses"] == addresses)


def count(program: Program, name: str, event: str) -> int:
    return sum(one["event"] == event and one["name"] == name for one in program.events if "name" in one)


def test_browser_on_another_machine_finds_every_lan_address(machines: Machines, browser: Program) -> None:
    a, _, _ = machines
    a.address("eth0", "169.254.7.7/16")
    try:
        with advertise(a, "Found", port=10333) as server:
            found = seen(browser, "Found", A_LAN)
            server.wait_for_log("Advertised on the LAN as 'Found': 10.77.1.1")
            assert found["port"] == 10333
            assert server.events[0]["started_in"] < 0.1
            # What Home Assistant does with addresses it cannot use: nothing, and the server is never found.
            for event in browser.events:
                for address in event.get("addresses", []):
                    assert not address.startswith(("0.", "127.", "169.254.", "fe80", "::"))
            assert found["host"].startswith("chatterbox-")
    finally:
        a.ip("address", "delete", "169.254.7.7/16", "dev", "eth0")


def test_default_name_is_the_same_after_a_restart_and_goodbye_is_said(machines: Machines, browser: Program) -> None:
    a, _, _ = machines
    name = default_name(10200)
    for run in (1, 2):
        with advertise(a) as server:
            browser.wait_for(lambda event: count(browser, name, "seen") > count(browser, name, "removed"))
            ending = time.monotonic()
            assert server.end() == 0
            server.wait_for(lambda event: event.get("stopped_in", 99) < 2)
            assert server.log.count("\n") == 0, "one line when advertised, nothing else"
        browser.wait_for(lambda event, run=run: count(browser, name, "removed") == run, timeout=3)
        assert time.monotonic() - ending < 3


def test_the_whole_server_is_found_is_spoken_to_at_the_advertised_address_and_says_goodbye(
    machines: Machines, browser: Program
) -> None:
    a, b, _ = machines
    program = [sys.executable, "-m", "wyoming_chatterbox", "--model", "embedded", "--zeroconf-name", "Whole"]
    process = subprocess.Popen(["ip", "netns", "exec", a.name, *program], env=environment())
    try:
        found = seen(browser, "Whole", A_LAN)
        with b.python(SPEAK, found["addresses"][0], str(found["port"])) as client:
            assert client.wait_for(lambda event: True)["types"] == ["audio-start", "audio-chunk", "audio-stop"]
        process.send_signal(signal.SIGTERM)
        browser.wait_for(lambda event: count(browser, "Whole", "removed") == 1, timeout=5)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()


def test_specific_address_is_the_only_one_advertised(machines: Machines, browser: Program) -> None:
    with advertise(machines[0], "Specific", hosts=["127.0.0.1", "10.77.1.1"]):
        seen(browser, "Specific", ["10.77.1.1"])


def test_second_machine_of_the_same_name_is_renamed(machines: Machines, browser: Program) -> None:
    a, _, c = machines
    with advertise(a, "Kitchen"):
        first = seen(browser, "Kitchen", A_LAN)
        with advertise(c, "Kitchen") as server:
            second = seen(browser, "Kitchen-2", ["10.77.1.3", "10.77.2.3", "fd00:77:1::3", "fd00:77:2::3"])
            server.wait_for_log("Another machine is called 'Kitchen' on the LAN; this one becomes 'Kitchen-2'")
            # With one host record for both, each name would lead to the addresses of both machines.
            assert first["host"] != second["host"]
            assert count(browser, "Kitchen", "removed") == 0


def test_address_that_is_added_later_is_advertised(machines: Machines, browser: Program) -> None:
    a, _, _ = machines
    with advertise(a, "Grows") as server:
        seen(browser, "Grows", A_LAN)
        try:
            a.address("eth0", "10.77.1.9/24")
            seen(browser, "Grows", sorted([*A_LAN, "10.77.1.9"]))
        finally:
            a.ip("address", "delete", "10.77.1.9/24", "dev", "eth0")
        server.wait_for_log("fd00:77:2::1, port 10200\nINFO")
        assert "WARNING" not in server.log


def test_network_that_comes_up_later_is_used(machines: Machines, browser: Program) -> None:
    a, _, _ = machines
    a.ip("link", "set", "eth0", "down")
    a.ip("link", "set", "eth1", "down")
    try:
        with advertise(a, "Patient") as server:
            server.wait_for_log("WARNING wyoming_chatterbox.discovery.advertisement Not advertised: no LAN address")
            time.sleep(0.7)
            assert server.log.count("Not advertised") == 1, "said once, not at every look"
            a.address("eth0", "fd00:77:1::1/64")
            a.address("eth1", "fd00:77:2::1/64")
            seen(browser, "Patient", A_LAN)
            a.ip("link", "set", "eth0", "down")
            server.wait_for_log("as 'Patient': 10.77.2.1, fd00:77:2::1,")
            a.ip("link", "set", "eth1", "down")
            server.wait_for(lambda event: server.log.count("Not advertised") == 2)
            assert server.end() == 0
            assert "Traceback" not in server.log, server.log
    finally:
        a.address("eth0", "fd00:77:1::1/64")
        a.address("eth1", "fd00:77:2::1/64")


def test_only_the_interfaces_asked_for_are_used(machines: Machines, browser: Program) -> None:
    a, b, c = machines
    with (
        # Another program on A, as avahi is, that listens on every interface: Linux then delivers all of that
        # multicast to every program, and zeroconf answers it.
        a.python(BROWSE) as neighbour,
        advertise(a, "Second", interfaces=["eth1"]) as second,
        advertise(a, "First", port=10201, interfaces=["fd00:77:1:0::1"]) as first,
    ):
        neighbour.wait_for(lambda event: event["event"] == "browsing")
        second.wait_for_log("Advertised")
        first.wait_for_log("Advertised")
        with b.python(BROWSE) as on_first_lan, c.python(BROWSE) as on_both:
            seen(on_both, "Second", ["10.77.2.1", "fd00:77:2::1"])
            seen(on_first_lan, "First", ["fd00:77:1::1"])
            time.sleep(1)
            # Answers to B's address reach either of its browsers, because they share a port.
            for program in (on_first_lan, browser):
                assert count(program, "Second", "seen") == 0, "B hangs on eth0, where it is not advertised"


def test_unknown_interface_is_named_and_used_when_it_appears(machines: Machines, browser: Program) -> None:
    a, b, _ = machines
    with advertise(a, "Later", interfaces=["lo", "wlan0"]) as server:
        server.wait_for_log("'wlan0' is no interface here, nor an address in use on one (there are: eth0, eth1, lo)")
        server.wait_for_log("Not advertised: no LAN address on lo, wlan0; looking again every 0.3 s")
        b.ip("link", "add", "port3", "type", "veth", "peer", "name", "wlan0", "netns", a.name)
        try:
            b.ip("link", "set", "port3", "master", "br0", "up")
            a.address("wlan0", "10.77.1.77/24")
            seen(browser, "Later", ["10.77.1.77"])
            assert server.log.count("is no interface here") == 1
        finally:
            b.ip("link", "delete", "port3")


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


INTERFACES = [
    Interface("lo", ("127.0.0.1", "::1"), 1),
    Interface("eth0", ("192.168.1.5", "169.254.3.4", "fe80::1", "2001:db9::5", "fd12::5", "ff02::fb"), 2),
    Interface("wlan0", ("192.168.1.6", "0.0.0.0", "::"), 3),
    Interface("docker0", ("172.17.0.1",), 4),
    Interface("br-0123456789ab", ("172.18.0.1",), 5),
    Interface("tun0", ("10.8.0.2",), 6, point_to_point=True),
    Interface("eth1", (), 7),
]
EVERY_LAN_ADDRESS = ("192.168.1.5", "192.168.1.6", "2001:db9::5", "fd12::5")


@pytest.mark.parametrize(
    ("hosts", "interfaces", "addresses"),
    [
        (["0.0.0.0"], [], EVERY_LAN_ADDRESS),
        (["::"], [], EVERY_LAN_ADDRESS),
        (["127.0.0.1", "0.0.0.0"], [], EVERY_LAN_ADDRESS),
        (["192.168.1.6"], [], ("192.168.1.6",)),
        (["FD12:0::5", "127.0.0.1"], [], ("fd12::5",)),
        (["127.0.0.1", "::1"], [], ()),
        (["fe80::1%eth0"], [], ()),
        (["192.168.1.99"], [], ()),
        (["172.17.0.1"], [], ("172.17.0.1",)),
        ([], [], ()),
        (["0.0.0.0"], ["eth0"], ("192.168.1.5", "2001:db9::5", "fd12::5")),
        (["0.0.0.0"], ["192.168.1.6"], ("192.168.1.6",)),
        (["0.0.0.0"], ["wlan0", "fd12:0:0::5"], ("192.168.1.6", "fd12::5")),
        (["0.0.0.0"], ["docker0", "tun0"], ("10.8.0.2", "172.17.0.1")),
        (["192.168.1.5"], ["wlan0"], ()),
        (["0.0.0.0"], ["lo"], ()),
        (["0.0.0.0"], ["127.0.0.1"], ()),
        (["0.0.0.0"], ["eth1"], ()),
        (["0.0.0.0"], ["eth9"], ()),
    ],
)
def test_selected_addresses(hosts: list[str], interfaces: list[str], addresses: tuple[str, ...]) -> None:
    assert select_addresses(INTERFACES, hosts, interfaces).addresses == addresses


def test_each_interface_gets_one_socket_of_each_family() -> None:
    assert select_addresses(INTERFACES, ["0.0.0.0"], []).sockets == ("192.168.1.5", "192.168.1.6", "2001:db9::5")
    # The other family too: Home Assistant may ask over IPv4 for a server that has only an IPv6 address.
    assert select_addresses(INTERFACES, ["fd12::5"], []).sockets == ("192.168.1.5", "fd12::5")


def test_interface_that_was_replugged_is_a_change() -> None:
    before, after = Interface("eth0", ("10.0.0.1",), 2), Interface("eth0", ("10.0.0.1",), 9)
    assert select_addresses([before], ["0.0.0.0"], []) != select_addresses([after], ["0.0.0.0"], [])
    assert select_addresses([before], ["0.0.0.0"], []) == select_addresses(
        [before, Interface("eth1", (), 3)], ["0.0.0.0"], []
    )


def test_unknown_interfaces_are_told_from_known_ones() -> None:
    assert unknown_interfaces(INTERFACES, ["eth0", "eth1", "lo", "192.168.1.6", "fd12:0::5"]) == []
    (message,) = unknown_interfaces(INTERFACES, ["eth0", "wlan7"])
    assert "'wlan7'" in message
    assert "br-0123456789ab, docker0, eth0, eth1, lo, tun0, wlan0" in message


def test_links_of_this_machine_are_read() -> None:
    found = {interface.name: interface for interface in list_interfaces()}
    assert found
    assert not any(
        address.startswith(("127.", "::1")) for interface in found.values() for address in interface.addresses
    )


def test_unsteady_ipv6_addresses_are_left_out(machines: Machines) -> None:
    a, _, _ = machines
    a.ip("link", "add", "pair0", "type", "veth", "peer", "name", "pair1")
    try:
        a.address("pair0", "10.9.9.9/24", "fd09::1/64")
        a.address("pair1")
        a.ip("address", "add", "fd09::2/64", "dev", "pair0", "nodad", "preferred_lft", "0")  # deprecated
        script = (
            "from wyoming_chatterbox.discovery.network_interfaces import *; "
            "print(select_addresses(list_interfaces(), ['::'], ['pair0']).addresses)"
        )
        command = ["ip", "netns", "exec", a.name, sys.executable, "-c", script]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
        assert done.stdout.strip() == "('10.9.9.9', 'fd09::1')", done.stderr
    finally:
        a.ip("link", "delete", "pair0")


def test_hosts_are_resolved_to_addresses(caplog: pytest.LogCaptureFixture) -> None:
    assert resolve(["0.0.0.0", "::", "", "FD00::1"]) == ["0.0.0.0", "::", "0.0.0.0", "fd00::1"]
    assert resolve(["bad..name"]) == []
    assert "Not advertised at bad..name" in caplog.text


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
