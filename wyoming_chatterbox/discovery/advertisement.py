"""Zeroconf: Home Assistant finds the server by itself, at every address of the LAN, under a name that stays.

`zeroconf` is imported where it is used, because `--help` must answer without it.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import ipaddress
import logging
import re
import socket
import sys
import unicodedata
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .. import __version__
from ..blocking import DaemonThreads
from ..timeouts import wait_for
from .network_interfaces import (
    AdvertisedAddresses,
    Interface,
    list_interfaces,
    resolve,
    select_addresses,
    unknown_interfaces,
)

if TYPE_CHECKING:
    from zeroconf import ServiceInfo
    from zeroconf.asyncio import AsyncZeroconf

_LOGGER = logging.getLogger(__name__)

SERVICE_TYPE = "_wyoming._tcp.local."
DEFAULT_PORT = 10200

MAX_LABEL_BYTES = 63
"""One label of a DNS name (RFC 1035, 2.3.4); an instance name is one label."""

_MAX_RENAMES = 20
"""Machines of one LAN that want the same name, before something else must be wrong."""

_STOP_TIMEOUT = 3.0
"""Seconds for the goodbye. It takes 0.25 (three packets), or 1.25 where the sockets never came up."""


class Advertisement:
    """Keeps one port of this machine advertised on the LAN, whatever becomes of the network.

    Args:
        port: The port clients connect to.
        hosts: The addresses the server listens on. 0.0.0.0 and :: each stand for every address of both families.
        name: Instance name; None for `default_name(port)`.
        interfaces: Names or addresses of the only interfaces to use; none for all of the LAN.
        interval: Seconds between two looks at the machine's addresses.
    """

    def __init__(
        self,
        port: int,
        hosts: Sequence[str],
        name: str | None = None,
        interfaces: Sequence[str] = (),
        *,
        interval: float = 15.0,
    ) -> None:
        self._port = port
        self._hosts = tuple(hosts)
        self._wanted_name = name
        self._interfaces = tuple(interfaces)
        self._interval = interval
        self._threads = DaemonThreads("zeroconf")
        self._task: asyncio.Task[None] | None = None
        self._zeroconf: AsyncZeroconf | None = None
        self._reach = AdvertisedAddresses()
        self._name: str | None = None
        self._problems: list[str] = []

    @property
    def name(self) -> str | None:
        """The instance name other machines see now, or None while nothing is advertised."""
        return self._name

    def start(self) -> None:
        """Begin advertising in the background. Nothing that is wrong with the network is raised, only logged."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="zeroconf")

    async def stop(self) -> None:
        """Say goodbye, so that Home Assistant forgets the server now rather than in an hour. May be called twice."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task], timeout=_STOP_TIMEOUT)
        try:
            await wait_for(_STOP_TIMEOUT, self._unregister())
        except Exception as error:
            _LOGGER.warning("The zeroconf goodbye could not be sent: %r", error)

    async def _run(self) -> None:
        # No limit: this task is cancelled in the end, and a thread that hangs in the name service is left behind.
        hosts = await self._threads.run(resolve, self._hosts, timeout=None)
        if all(ipaddress.ip_address(host).is_loopback for host in hosts):
            only = ", ".join(self._hosts) or "no address"
            _LOGGER.info("Not advertised on the LAN: the server listens only on %s", only)
            return
        while True:
            try:
                problems = await self._refresh(hosts)
            except Exception as error:  # this task has nobody to raise to, and must be there when the network mends
                problems = [f"Not advertised on the LAN, retrying every {self._interval:g} s: {error!r}"]
            for problem in problems:
                if problem not in self._problems:  # once, not every 15 seconds
                    _LOGGER.warning("%s", problem)
            self._problems = problems
            await asyncio.sleep(self._interval)

    async def _refresh(self, hosts: Sequence[str]) -> list[str]:
        """Advertise what the machine's addresses are now; return what the user should mend."""
        interfaces = await self._threads.run(_scan_interfaces, timeout=None)
        problems = unknown_interfaces(interfaces, self._interfaces)
        reach = select_addresses(interfaces, hosts, self._interfaces)
        if not reach.addresses:
            where = f" on {', '.join(self._interfaces)}" if self._interfaces else ""
            problems.append(f"Not advertised: no LAN address{where}; looking again every {self._interval:g} s")
        elif reach == self._reach:
            return problems
        # Fresh sockets: zeroconf binds one per interface when it is made. The name is probed for again too, because
        # the machine may have joined another network.
        await self._unregister()
        if reach.addresses:
            await self._announce(reach)
        return problems

    async def _announce(self, reach: AdvertisedAddresses) -> None:
        from zeroconf import NonUniqueNameException
        from zeroconf.asyncio import AsyncZeroconf

        self._zeroconf = AsyncZeroconf(interfaces=list(reach.sockets))
        await self._zeroconf.zeroconf.async_wait_for_start()
        if not self._zeroconf.zeroconf.engine.senders:
            raise OSError(f"no multicast socket could be opened on {', '.join(reach.sockets)}")
        logging.getLogger("zeroconf").addFilter(_without_traceback)
        if self._interfaces and len(reach.indexes) == 1:
            _bind_to_interface(reach.indexes[0], self._zeroconf)
        wanted = clean_label(self._wanted_name or "") or default_name(self._port)
        for number in range(1, _MAX_RENAMES + 1):
            # Not zeroconf's allow_name_change: it keeps the host name, so two machines would share one host record
            # and a client would connect to either; and it fails on a name that the number makes too long.
            name = wanted if number == 1 else clean_label(wanted, f"-{number}")
            try:
                announced = await self._zeroconf.async_register_service(_service(name, self._port, reach.addresses))
            except NonUniqueNameException:
                continue
            await announced
            break
        else:
            raise OSError(f"the names {wanted!r} to {name!r} are taken; choose another with --zeroconf-name")
        self._reach, self._name = reach, name
        if name != wanted:
            _LOGGER.warning("Another machine is called %r on the LAN; this one becomes %r", wanted, name)
        _LOGGER.info("Advertised on the LAN as %r: %s, port %d", name, ", ".join(reach.addresses), self._port)

    async def _unregister(self) -> None:
        self._reach, self._name = AdvertisedAddresses(), None
        if self._zeroconf is None:
            return
        try:
            await self._zeroconf.async_close()
        except Exception:
            broken, self._zeroconf = self._zeroconf, None
            broken.zeroconf.close()
            raise
        # Not in a `finally`: when stop() cancels this halfway, stop() still has it to close.
        self._zeroconf = None


