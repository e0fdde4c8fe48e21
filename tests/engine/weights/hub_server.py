"""A Hugging Face hub on 127.0.0.1, small and obedient: it can cut, corrupt, refuse and remember."""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from wyoming_chatterbox.engine.weights.download import RemoteFile, Repository

REVISION = "0123456789abcdef0123456789abcdef01234567"

_BLOCK = 16_384


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]
    """Names in lower case."""


@dataclass
class Hub:
    """Serves one repository.

    Large files live elsewhere, as on the real hub: they are redirected to another host (the same server by
    its other name), and their etag is their SHA-256. Change the fields while it runs.
    """

    files: dict[str, bytes]
    id: str = "someone/model"

    cuts: list[int] = field(default_factory=list)
    """Each answer to a GET takes the first: bytes of the body to send before closing the connection."""

    corrupt: int = 0
    """Answers to a GET that have their last byte changed."""

    status: int = 200
    """Anything else is the answer to all requests."""

    get_status: int = 200
    """Anything else is the answer to all GET requests."""

    token: str | None = None
    """Refuses, as for a gated repository, whoever does not send it."""

    ignores_ranges: bool = False

    is_hub: bool = True
    """False leaves out the headers that only a hub sends."""

    bytes_per_second: float = 0.0
    """0 sends as fast as it can."""

    requests: list[Request] = field(default_factory=list)
    url: str = ""

    @property
    def repository(self) -> Repository:
        """The repository as it is now, pinned."""
        files = tuple(
            RemoteFile(name, len(data), hashlib.sha256(data).hexdigest()) for name, data in self.files.items()
        )
        return Repository(self.id, REVISION, files)

    @property
    def gets(self) -> list[Request]:
        """The GET requests for content, redirects left out."""
        return [
            request for request in self.requests if request.method == "GET" and request.path.startswith("/content/")
        ]

    @property
    def ranges(self) -> list[str | None]:
        """The Range header of each GET request for content."""
        return [request.headers.get("range") for request in self.gets]


@contextlib.contextmanager
def running(hub: Hub) -> Iterator[Hub]:
    """Serve while the block runs; `hub.url` is what HF_ENDPOINT has to be."""

    class Handler(_Handler):
        pass

    Handler.hub = hub
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        hub = self.hub
        path = urlsplit(self.path).path
        headers = {name.lower(): value for name, value in self.headers.items()}
        hub.requests.append(Request(self.command, path, headers))
        if hub.status != 200:
            return self._refuse(hub.status)
        if path.startswith("/content/"):
            return self._send(hub.files[path.removeprefix("/content/")])
        prefix = f"/{hub.id}/resolve/{REVISION}/"
        name = path.removeprefix(prefix)
        if not path.startswith(prefix) or name not in hub.files:
            return self._refuse(404, {"X-Error-Code": "EntryNotFound"})
        if hub.token is not None and headers.get("authorization") != f"Bearer {hub.token}":
            return self._refuse(401, {"X-Error-Code": "GatedRepo"})
        data = hub.files[name]
        self.send_response(302)
        if hub.is_hub:
            self.send_header("X-Repo-Commit", REVISION)
            self.send_header("X-Linked-Etag", f'"{hashlib.sha256(data).hexdigest()}"')
            self.send_header("X-Linked-Size", str(len(data)))
        other_host = hub.url.replace("127.0.0.1", "localhost")
        self.send_header("Location", f"{other_host}/content/{name}")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _refuse(self, status: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send(self, data: bytes) -> None:
        hub = self.hub
        if self.command == "GET" and hub.get_status != 200:
            return self._refuse(hub.get_status)
        if self.command == "GET" and hub.corrupt:
            hub.corrupt -= 1
            data = data[:-1] + bytes([data[-1] ^ 0xFF])
        total = len(data)
        wanted = self.headers.get("Range")
        if wanted and not hub.ignores_ranges:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= total:
                return self._refuse(416)
            data = data[start:]
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        else:
            self.send_response(200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if hub.cuts:
            data = data[: hub.cuts.pop(0)]
            self.close_connection = True
        with contextlib.suppress(ConnectionError):
            for start in range(0, len(data), _BLOCK):
                block = data[start : start + _BLOCK]
                self.wfile.write(block)
                if hub.bytes_per_second:
                    time.sleep(len(block) / hub.bytes_per_second)
