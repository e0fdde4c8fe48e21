"""What is open is a list; everything else is closed."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import Scope

from tests.http.clients import TOKEN, asking, serving
from wyoming_chatterbox.errors import SettingsError
from wyoming_chatterbox.http.app import PAGE, routes_of
from wyoming_chatterbox.http.connection_slots import OverloadGuard
from wyoming_chatterbox.http.policy import Policy
from wyoming_chatterbox.settings import Settings
from wyoming_chatterbox.testing.engines import ToneEngine, model_of
from wyoming_chatterbox.testing.serving import Running

OPEN = {"/health", "/health/live", "/health/ready", "/openapi.json"}
"""Written down here once more: whoever opens a path has to think about it twice."""

WITHOUT_TOKENS = {"/v1/audio/speech", "/audio/speech", "/audio/speech/stream"}


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "tokens"
    path.write_text(TOKEN)
    return path


def app_of(server: Running) -> FastAPI:
    """The application that is served."""
    assert server.server.http is not None
    doorkeeper = server.server.http._uvicorn.config.app
    assert isinstance(doorkeeper, OverloadGuard)
    app = doorkeeper.app
    assert isinstance(app, FastAPI)
    return app


def pairs(routes: list[BaseRoute]) -> list[tuple[str, str]]:
    """(method, path) of every route, with something in the place of its parameters."""
    found = [
        (method, route.path.replace("{model}", "x").replace("{name}", "x"))
        for route in routes
        if isinstance(route, Route)
        for method in route.methods or ()
    ]
    assert not any("{" in path for _, path in found)
    return found


async def test_every_route_is_closed_but_those_that_are_listed(token_file: Path) -> None:
    async with serving(model_of(ToneEngine()), http_token_file=token_file) as server, asking(server) as client:
        routes = routes_of(app_of(server))
        assert len(pairs(routes)) > 15
        for method, path in pairs(routes):
            answer = await client.request(method, path)
            assert (answer.status_code == 401) == (path not in OPEN), (method, path, answer.status_code)
            if path in OPEN:
                assert answer.status_code == 200
                assert (await client.post(path)).status_code == 401, "open to be read"
        files = [file.relative_to(PAGE).as_posix() for file in PAGE.rglob("*") if file.is_file()]
        for path in ("/", *(f"/{name}" for name in files)):
            assert (await client.get(path)).status_code == 200, path
        for path in ("/nothing", "/page/app.js", "/../app.py", "/v1", "/healthy", "/health/ready/x", "/docs"):
            assert (await client.get(path)).status_code == 401, path
            assert (await client.get(path, headers={"authorization": f"Bearer {TOKEN}"})).status_code == 404, path
        sockets = [route for route in routes if isinstance(route, WebSocketRoute)]
        assert [route.path for route in sockets] == ["/ws/stream/audio"]  # test_guard.py connects without a token


async def test_without_tokens_nothing_can_be_changed() -> None:
    async with serving(model_of(ToneEngine())) as server, asking(server) as client:
        for method, path in pairs(routes_of(app_of(server))):
            if method in ("GET", "HEAD"):
                assert (await client.request(method, path)).status_code in (200, 404), (method, path)
            elif path in WITHOUT_TOKENS:
                assert (await client.request(method, path, json={"input": "x"})).status_code == 200, path
            else:
                answer = await client.request(method, path)
                assert (answer.status_code, answer.json()["error"]["code"]) == (403, "token-needed"), (method, path)


async def test_a_route_that_is_added_is_closed(token_file: Path) -> None:
    def nothing() -> None:
        """A new route."""

    new = FastAPI()
    new.get("/new")(nothing)
    new.post("/new")(nothing)
    policy = Policy(Settings(), new.routes, {"/"})
    for method in ("GET", "POST"):
        scope: Scope = {"type": "http", "method": method, "path": "/new", "root_path": "", "headers": []}
        assert not policy.is_open(scope)
        assert policy.changes_something(scope) == (method == "POST")


@pytest.mark.parametrize(
    "host",
    [
        *(
            "localhost",
            "LOCALHOST:5",
            "tts.localhost",
            "127.0.0.1:1",
            "192.168.1.5:10201",
            "[::1]",
            "[fe80::1%25eth0]:80",
        ),
        *("chatterbox", "wyoming_chatterbox:10201", "homeassistant", "tts-1", "homeassistant.local", "HA.Local.:10201"),
        *(
            "host.docker.internal:10201",
            "host.containers.internal",
            "tts.home.arpa",
            "a.b.lan",
            "tts.home",
            "x.localdomain",
        ),
        *("tts.example.org", "TTS.EXAMPLE.ORG.:80", "a.fritz.box", "a.b.fritz.box"),
    ],
)
def test_names_that_no_stranger_can_hand_out_are_this_servers(host: str) -> None:
    assert Policy(Settings(http_host=("tts.example.org", "*.Fritz.Box")), [], ()).allows_host(host)


@pytest.mark.parametrize(
    "host",
    [
        *("", ":80", "[::1", "evil.example", "evil.example.", "localhost.evil.example", "127.0.0.1.evil.example"),
        *("local.evil.example", "evillocal.com", "evil.xlocal", "arpa", "evil.arpa", "x.in-addr.arpa"),
        *("homeassistant.fritz.box", "fritz.box", "o2.box"),  # domains of the public DNS, one of them a stranger's once
        *("ai", "dk", "x.ts.net", "x.duckdns.org", "10-0-0-1.nip.io", "x.mshome.net"),
        *("-x", "x-", "ex ample", "exämple", "tts.example.org.evil.example"),
    ],
)
def test_names_that_somebody_else_may_own_are_refused(host: str) -> None:
    allowed = host == "arpa"  # a top-level domain, and those have no addresses
    assert Policy(Settings(http_host=("tts.example.org",)), [], ()).allows_host(host) == allowed


async def test_names_of_the_local_network_are_answered() -> None:
    async with serving(model_of(ToneEngine())) as server, asking(server) as client:
        for host in ("chatterbox:10201", "homeassistant.local", "host.docker.internal", "tts.lan"):
            own = {"host": host, "origin": f"http://{host}"}
            assert (await client.get("/v1/models", headers=own)).status_code == 200, host
        answer = await client.get("/v1/models", headers={"host": "tts.fritz.box"})
        assert answer.status_code == 421
        assert (
            "'tts.fritz.box'" in answer.json()["error"]["message"]
            and "--http-host" in answer.json()["error"]["message"]
        )


@pytest.mark.parametrize(
    "name", ["*", "*.", "", "tts.example.org:10201", "http://tts.example.org", "a..b", "*tts", "a b"]
)
def test_what_is_no_host_name_ends_the_start(name: str) -> None:
    with pytest.raises(SettingsError, match="is not a host name"):
        Settings(http_host=(name,))


async def test_voices_are_listed_without_a_token_where_the_owner_says_so(token_file: Path) -> None:
    """Open WebUI shows its key with a text to be spoken alone; refused, its list has only OpenAI's voices."""
    paths = ("/v1/audio/voices", "/audio/voices", "/v1/audio/models", "/audio/models")
    for public, status in ((False, 401), (True, 200)):
        changes = {"http_token_file": token_file, "http_public_voices": public}
        async with serving(model_of(ToneEngine()), **changes) as server, asking(server) as client:
            for path in paths:
                assert (await client.get(path)).status_code == status, path
                assert (await client.post(path)).status_code == 401, path
            for method, path in (("DELETE", "/v1/audio/voices/tone"), ("GET", "/v1/models"), ("GET", "/metrics")):
                assert (await client.request(method, path)).status_code == 401, path
            assert (await client.post("/v1/audio/speech", json={"input": "x"})).status_code == 401
    async with serving(model_of(ToneEngine()), **changes) as server, asking(server) as client:
        listed = (await client.get("/v1/audio/voices")).json()
        assert {voice["id"]: voice["name"] for voice in listed["voices"]} == {"tone": "tone"}
        assert "tone" in [model["id"] for model in (await client.get("/v1/audio/models")).json()["models"]]
