"""Binds TCP addresses, for all edges."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket

from .blocking import run_blocking
from .errors import WyomingChatterboxError

_LOGGER = logging.getLogger(__name__)

_RESOLVE_TIMEOUT = 30.0
"""Longest wait for a host name: a resolver queries three servers twice, for 5 s each."""

_WILDCARDS = ("0.0.0.0", "::")


class ListenError(WyomingChatterboxError):
    """The server cannot listen on an address; the message names the address, the cause and the remedy."""


async def bind_sockets(host: str, port: int, uri: str) -> list[socket.socket]:
    """Returns bound sockets for all addresses of a host, on the same port, not listening yet. Port 0 picks a free port.

    Args:
        uri: the address as the user wrote it, for error messages.

    Raises:
        ListenError: the address is in use, does not belong to this machine, or is not permitted.
    """
    try:
        return _wildcard_sockets(port) if host in _WILDCARDS else await _host_sockets(host, port)
    except UnicodeError:  # getaddrinfo() raises it for a name like "a..b"
        raise ListenError(f"Cannot listen on {uri}: {host!r} is not a host name") from None
    except asyncio.TimeoutError:
        raise ListenError(
            f"Cannot listen on {uri}: the name service does not answer; use an IP address instead of {host!r}"
        ) from None
    except OSError as error:
        raise ListenError(f"Cannot listen on {uri}: {cause(error)}") from None


def _wildcard_sockets(port: int) -> list[socket.socket]:
    """Binds both IP families on the same port: Home Assistant may resolve a name to either."""
    first = _bind(socket.AF_INET, ("0.0.0.0", port))
    try:
        second = _bind(socket.AF_INET6, ("::", first.getsockname()[1]))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            first.close()
            raise
        _LOGGER.info("Listening on IPv4 only: %s", cause(error))
        return [first]
    return [first, second]


async def _host_sockets(host: str, port: int) -> list[socket.socket]:
    addresses = await run_blocking(
        socket.getaddrinfo, host, port, 0, socket.SOCK_STREAM, timeout=_RESOLVE_TIMEOUT, name="resolve"
    )
    sockets: list[socket.socket] = []
    try:
        for family, _, _, _, address in dict.fromkeys(addresses):
            actual_port = sockets[0].getsockname()[1] if sockets else port
            sockets.append(_bind(family, (address[0], actual_port, *address[2:])))
    except OSError:
        for bound in sockets:
            bound.close()
        raise
    return sockets


def _bind(family: int, address: tuple[object, ...]) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    bound.setblocking(False)
    return bound


def cause(error: OSError) -> str:
    """Returns why an address cannot be listened on, and what to do."""
    if error.errno == errno.EADDRINUSE:
        return "the port is in use; stop the other server or choose another port"
    if error.errno == errno.EADDRNOTAVAIL:
        return "this machine does not have that address"
    if error.errno in (errno.EACCES, errno.EPERM):
        return "not permitted; choose a port above 1023 or a directory you may write to"
    if isinstance(error, socket.gaierror):
        return f"the host name is unknown ({error.strerror})"
    return error.strerror or str(error)
