"""Checks the addresses and names in the settings: where to listen, and which hosts and origins are allowed."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from .errors import SettingsError

DEFAULT_HTTP_HOST, DEFAULT_HTTP_PORT = "127.0.0.1", 10201

_HOST_NAME = re.compile(r"(\*\.)?[\w-]+(\.[\w-]+)*\.?")

_URIS = "allowed: tcp://HOST:PORT, unix://PATH, stdio://"


def check_uri(uri: str) -> None:
    """Raises SettingsError unless the URI is one the server can listen on."""
    try:
        parts = urlsplit(uri)
        port = parts.port
    except ValueError as error:
        raise SettingsError(f"uri: {uri!r} is not valid: {error} ({_URIS})") from None
    if parts.scheme == "tcp" and parts.hostname and port is not None and not parts.path.strip("/"):
        return
    if parts.scheme == "unix" and (parts.netloc + parts.path):
        return
    if uri == "stdio://":
        return
    raise SettingsError(f"uri: {uri!r} is not valid ({_URIS})")


def http_address(uri: str) -> tuple[str, int]:
    """Returns (host, port) to serve HTTP at. Raises SettingsError if the URI is not an http:// address."""
    try:
        parts = urlsplit(uri)
        port = parts.port
    except ValueError as error:
        raise SettingsError(f"http_uri: {uri!r} is not valid: {error} (allowed: http://HOST:PORT)") from None
    if parts.scheme != "http" or parts.path.strip("/") or parts.query or parts.username is not None:
        hint = "; use a reverse proxy for TLS" if parts.scheme == "https" else ""
        raise SettingsError(f"http_uri: {uri!r} is not valid (allowed: http://HOST:PORT{hint})")
    return parts.hostname or DEFAULT_HTTP_HOST, DEFAULT_HTTP_PORT if port is None else port


def check_host_name(name: str) -> None:
    """Raises SettingsError unless it is a host name, or `*.` before one."""
    if not _HOST_NAME.fullmatch(name):
        raise SettingsError(
            f"http_host: {name!r} is not a host name (allowed: tts.example.org, *.example.org; no port)"
        )


def check_origin(origin: str) -> None:
    """Raises SettingsError unless it is what a browser sends as an Origin."""
    parts = urlsplit(origin)
    if origin != "null" and (parts.scheme not in ("http", "https") or origin != f"{parts.scheme}://{parts.netloc}"):
        raise SettingsError(
            f"http_cors_origin: {origin!r} is not an origin (allowed: http://HOST:PORT, https://…, null)"
        )