def default_name(port: int) -> str:
    """Returns the instance name of this machine's server: unique on the LAN and the same after every restart.

    Home Assistant remembers a server by it. Two servers of one machine differ by their ports.
    """
    digest = hashlib.sha256(machine_id().encode()).hexdigest()[:6]
    suffix = f"-{digest}" if port == DEFAULT_PORT else f"-{digest}-{port}"
    host = clean_label(socket.gethostname())
    return clean_label(f"chatterbox-{host}" if host else "chatterbox", suffix)


def clean_label(text: str, suffix: str = "") -> str:
    """Returns the text as one label of an mDNS name, cut so that the suffix fits."""
    # Net-Unicode (RFC 5198) is NFC. A host name of undecodable bytes holds surrogates, which cannot be encoded.
    text = unicodedata.normalize("NFC", text).encode(errors="ignore").decode()
    # RFC 6763 allows dots, but escaped, and zeroconf does not escape: they would become labels of their own.
    text = re.sub(r"[\x00-\x1f\x7f.]+", "-", text).strip("- ")
    return text.encode()[: MAX_LABEL_BYTES - len(suffix.encode())].decode(errors="ignore").rstrip("- ") + suffix


def _service(name: str, port: int, addresses: Sequence[str]) -> ServiceInfo:
    from zeroconf import ServiceInfo

    # The host's name is nobody else's: not <hostname>.local, whose records are avahi's, nor that of a namesake.
    host = hashlib.sha256(f"{machine_id()} {port} {name}".encode()).hexdigest()[:12]
    return ServiceInfo(
        SERVICE_TYPE,
        f"{name}.{SERVICE_TYPE}",
        port=port,
        properties={"version": __version__},
        server=f"chatterbox-{host}.local.",
        parsed_addresses=list(addresses),
    )


@functools.cache
def machine_id() -> str:
    """Returns what tells this machine from others, and stays: its id, else its MAC, else nothing."""
    for path in ("/etc/machine-id", "/var/lib/dbus/machine-id"):
        try:
            identifier = Path(path).read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            continue
        if identifier and identifier != "uninitialized":  # what systemd writes into images
            return identifier
    node = uuid.getnode()
    # With the multicast bit it is no MAC: uuid found none and drew a number, another one after every restart.
    return "" if node >> 40 & 1 else f"{node:012x}"


def _scan_interfaces() -> list[Interface]:
    """Returns the machine's network interfaces. For a thread: the first scan takes longer than 100 ms."""
    import zeroconf.asyncio  # noqa: F401

    machine_id()
    return list_interfaces()


def _bind_to_interface(index: int | None, zeroconf: AsyncZeroconf) -> None:
    """Bind zeroconf's sockets to one interface.

    Linux hands a socket the multicast of every interface that any process joined, avahi for one, and zeroconf would
    answer: --zeroconf-interface would not hold. With two interfaces it does not: a socket is bound to one at most,
    and clearing IPV6_MULTICAST_ALL does not help, as Linux then compares groups and not interfaces.
    """
    if sys.platform == "linux" and index is not None:
        device = socket.if_indextoname(index).encode()
        for reader in zeroconf.zeroconf.engine.readers:
            with contextlib.suppress(PermissionError):  # Linux before 5.7 wants CAP_NET_RAW
                reader.sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device)


def _without_traceback(record: logging.LogRecord) -> bool:
    """Shorten what zeroconf logs: a network that went away is one line, not a traceback for every socket."""
    if record.exc_info and isinstance(record.exc_info[1], OSError):
        record.exc_info = None
    return True
