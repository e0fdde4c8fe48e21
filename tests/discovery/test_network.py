"""The server is found on other machines of the network, made of namespaces."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.discovery.helpers import Machines
from tests.namespaces import Namespace, Program
from wyoming_chatterbox.discovery.advertisement import default_name
from wyoming_chatterbox.testing.serving import environment

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
