"""Which interfaces and addresses are advertised."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.discovery.helpers import Machines
from wyoming_chatterbox.discovery.network_interfaces import (
    Interface,
    list_interfaces,
    resolve,
    select_addresses,
    unknown_interfaces,
)
from wyoming_chatterbox.testing.serving import ROOT

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
