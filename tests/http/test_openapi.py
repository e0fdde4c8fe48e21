"""The OpenAPI description against the real server: schemathesis makes requests of it, right ones and wrong ones."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import httpx2 as httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from tests.http.clients import TOKEN
from wyoming_chatterbox.testing.serving import spawned

ROUTES = [
    ("/v1/audio/speech", "post"),
    ("/audio/speech", "post"),
    ("/audio/speech/stream", "post"),
    ("/v1/models", "get"),
    ("/v1/models/{model}", "get"),
    ("/v1/audio/models", "get"),
    ("/v1/audio/voices", "get"),
    ("/v1/audio/voices", "post"),
    ("/v1/audio/voices/{name}", "delete"),
    ("/api/settings", "get"),
    ("/health", "get"),
    ("/health/live", "get"),
    ("/health/ready", "get"),
    ("/metrics", "get"),
]

EXAMPLES = 60
"""Of each route. With more it takes longer, and found nothing else: 400 were tried."""

SERVER = """
import asyncio, sys
from pathlib import Path
from wyoming_chatterbox.testing.engines import ToneEngine, model_of
from wyoming_chatterbox.testing.serving import settings
from wyoming_chatterbox.__main__ import _set_up_logging
from wyoming_chatterbox.engine.registry import create_library
from wyoming_chatterbox.server import Server
from wyoming_chatterbox.speech.catalog import ModelCatalog
folder = Path(sys.argv[-1])
_set_up_logging("INFO")
changes = {"http_uri": "http://127.0.0.1:0", "http_token_file": folder / "tokens", "voices_dir": (folder / "voices",)}
models = ModelCatalog(model_of(ToneEngine("original")))
asyncio.run(Server(settings(**changes), models, create_library((folder / "voices",))).run())
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("openapi")
    (folder / "tokens").write_text(TOKEN)
    with spawned(folder, str(folder), program=(sys.executable, "-c", SERVER)) as process:
        yield process.wait_for(r"listens on .*(http://\S+)").group(1)
        assert "Traceback" not in process.log, process.log


@pytest.fixture(scope="module")
def described(server: str) -> schemathesis.BaseSchema:
    return schemathesis.openapi.from_url(f"{server}/openapi.json")


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize(("path", "method"), ROUTES)
def test_the_server_does_what_its_description_says(
    described: schemathesis.BaseSchema, path: str, method: str, mode: GenerationMode
) -> None:
    operation = described[path][method]
    takes_something = operation.body or operation.path_parameters
    if mode is GenerationMode.NEGATIVE and not takes_something:
        return  # nothing can be wrong with it

    @settings(
        max_examples=EXAMPLES if takes_something else 2,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=True,
        database=None,
    )
    @given(operation.as_strategy(generation_mode=mode))
    def ask(case: schemathesis.Case) -> None:
        # A right request may still name a voice, a model or a language that is not here, or be no clip at all.
        excluded = [positive_data_acceptance]
        headers = {"Authorization": f"Bearer {TOKEN}"}
        case.call_and_validate(headers=headers, excluded_checks=excluded, timeout=20)

    ask()


def test_the_description_names_every_route(server: str) -> None:
    description = httpx.get(f"{server}/openapi.json")
    assert '"422"' not in description.text and "HTTPValidationError" not in description.text, "errors have our shape"
    paths = description.json()["paths"]
    assert sorted((path, method) for path, methods in paths.items() for method in methods) == sorted(ROUTES)
