"""The machine's network interfaces, and which of their addresses the LAN can reach.

`ifaddr` is imported where it is used, because `--help` must answer without it.
"""

from __future__ import annotations

import ipaddress
import logging
import re
import socket
import struct
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

_LOGGER = logging.getLogger(__name__)

_VIRTUAL = re.compile(r"(docker|podman|cni|hassio|virbr|lxcbr|lxdbr|vmnet|vboxnet)\w*$|br-[0-9a-f]{12}$")
"""Bridges to containers and virtual machines: the LAN does not reach their addresses."""

_SIOCGIFFLAGS = 0x8913
_IFF_UP, _IFF_LOOPBACK, _IFF_POINTOPOINT, _IFF_RUNNING = 0x1, 0x8, 0x10, 0x40

_UNSTEADY_IPV6 = 0x01 | 0x08 | 0x20 | 0x40
"""Flags of an address that is temporary, a duplicate, deprecated, or tentative (cannot be bound yet)."""


@dataclass(frozen=True)
class Interface:
    """A network interface and the addresses that can be used on it now: none while it is down."""

    name: str
    addresses: tuple[str, ...] = ()
    index: int | None = None
    point_to_point: bool = False


@dataclass(frozen=True)
class AdvertisedAddresses:
    """What is advertised, and where. A new one means new sockets."""

    addresses: tuple[str, ...] = ()
    sockets: tuple[str, ...] = ()
    """Addresses on the interfaces that carry it, one of each family per interface."""
    indexes: tuple[int | None, ...] = ()
    """Of those interfaces. One that was unplugged and came back with the same addresses has a new one."""


def list_interfaces() -> list[Interface]:
    """Returns the machine's network interfaces, including those without a usable address."""
    import ifaddr

    unsteady = _unsteady_addresses()
    interfaces: dict[str, Interface] = {}
    for adapter in ifaddr.get_adapters(include_unconfigured=True):
        name = adapter.name.partition(":")[0]  # "eth0:1" is a labelled second address of eth0
        flags = _flags(name)
        addresses: tuple[str, ...] = ()
        # An interface that is down keeps its IPv4 addresses. Leaving them out makes its return a change, so that
        # the server is announced to a network that could not hear the first announcement.
        if flags & _IFF_UP and flags & _IFF_RUNNING and not flags & _IFF_LOOPBACK:
            addresses_found = [_canonical(ip.ip if isinstance(ip.ip, str) else ip.ip[0]) for ip in adapter.ips]
            addresses = tuple(address for address in addresses_found if address not in unsteady)
        known = interfaces[name].addresses if name in interfaces else ()
        interfaces[name] = Interface(name, known + addresses, adapter.index, bool(flags & _IFF_POINTOPOINT))
    return list(interfaces.values())


def select_addresses(
    interfaces: Iterable[Interface], hosts: Sequence[str], selected: Sequence[str]
) -> AdvertisedAddresses:
    """Returns what to advertise for a server that listens on `hosts`.

    Args:
        selected: names or addresses of the interfaces to advertise on; empty: all of the LAN.
    """
    listening = {_canonical(host) for host in hosts}
    everywhere = bool(listening & {"0.0.0.0", "::"})
    named = {_canonical(name) for name in selected}
    addresses: set[str] = set()
    sockets: list[str] = []
    indexes: list[int | None] = []
    for interface in interfaces:
        usable = sorted({address for address in interface.addresses if _is_lan(address)}, key=_order)
        if named and interface.name not in named:
            offered = [address for address in usable if address in named]
        elif not named and everywhere and (interface.point_to_point or _VIRTUAL.match(interface.name)):
            # Home Assistant connects to the first address it reads, and zeroconf sends them in no particular
            # order: one address that the LAN cannot reach makes every other attempt fail.
            offered = []
        else:
            offered = usable
        chosen = [address for address in offered if everywhere or address in listening]
        if chosen:
            addresses.update(chosen)
            indexes.append(interface.index)
            by_family = {":" in address: address for address in reversed([*chosen, *usable])}
            sockets += by_family.values()  # one of each family: one interface can be joined only once
    return AdvertisedAddresses(tuple(sorted(addresses, key=_order)), tuple(sorted(sockets, key=_order)), tuple(indexes))


def unknown_interfaces(interfaces: Iterable[Interface], selected: Sequence[str]) -> list[str]:
    """Returns a message for every selected interface that does not exist now (it may still appear)."""
    known = {name for interface in interfaces for name in (interface.name, *interface.addresses)}
    names = ", ".join(sorted(interface.name for interface in interfaces))
    return [
        f"zeroconf_interface: {name!r} is no interface here, nor an address in use on one (there are: {names})"
        for name in selected
        if _canonical(name) not in known
    ]


def resolve(hosts: Iterable[str]) -> list[str]:
    """Returns the addresses of the hosts; a name that does not resolve has none."""
    addresses_found: list[str] = []
    for host in hosts:
        try:
            addresses_found += [
                str(info[4][0]) for info in socket.getaddrinfo(host or "0.0.0.0", None, type=socket.SOCK_STREAM)
            ]
        except (OSError, ValueError) as error:
            _LOGGER.warning("Not advertised at %s: %s", host, error)
    return [_canonical(address) for address in addresses_found]


def _canonical(text: str) -> str:
    """One spelling of an address, without its zone; anything else as it is."""
    try:
        return str(ipaddress.ip_address(text.partition("%")[0]))
    except ValueError:
        return text


def _is_lan(address: str) -> bool:
    ip = ipaddress.ip_address(address)
    return not (ip.is_unspecified or ip.is_loopback or ip.is_link_local or ip.is_multicast)


def _order(address: str) -> tuple[int, int]:
    ip = ipaddress.ip_address(address)
    return ip.version, int(ip)


def _flags(name: str) -> int:
    """Returns the interface's IFF_ flags. It counts as up where that cannot be known."""
    if sys.platform == "linux":
        import fcntl

        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            try:
                answer = fcntl.ioctl(control, _SIOCGIFFLAGS, struct.pack("16sH22x", name.encode()[:15], 0))
                return int(struct.unpack_from("H", answer, 16)[0])
            except OSError:
                _LOGGER.debug("No flags of interface %s", name, exc_info=True)
    return _IFF_UP | _IFF_RUNNING


def _unsteady_addresses() -> set[str]:
    try:
        lines = Path("/proc/net/if_inet6").read_text(encoding="ascii").splitlines()
    except OSError:  # not Linux, or no IPv6
        return set()
    fields = [line.split() for line in lines]
    return {
        str(ipaddress.IPv6Address(bytes.fromhex(entry[0]))) for entry in fields if int(entry[4], 16) & _UNSTEADY_IPV6
    }
