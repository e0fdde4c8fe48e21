"""Taking TCP addresses, for every edge."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket

from .blocking import run_blocking
from .errors import WyomingChatterboxError

_LOGGER = logging.getLogger(__name__)

_LOOK_UP_SECONDS = 30.0
"""Longest wait for a host name: a resolver asks three servers twice for 5 s each."""

_WILDCARDS = ("0.0.0.0", "::")


class ListenError(WyomingChatterboxError):
    """The server cannot listen there; the message names the address, the cause and the remedy."""


async def bind_sockets(host: str, port: int, uri: str) -> list[socket.socket]:
    """Sockets for all addresses of a host, on one port, not listening yet; port 0 is a free one.

    Args:
        uri: what is said in the message of an error.

    Raises:
        ListenError: the address is in use, not of this machine, or not allowed.
    """
    try:
        return _wildcard_sockets(port) if host in _WILDCARDS else await _host_sockets(host, port)
    except UnicodeError:  # what getaddrinfo() says of a name like "a..b"
        raise ListenError(f"Cannot listen on {uri}: {host!r} is no host name") from None
    except asyncio.TimeoutError:
        raise ListenError(
            f"Cannot listen on {uri}: the name service does not answer; give an address instead of {host!r}"
        ) from None
    except OSError as error:
        raise ListenError(f"Cannot listen on {uri}: {cause(error)}") from None


def _wildcard_sockets(port: int) -> list[socket.socket]:
    """Both families on one port: Home Assistant may resolve a name to either."""
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
    found = await run_blocking(
        socket.getaddrinfo, host, port, 0, socket.SOCK_STREAM, timeout=_LOOK_UP_SECONDS, name="look-up"
    )
    sockets: list[socket.socket] = []
    try:
        for family, _, _, _, address in dict.fromkeys(found):
            chosen = sockets[0].getsockname()[1] if sockets else port
            sockets.append(_bind(family, (address[0], chosen, *address[2:])))
    except OSError:
        for one in sockets:
            one.close()
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
    """Why an address cannot be listened on, and what to do."""
    if error.errno == errno.EADDRINUSE:
        return "the port is in use; stop the other server or choose another port"
    if error.errno == errno.EADDRNOTAVAIL:
        return "this machine does not have that address"
    if error.errno in (errno.EACCES, errno.EPERM):
        return "not allowed; choose a port above 1023 or a directory you may write to"
    if isinstance(error, socket.gaierror):
        return f"the host name is unknown ({error.strerror})"
    return error.strerror or str(error)
