"""Debian's Chromium for the tests of the page, and what is heard in it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import shutil
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from playwright.async_api import Browser, ConsoleMessage, Page, WebSocket, async_playwright

from wyoming_chatterbox.engine.base import CancelToken, Samples, StreamMetrics
from wyoming_chatterbox.http import app
from wyoming_chatterbox.speech_settings import GenerationSettings
from wyoming_chatterbox.testing.engines import SlowEngine
from wyoming_chatterbox.testing.serving import Running
from wyoming_chatterbox.voices.voice import Voice

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")

ARGUMENTS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]

SECONDS = 15_000
"""How long anything in the page may take (ms): the machine may be busy."""

TAP = """
registerProcessor("tap", class extends AudioWorkletProcessor {
  process(inputs) {
    if (inputs[0].length) this.port.postMessage(inputs[0][0].slice());
    return true;
  }
});
"""
"""Hears what goes to the speakers, in the audio thread."""

LISTEN = """
(() => {
  const heard = (window.__heard = []);
  window.__contexts = [];
  const rate = RATE;
  if (rate) {
    const Original = window.AudioContext;
    window.AudioContext = class extends Original {
      constructor(options) { super({ ...options, sampleRate: rate }); }
    };
  }
  const addModule = window.AudioWorklet?.prototype.addModule; // none on pages that are not secure
  if (addModule) AudioWorklet.prototype.addModule = async function (url) {
    await addModule.call(this, new URL("tap.js", document.baseURI));
    return addModule.call(this, url);
  };
  const connect = AudioNode.prototype.connect;
  AudioNode.prototype.connect = function (target, ...rest) {
    if (target instanceof AudioDestinationNode && addModule && this instanceof AudioWorkletNode) {
      const tap = new AudioWorkletNode(this.context, "tap");
      tap.port.onmessage = (event) => heard.push(event.data);
      connect.call(this, tap);
      window.__contexts.push(this.context);
    }
    return connect.call(this, target, ...rest);
  };
  const property = Object.getOwnPropertyDescriptor(ScriptProcessorNode.prototype, "onaudioprocess");
  Object.defineProperty(ScriptProcessorNode.prototype, "onaudioprocess", {
    set(handler) {
      property.set.call(this, (event) => {
        handler(event);
        heard.push(event.outputBuffer.getChannelData(0).slice());
      });
    },
  });
  const states = (window.__states = []);
  addEventListener("DOMContentLoaded", () => {
    const state = document.querySelector("#line-state");
    new MutationObserver(() => states.at(-1) !== state.textContent && states.push(state.textContent))
      .observe(state, { childList: true });
  });
  let pictures = 0;
  const clear = CanvasRenderingContext2D.prototype.clearRect;
  CanvasRenderingContext2D.prototype.clearRect = function (...box) {
    window.__pictures = ++pictures;
    return clear.apply(this, box);
  };
})();
"""
"""Notes every sample on its way to the speakers and every word beside the time line, and counts its pictures."""

HEARD = """() => {
  const all = new Float32Array(__heard.reduce((sum, block) => sum + block.length, 0));
  let at = 0;
  for (const block of __heard) { all.set(block, at); at += block.length; }
  const bytes = new Uint8Array(all.buffer);
  let text = "";
  for (let i = 0; i < bytes.length; i += 32768) text += String.fromCharCode(...bytes.subarray(i, i + 32768));
  return btoa(text);
}"""


def why_not() -> str | None:
    """Why the page cannot be tested here."""
    return None if Path(CHROMIUM).is_file() else f"needs Chromium at {CHROMIUM} (apt-get install chromium)"


class NoiseEngine(SlowEngine):
    """Noise that is never zero: a sample that is lost, doubled or misplaced is seen, and so is every gap."""

    def __init__(self, seconds: float = 0.0, chunks: int = 4, samples: int = 6000, model: str = "noise") -> None:
        super().__init__(seconds, chunks, model)
        self.samples = samples
        self._random = np.random.default_rng(5)

    def generate_stream(
        self, text: str, voice: Voice, settings: GenerationSettings, cancel: CancelToken
    ) -> Iterator[tuple[Samples, StreamMetrics]]:
        started = time.perf_counter()
        for tone, metrics in super().generate_stream(text, voice, settings, cancel):
            size = len(tone)
            spent, audio = time.perf_counter() - started, metrics.chunk_count * size / self.sample_rate
            loud = self._random.uniform(0.05, 0.6, size) * self._random.choice([-1.0, 1.0], size)
            first = metrics.latency_to_first_chunk
            yield loud.astype(np.float32), StreamMetrics(metrics.chunk_count, first, spent, audio, spent / audio)


@contextlib.asynccontextmanager
async def chromium(microphone: Path | None = None) -> AsyncIterator[Browser]:
    """A browser; its microphone hears a WAV file again and again, or else beeps once a second."""
    arguments = ARGUMENTS if microphone is None else [*ARGUMENTS, f"--use-file-for-fake-audio-capture={microphone}"]
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        try:
            yield browser
        finally:
            await browser.close()


def page_with_tap(folder: Path) -> Path:
    """The page's files with the tap beside them, which its strict policy would not let in from elsewhere."""
    copy = folder / "page"
    shutil.copytree(app.PAGE, copy)
    (copy / "tap.js").write_text(TAP)
    return copy


