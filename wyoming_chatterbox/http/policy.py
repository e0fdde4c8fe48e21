"""Access policy: what is open to clients without a token, and which host names are this server's.

Both are lists of what is allowed. A route, a method or a name that is not on them is closed.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Collection, Sequence
from urllib.parse import unquote, urlsplit

from starlette.routing import BaseRoute, Match
from starlette.types import Scope

from ..settings import Settings

OPEN_PATHS = frozenset({"/health", "/health/live", "/health/ready", "/openapi.json"})
"""What everybody may GET beside the page's files: none of it tells what is spoken, by whom or in which voices."""

VOICE_LIST_PATHS = frozenset({"/v1/audio/voices", "/audio/voices", "/v1/audio/models", "/audio/models"})
"""What everybody may GET where the owner says so (--http-public-voices): Open WebUI fills its lists without a token."""

SPEECH_PATHS = frozenset({"/v1/audio/speech", "/audio/speech", "/audio/speech/stream"})
"""What may be POSTed to a server without tokens: it costs computing time and changes nothing."""

_READING = ("GET", "HEAD", "OPTIONS")

LOCAL_SUFFIXES = frozenset(
    {
        "localhost",  # RFC 6761: always this machine
        "local",  # RFC 6762: answered by mDNS alone
        "internal",  # reserved by ICANN for private networks in 2024; host.docker.internal and its like
        "home.arpa",  # RFC 8375: answered by the network's own DNS
        # Not reserved, but in RFC 6762's list of names in private use, and no part of the public DNS: home was refused
        # by ICANN, the two others were never delegated.
        "lan",
        "home",
        "localdomain",
    }
)
"""Ends of names that nobody can register: only the network's own DNS, or this machine, can hand them out.

Not here: fritz.box, which is a domain of the public DNS and belonged to a stranger in 2024; names that everybody can
get, such as those of dynamic DNS services (duckdns.org), VPNs (ts.net) or DNS for addresses (nip.io).
"""

_SINGLE_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?", re.ASCII)
_COUNTRY = re.compile(r"[a-z]{2}")


class Policy:
    """Says what a request may reach; `AccessGuard` enforces it."""

    def __init__(self, settings: Settings, routes: Sequence[BaseRoute], page: Collection[str]) -> None:
        """Takes the server's settings, the routes of its application and the paths of its page's files."""
        names = {name.casefold().removesuffix(".") for name in settings.http_host}
        hostname = socket.gethostname().casefold()
        self._names = frozenset({hostname, *(name for name in names if not name.startswith("*."))})
        self._suffixes = LOCAL_SUFFIXES | {name[2:] for name in names if name.startswith("*.")}
        self._routes = routes
        self._open = OPEN_PATHS | frozenset(page) | (VOICE_LIST_PATHS if settings.http_public_voices else frozenset())

    def allows_host(self, host: str) -> bool:
        """Returns True if a Host header names this server: no web page of a stranger can have been served from it."""
        name = _host_name(host)
        if name is None:
            return False
        name = name.removesuffix(".")
        return name in self._names or _is_address(name) or _is_bare(name) or self._has_local_suffix(name)

    def is_open(self, scope: Scope) -> bool:
        """Returns True if a client without a token may ask for this on a server that has tokens."""
        return scope["type"] == "http" and scope["method"] in _READING and scope["path"] in self._open

    def changes_something(self, scope: Scope) -> bool:
        """Returns True if the request would change what others find, which needs a token on every server."""
        if scope["type"] != "http" or scope["method"] in _READING or scope["path"] in SPEECH_PATHS:
            return False
        return any(route.matches(scope)[0] is Match.FULL for route in self._routes)

    def _has_local_suffix(self, name: str) -> bool:
        labels = name.split(".")
        return any(".".join(labels[start:]) in self._suffixes for start in range(1, len(labels)))


def tidy(scope: Scope) -> Scope:
    """Returns the request as the routes know it: single slashes, none at the end, and GET where the head alone is asked
    for.

    A base URL that ends with a slash makes `//v1/models` of `/v1/models`. uvicorn keeps the request's own method, and
    sends no body where that is HEAD.
    """
    changed = dict(scope)
    if scope["type"] == "http" and scope["method"] == "HEAD":
        changed["method"] = "GET"
    raw: bytes = scope["raw_path"]
    if raw.startswith(b"/") and (b"//" in raw or raw.endswith(b"/")):
        # Of the path as it was sent: a slash that is escaped is part of a name.
        changed["raw_path"] = b"/" + b"/".join(filter(None, raw.split(b"/")))
        changed["path"] = unquote(changed["raw_path"].decode("ascii"))
    return changed


def _host_name(host: str) -> str | None:
    """Returns the name in a Host header, in small letters and without its port, or None if there is none."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _is_address(name: str) -> bool:
    """Returns True for an IP address: a page from there was not sent here by the DNS."""
    try:
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return True


def _is_bare(name: str) -> bool:
    """Returns True for a name without dots: localhost, this machine's, a service of Compose, a machine in the LAN.

    They are not in the public DNS: ICANN forbids addresses at top-level domains. Countries are not bound by that (some
    of them had addresses), so two letters alone are not allowed.
    """
    return _SINGLE_LABEL.fullmatch(name) is not None and _COUNTRY.fullmatch(name) is None
