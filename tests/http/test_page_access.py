"""The page is for everybody: keyboards, screen readers, phones, light and dark, and what axe-core finds."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, expect

from wyoming_chatterbox.engine.base import CancelToken, Engine
from wyoming_chatterbox.hosting.base import EngineSpec, LoadPhase, StatusReport
from wyoming_chatterbox.http import app
from wyoming_chatterbox.testing.browser import SECONDS, NoiseEngine, Shown, chromium, page_with_tap, shown, why_not
from wyoming_chatterbox.testing.engines import ToneEngine, hosted_model, model_of
from wyoming_chatterbox.testing.serving import running

pytestmark = [
    pytest.mark.browser,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(why_not() is not None, reason=str(why_not())),
]

HTTP = "http://127.0.0.1:0"

SCREENS = {
    "light": {"viewport": {"width": 1280, "height": 900}},
    "dark": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 360, "height": 740}, "has_touch": True},
}

FOCUSED = """() => {
  const one = document.activeElement;
  const style = getComputedStyle(one);
  const box = one.getBoundingClientRect();
  return {
    name: one === document.body ? "" : one.id || one.textContent.trim() || one.ariaLabel || one.tagName,
    outline: style.outlineStyle === "none" ? 0 : parseFloat(style.outlineWidth),
    seen: box.width > 1 && box.height > 1 && box.top < innerHeight && box.bottom > 0,
  };
}"""

INLINE = """() => new Promise((done) => {
  document.addEventListener("securitypolicyviolation", (event) => done(event.effectiveDirective), { once: true });
  const script = document.createElement("script");
  script.textContent = "window.bad = 1";
  document.body.append(script);
})"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as started:
        yield started


@pytest.fixture(autouse=True)
def tap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "PAGE", page_with_tap(tmp_path))


def downloads_for_ever(spec: EngineSpec, report: StatusReport, cancel: CancelToken) -> Engine:
    """A model whose download stands at 43 %."""
    report(LoadPhase.DOWNLOADING, 0.43)
    while not cancel.is_set:
        time.sleep(0.01)
    cancel.raise_if_set()
    raise AssertionError("not reached")


async def found_by_axe(here: Shown) -> list[str]:
    """What axe-core complains of, with the elements."""
    # A colour that is still changing has a contrast of its own.
    await here.page.wait_for_timeout(200)
    found = await Axe().run(here.page)
    return [
        f"{one['id']}: {one['help']}: {[node['html'][:120] for node in one['nodes']]}"
        for one in found.response["violations"]
    ]


@pytest.mark.parametrize("screen", SCREENS)
async def test_axe_finds_nothing(browser: Browser, screen: str) -> None:
    big = ToneEngine("original")
    model = hosted_model(big.model, big.voices, downloads_for_ever)
    async with running(model, model_of(NoiseEngine(model="embedded")), wait=False, http_uri=HTTP) as server:
        async with shown(browser, server, **SCREENS[screen]) as here:
            await here.connected()
            await here.until("#loading-text", "43 %")
            assert await found_by_axe(here) == []
            await here.speak("Everything on the page at once.")
            await here.until("#history li")
            await here.page.get_by_text("More settings").click()
            await here.page.locator("#table-details summary").click()
            await here.page.locator("#token").fill("a-token-0123456789")
            await here.page.locator("#token-save").click()
            await here.until("#upload")
            await here.connected()
            await here.page.get_by_label("Temperature, exact value").fill("9")
            await here.speak("Too warm.")
            await here.until("#error")
            assert await found_by_axe(here) == []
            width = await here.page.evaluate("() => [document.documentElement.scrollWidth, innerWidth]")
            assert width[0] <= width[1], "nothing sticks out to the right"


async def test_axe_can_find_something(browser: Browser) -> None:
    async with running(model_of(NoiseEngine()), http_uri=HTTP) as server, shown(browser, server) as here:
        await here.connected()
        await here.page.evaluate("() => document.querySelector('label[for=text]').remove()")
        assert "label" in [one.split(":")[0] for one in await found_by_axe(here)]


async def test_everything_can_be_done_with_keys(browser: Browser) -> None:
    engine = NoiseEngine(0.05, chunks=100)
    async with running(model_of(engine), http_uri=HTTP) as server, shown(browser, server) as here:
        await here.connected()
        keyboard = here.page.keyboard
        await expect(here.page.locator("#text")).to_be_focused(timeout=SECONDS)
        await keyboard.press("Control+a")
        await keyboard.type("Typed by hand.")
        await keyboard.press("Control+Enter")
        await here.until("#line-state", "Playing")
        await keyboard.press("Escape")
        await here.until("#line-state", "Stopped")
        assert engine.texts == ["Typed by hand."]
        engine.chunks = 2

        names = await _walk(here, 30)
        wanted = ["voice", "model", "speak", "Every chunk in numbers", "Play", "Download", "Use text"]
        wanted += ["knob-exaggeration", "knob-cfg_weight", "knob-temperature", "More settings", "token", "token-save"]
        assert [name for name in names if name in wanted] == wanted

        # A slider, a picker and a button, without a mouse.
        await here.page.locator("#knob-exaggeration").focus()
        await keyboard.press("ArrowRight")
        assert await here.page.get_by_label("Exaggeration, exact value").input_value() == "0.55"
        await here.page.locator("#speak").focus()
        await keyboard.press("Space")
        await here.until("#line-state", "Finished")
        assert engine.settings[-1].exaggeration == 0.55
        await here.page.get_by_role("button", name="Play: Typed by hand.").nth(0).focus()
        await keyboard.press("Enter")
        await here.until("#line-state", "Playing again")
        await keyboard.press("Escape")
        await here.until("#stop:disabled")