@dataclass
class Shown:
    """The page in a browser, what went wrong in it, and what the server sent to it."""

    page: Page
    faults: list[str] = field(default_factory=list)
    frames: list[bytes] = field(default_factory=list)

    @property
    def sent(self) -> npt.NDArray[np.int16]:
        """All samples that came from the server."""
        return np.frombuffer(b"".join(self.frames), dtype="<i2")

    def add_message(self, message: ConsoleMessage) -> None:
        """Count what the page writes to the console as a fault, unless it is mere information."""
        if message.type in ("error", "warning"):
            self.faults.append(message.text)

    async def heard(self) -> npt.NDArray[np.float32]:
        """All samples that went to the speakers."""
        return np.frombuffer(base64.b64decode(await self.page.evaluate(HEARD)), dtype="<f4")

    async def heard_exactly(self) -> npt.NDArray[np.int16]:
        """The same without silence, as whole numbers; fails where one is none."""
        samples = (await self.heard()) * 32768
        assert np.array_equal(samples, np.round(samples)), "samples were changed on their way"
        exact: npt.NDArray[np.int16] = samples[samples != 0].astype(np.int16)
        return exact

    async def until(self, selector: str, text: str = "") -> None:
        """Wait until something is shown, and says something."""
        # Not expect(): its pauses grow to a second, and add up to a minute in all the tests.
        deadline = time.monotonic() + SECONDS / 1000
        while not await self._says(selector, text):
            assert time.monotonic() < deadline, f"{selector} does not say {text!r}: {await self._content(selector)!r}"
            await asyncio.sleep(0.03)

    async def _says(self, selector: str, text: str) -> bool:
        return text in await self._content(selector) if text else await self.page.locator(selector).first.is_visible()

    async def _content(self, selector: str) -> str:
        """The text of something; empty where it is not there yet."""
        return " ".join(await self.page.locator(selector).all_inner_texts()).replace("\u00a0", " ")

    async def connected(self) -> None:
        await self.until("#state-text", "Connected")
        await self.until(".knob")  # voices and settings came together

    async def speak(self, text: str) -> None:
        await self.page.locator("#text").fill(text)
        await self.page.locator("#speak").click()

    async def text(self, selector: str) -> str:
        return (await self.page.locator(selector).inner_text()).replace("\u00a0", " ")


@contextlib.asynccontextmanager
async def shown(
    browser: Browser,
    running: Running,
    *,
    listen: bool = True,
    rate: int = 0,
    script: str = "",
    address: str = "",
    expected: Sequence[str] = (),
    **options: Any,
) -> AsyncIterator[Shown]:
    """The page of a server, opened. At its end nothing may have gone wrong in it, but what is `expected`.

    Args:
        listen: needs the tap (`page_with_tap`) beside the page.
        rate: what the browser's audio runs at, whatever the page asks for; 0 is what it asks for.
        script: of the test's own, run before the page's.
        address: of the page, where it is not the server's own.
        expected: parts of the browser's complaints that the test provokes.
        options: of the browser's context: viewport, color_scheme, …
    """
    assert running.server.http is not None
    context = await browser.new_context(**options)
    try:
        page = await context.new_page()
        here = Shown(page)
        page.on("console", here.add_message)
        page.on("pageerror", lambda error: here.faults.append(str(error)))
        page.on("websocket", lambda socket: _note(socket, here.frames))
        if listen:
            await page.add_init_script(LISTEN.replace("RATE", str(rate)) + script)
        await page.goto(address or running.server.http.uri)
        yield here
        faults = [fault for fault in here.faults if not any(part in fault for part in expected)]
        assert not faults, faults
    finally:
        await context.close()


def _note(socket: WebSocket, frames: list[bytes]) -> None:
    def add(data: bytes | str) -> None:
        if isinstance(data, bytes):
            frames.append(data)

    socket.on("framereceived", add)