async def _walk(here: Shown, most: int) -> list[str]:
    """Where Tab leads, from the top of the page; every stop is to be seen."""
    names = []
    await here.page.evaluate("() => document.activeElement.blur()")
    await here.page.evaluate("() => { document.body.tabIndex = -1; document.body.focus(); }")
    for _ in range(most):
        await here.page.keyboard.press("Tab")
        await asyncio.sleep(0.01)
        focused = await here.page.evaluate(FOCUSED)
        if not focused["name"] or focused["name"] in names:
            break
        assert focused["outline"] >= 2 and focused["seen"], focused
        names.append(focused["name"])
    return names


async def test_a_screen_reader_is_told_what_happens(browser: Browser) -> None:
    async with running(model_of(NoiseEngine()), http_uri=HTTP) as server, shown(browser, server) as here:
        await here.connected()
        page = here.page
        await expect(page.get_by_role("textbox", name="Text", exact=True)).to_be_visible()
        await expect(page.get_by_role("combobox", name="Voice")).to_have_value("noise")
        await expect(page.get_by_role("img", name="Time line: nothing said yet")).to_be_visible()
        await here.speak("Heard without eyes.")
        await here.until("#line-state", "Finished")
        said = await page.locator("#live").inner_text()
        assert said.startswith("Finished: 1.00 s of audio in 4 chunks, first audio after "), said
        assert said.endswith(", no underruns")
        assert await page.locator("#live").get_attribute("aria-live") == "polite"
        await expect(page.get_by_role("img", name="1.00 s of audio in 4 chunks")).to_be_visible()
        await page.locator("#text").fill(" ")
        await page.locator("#speak").click()
        await expect(page.get_by_role("alert")).to_contain_text("write a text first")
        await expect(page.locator("#text")).to_be_focused()


async def test_no_request_leaves_the_server(browser: Browser) -> None:
    async with running(model_of(NoiseEngine()), http_uri=HTTP) as server, shown(browser, server) as here:
        assert server.server.http is not None
        asked: list[str] = []
        here.page.on("request", lambda request: asked.append(request.url))
        await here.page.reload()
        await here.connected()
        await here.speak("All from here.")
        await here.until("#line-state", "Finished")
        assert len(asked) > 10
        assert [url for url in asked if not url.startswith(server.server.http.uri + "/")] == []
        response = await here.page.request.get(server.server.http.uri)
        assert "script-src 'self'" in response.headers["content-security-policy"]
        assert response.headers["cache-control"] == "no-cache", "an update is seen at once"
        refused = await here.page.evaluate(INLINE)
        assert refused == "script-src-elem"
        here.faults = [fault for fault in here.faults if "inline script" not in fault]


async def test_light_and_dark_differ_and_follow_the_system(browser: Browser) -> None:
    async with running(model_of(NoiseEngine()), http_uri=HTTP) as server, shown(browser, server) as here:
        grounds = {}
        for scheme in ("light", "dark"):
            await here.page.emulate_media(color_scheme=scheme)
            colour = await here.page.evaluate("() => getComputedStyle(document.documentElement).backgroundColor")
            grounds[scheme] = int(colour.removeprefix("rgb(").split(",")[0])
    assert grounds["light"] > 200 > 60 > grounds["dark"]


async def test_it_works_in_a_folder_of_a_proxy(browser: Browser) -> None:
    async with running(model_of(NoiseEngine()), http_uri=HTTP) as server:
        assert server.server.http is not None
        async with folder_proxy("/speech", server.server.http.port) as address:
            async with shown(browser, server, address=address) as here:
                await here.connected()
                await here.speak("From a folder.")
                await here.until("#line-state", "Finished")
                assert len(await here.heard_exactly()) == len(here.sent) == 24000


@contextlib.asynccontextmanager
async def folder_proxy(folder: str, port: int) -> AsyncIterator[str]:
    """A reverse proxy that serves a server's root as one of its folders, one request a connection."""

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
            writer.write_eof()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.split(b" ")[1].startswith(folder.encode() + b"/"), head
        head = head.replace(folder.encode() + b"/", b"/", 1)
        if b"upgrade: websocket" not in head.lower():
            head = head.lower().replace(b"connection: keep-alive", b"connection: close", 1)
            head = head.replace(b"get /", b"GET /", 1).replace(b"http/1.1", b"HTTP/1.1", 1)
        behind, ahead = await asyncio.open_connection("127.0.0.1", port)
        ahead.write(head)
        await asyncio.gather(pipe(reader, ahead), pipe(behind, writer))
        ahead.close()
        writer.close()

    proxy = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}{folder}/"
    finally:
        proxy.close()
