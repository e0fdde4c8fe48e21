"""The page in a real browser against the real server: what is heard is what was sent."""

from __future__ import annotations

import asyncio
import time
import wave
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio
import soundfile
import soxr
from playwright.async_api import Browser, expect

from tests.voices.audio_factory import audio, sound
from wyoming_chatterbox.engine.base import CancelToken, Engine
from wyoming_chatterbox.engine.registry import create_library
from wyoming_chatterbox.hosting.base import EngineSpec, LoadPhase, StatusReport
from wyoming_chatterbox.http import app
from wyoming_chatterbox.model_factory import create_catalog
from wyoming_chatterbox.testing.browser import SECONDS, NoiseEngine, chromium, page_with_tap, shown, why_not
from wyoming_chatterbox.testing.engines import SlowEngine, ToneEngine, hosted_model, model_of
from wyoming_chatterbox.testing.serving import running, settings

pytestmark = [
    pytest.mark.browser,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(why_not() is not None, reason=str(why_not())),
]

HTTP = "http://127.0.0.1:0"
TOKEN = "a-token.of_the~tests-0123456789"

NO_WORKLET = "Object.defineProperty(BaseAudioContext.prototype, 'audioWorklet', { value: undefined });"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Browser]:
    microphone = tmp_path_factory.mktemp("microphone") / "voice.wav"
    microphone.write_bytes(audio())
    async with chromium(microphone) as started:
        yield started


@pytest.fixture(autouse=True)
def tap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "PAGE", page_with_tap(tmp_path))


async def test_what_is_heard_is_what_was_sent_and_the_line_shows_it(browser: Browser) -> None:
    async with running(model_of(NoiseEngine(0.05, chunks=6)), http_uri=HTTP) as server, shown(browser, server) as here:
        await here.connected()
        await here.speak("Six chunks of noise.")
        await here.until("#line-state", "Playing")
        pictures = set()
        for _ in range(4):
            pictures.add(await here.page.evaluate("() => document.querySelector('#line').toDataURL()"))
            await asyncio.sleep(0.1)
        await here.until("#line-state", "Finished")
        assert len(pictures) == 4, "the time line moves"
        assert len(here.sent) == 6 * 6000
        assert np.array_equal(await here.heard_exactly(), here.sent)
        heard = np.flatnonzero(await here.heard())
        assert np.array_equal(np.diff(heard), np.ones(len(heard) - 1)), "without a gap"
        assert await here.text("#underruns") == "0"
        assert await here.text("#audio") == "1.50 s"
        label = await here.page.locator("#line").get_attribute("aria-label")
        assert label is not None and "1.50 s of audio in 6 chunks" in label and "no underruns" in label
        await here.page.locator("#table-details summary").click()
        await here.until("#table tr:last-child")
        rows = [[float(cell) for cell in row.split("\t")] for row in (await here.text("#table")).splitlines()]
    assert len(rows) == 6
    offset = 0.0
    for number, (index, length, made, sent, arrived, heard_at) in enumerate(rows, start=1):
        assert (index, length) == (number, 0.25)
        assert 0 < made <= sent <= arrived <= heard_at
        # Without gaps every chunk is heard where the one before it ends.
        assert heard_at == pytest.approx(rows[0][5] + offset, abs=0.002)
        offset += length


async def test_a_slow_engine_shows_its_underruns_and_loses_nothing(browser: Browser) -> None:
    engine = NoiseEngine(0.5, chunks=3, samples=4800)
    async with running(model_of(engine), http_uri=HTTP) as server, shown(browser, server) as here:
        await here.connected()
        await here.speak("Too slow.")
        await here.until("#line-state", "Finished")
        said = await here.page.evaluate("() => __states")
        assert said.count("Underrun: waiting for the next chunk") == 2
        assert await here.text("#underruns") == "2"
        assert await here.text("#rtf-more") == "slower than speech"
        samples = await here.heard()
        gaps = np.diff(np.flatnonzero(samples))
        # 0.3 s each: 0.5 to make 0.2. A busy machine takes longer.
        assert len(gaps[gaps > 1]) == 2 and min(gaps[gaps > 1]) > 0.1 * 24000
        assert np.array_equal(await here.heard_exactly(), here.sent)
        assert "2 underruns" in await here.text("#history li")


async def test_stop_ends_the_sound_and_the_engine(browser: Browser) -> None:
    engine = SlowEngine(0.05)
    async with running(model_of(engine), http_uri=HTTP) as server, shown(browser, server) as here:
        await here.connected()
        await here.speak("A thousand chunks.")
        await here.until("#line-state", "Playing")
        await here.page.locator("#stop").click()
        await here.until("#line-state", "Stopped")
        for _ in range(100):
            if server.server.service.running == 0:
                break
            await asyncio.sleep(0.02)
        assert server.server.service.running == 0
        made = engine.made
        assert made < 100
        before = np.count_nonzero(await here.heard())
        await asyncio.sleep(0.3)
        assert np.count_nonzero(await here.heard()) == before
        assert engine.made == made, "the engine stopped too"
        assert await here.page.locator("#stop").is_disabled()
        assert "stopped" in await here.text("#history li")
        # And it speaks again on the same connection.
        engine.chunks = 2
        await here.speak("Two chunks.")
        await here.until("#line-state", "Finished")
        assert await here.text("#audio-more") == "in 2 chunks"


async def test_speak_while_it_speaks_begins_afresh(browser: Browser) -> None:
    engine = NoiseEngine(0.05, chunks=200)
    async with running(model_of(engine), http_uri=HTTP) as server, shown(browser, server) as here:
        await here.connected()
        await here.speak("The first.")
        await here.until("#line-state", "Playing")
        engine.chunks = 3
        await here.speak("The second.")
        await here.until("#line-state", "Finished")
        assert await here.text("#audio-more") == "in 3 chunks"
        assert [text.splitlines()[0] for text in await here.page.locator("#history li").all_inner_texts()] == [
            "The second.",
            "The first.",
        ]
        heard, sent = await here.heard(), here.sent
        # What was stopped faded away; the second one is whole.
        assert np.array_equal((heard[heard != 0] * 32768)[-18000:], sent[-18000:])


async def test_it_comes_back_when_the_server_does(browser: Browser) -> None:
    engine = NoiseEngine(0.05, chunks=200)
    async with running(model_of(engine), http_uri=HTTP, shutdown_timeout=0.0) as server:
        assert server.server.http is not None
        uri = server.server.http.uri
        async with shown(browser, server, expected=("ERR_",)) as here:
            await here.connected()
            await here.speak("The server stops in the middle of this.")
            await here.until("#line-state", "Playing")
            server.server.stop()
            await server.server.shutdown()
            await here.until("#state-text", "Not connected")
            await here.until("#error-code")
            assert await here.text("#error-code") in ("shutting-down", "connection-lost")
            assert await here.page.locator("#speak").is_disabled()
            await here.until('#state-text[data-left=", next try in 2 s"]')
            async with running(model_of(NoiseEngine(chunks=2)), http_uri=uri):
                await here.connected()
                assert not await here.page.locator("#error").is_visible()
                await here.speak("Here again.")
                await here.until("#history li:first-child", "Here again.")
                assert await here.text("#line-state") == "Finished"


async def test_a_token_is_asked_for_and_used(browser: Browser, tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(TOKEN + "\n")
    async with running(model_of(NoiseEngine(chunks=2)), http_uri=HTTP, http_token_file=file) as server:
        async with shown(browser, server, expected=("credentials", "401")) as here:
            await here.until("#state-text", "Token needed")
            assert await here.text("#error-code") == "unauthorized"
            await expect(here.page.locator("#token")).to_be_focused()
            assert not await here.page.locator("#upload").is_visible()
            await here.page.keyboard.type("wrong-wrong-wrong-wrong")
            await here.page.keyboard.press("Enter")
            await here.until("#error-message", "not a token of this server")
            await here.page.locator("#token-forget").click()
            await here.page.locator("#token").fill("not/sendable=")
            await here.page.locator("#token-save").click()
            await here.until("#error-code", "invalid-token")
            await here.page.locator("#token").fill(TOKEN)
            await here.page.keyboard.press("Enter")
            await here.connected()
            assert not await here.page.locator("#error").is_visible()
            await here.until("#upload")
            await here.speak("With a token.")
            await here.until("#line-state", "Finished")
            await here.page.reload()
            await here.connected()
            stored = await here.page.evaluate("() => [{ ...sessionStorage }, { ...localStorage }, document.cookie]")
            assert stored == [{"chatterbox-token": TOKEN}, {}, ""]


async def test_the_fallback_voice_is_named_while_the_model_loads(browser: Browser) -> None:
    def never(spec: EngineSpec, report: StatusReport, cancel: CancelToken) -> Engine:
        report(LoadPhase.DOWNLOADING, 0.43)
        while not cancel.is_set:
            time.sleep(0.01)
        cancel.raise_if_set()
        raise AssertionError

    big = ToneEngine("original")
    model = hosted_model(big.model, big.voices, never)
    fallback = model_of(NoiseEngine(model="embedded"))
    async with running(model, fallback, wait=False, http_uri=HTTP) as server, shown(browser, server) as here:
        await here.connected()
        await here.until("#loading-text", "The model original is being downloaded: 43 %")
        await here.until("#loading-text", "fallback voice answers (model embedded)")
        assert await here.page.locator("#loading-progress").get_attribute("value") == "0.43"
        await here.page.locator("#voice").select_option("original")
        await here.speak("Who speaks?")
        await here.until("#who", "Spoken by the fallback voice embedded (model embedded)")
        await here.until("#history li", "embedded (fallback)")


async def test_an_error_is_shown_with_its_code_and_the_remedy(browser: Browser) -> None:
    async with running(model_of(NoiseEngine()), http_uri=HTTP) as server, shown(browser, server) as here:
        await here.connected()
        await here.page.get_by_label("Exaggeration, exact value").fill("9")
        await here.speak("Too dramatic.")
        await here.until("#error-code", "invalid-setting")
        assert await here.text("#error-message") == "exaggeration: 9.0 is out of range (allowed: 0 to 2)"
        assert await here.text("#line-state") == "Error: invalid-setting"
        assert await here.page.locator("#history li").count() == 0
        await here.page.locator("#settings-reset").click()
        await here.speak("As always.")
        await here.until("#line-state", "Finished")
        assert not await here.page.locator("#error").is_visible()


async def test_the_sliders_are_the_servers_settings_and_reach_the_engine(browser: Browser) -> None:
    engine = NoiseEngine(chunks=1)
    async with running(model_of(engine), http_uri=HTTP) as server, shown(browser, server) as here:
        await here.connected()
        await here.page.get_by_text("More settings").click()
        upstream = await here.page.locator("#settings-upstream label").all_inner_texts()
        assert upstream == ["Context window (tokens)", "Fade duration (seconds)", "Print metrics"]
        names = {
            "Exaggeration": "Emotion of the delivery",
            "CFG weight": "lower speaks slower",
            "Temperature": "higher values vary more",
            "Seed": "-1 draws a new seed",
            "Chunk size (tokens)": "Speech tokens",
            "Print metrics": "to the log",
        }
        for label, meaning in names.items():
            control = here.page.get_by_label(label, exact=True)
            described = await control.get_attribute("aria-describedby")
            assert meaning in await here.text(f"#{described}")
        await here.page.get_by_label("Exaggeration", exact=True).focus()
        await here.page.keyboard.press("End")
        await here.page.get_by_label("Seed", exact=True).fill("77")
        await here.page.get_by_label("Print metrics", exact=True).check()
        await here.speak("With feeling.")
        await here.until("#line-state", "Finished")
        used = engine.settings[-1]
        assert (used.exaggeration, used.seed, used.print_metrics, used.temperature) == (2.0, 77, True, 0.8)
        await here.page.locator("#settings-reset").click()
        await here.speak("Without.")
        await here.until("#history li:first-child", "Without.")
        assert engine.settings[-1] == server.server._settings.generation


async def test_the_history_is_replayed_and_downloaded_as_it_was_heard(browser: Browser, tmp_path: Path) -> None:
    async with running(model_of(NoiseEngine()), http_uri=HTTP) as server, shown(browser, server) as here:
        await here.connected()
        await here.speak("Keep this, please!")
        await here.until("#line-state", "Finished")
        await here.page.evaluate("() => { __heard.length = 0; }")
        await here.page.get_by_role("button", name="Play: Keep this").click()
        await here.until("#line-state", "Playing again")
        await here.until("#line-state", "Finished")
        assert np.array_equal(await here.heard_exactly(), here.sent)
        async with here.page.expect_download() as downloading:
            await here.page.get_by_role("button", name="Download: Keep this").click()
        download = await downloading.value
        assert download.suggested_filename == "keep-this-please.wav"
        await download.save_as(tmp_path / "kept.wav")
        with wave.open(str(tmp_path / "kept.wav")) as kept:
            assert (kept.getframerate(), kept.getnchannels(), kept.getsampwidth()) == (24000, 1, 2)
            assert kept.readframes(kept.getnframes()) == here.sent.tobytes()
        await here.page.locator("#text").fill("")
        await here.page.get_by_role("button", name="Use text: Keep this").click()
        assert await here.page.locator("#text").input_value() == "Keep this, please!"


async def test_a_browser_without_worklets_hears_the_same(browser: Browser) -> None:
    """As on a page from the LAN without https."""
    async with running(model_of(NoiseEngine(chunks=8)), http_uri=HTTP) as server:
        async with shown(browser, server, script=NO_WORKLET, expected=("ScriptProcessorNode is deprecated",)) as here:
            await here.connected()
            await here.speak("The old way.")
            await here.until("#line-state", "Finished")
            assert np.array_equal(await here.heard_exactly(), here.sent)
            assert await here.text("#underruns") == "0"


async def test_another_rate_of_the_browser_is_resampled(browser: Browser) -> None:
    async with running(model_of(NoiseEngine()), http_uri=HTTP) as server:
        async with shown(browser, server, rate=44100) as here:
            await here.connected()
            await here.speak("At 44.1 kHz.")
            await here.until("#line-state", "Finished")
            heard, sent = await here.heard(), here.sent / 32768
            assert await here.text("#audio") == "1.00 s"
    begin, end = np.flatnonzero(heard)[[0, -1]]
    heard = heard[begin : end + 1].astype(np.float64)
    assert len(heard) == pytest.approx(44100, abs=2)
    # White noise is the hardest there is; compared below the 11 kHz at which both begin to filter.
    expected = soxr.resample(sent, 24000, 44100, quality="VHQ")

    def low(samples: np.ndarray) -> np.ndarray:
        spectrum = np.fft.rfft(samples, 44100)
        return spectrum[100:10500]

    error = np.abs(low(heard) - low(expected))
    assert np.sqrt(np.mean(error**2) / np.mean(np.abs(low(expected)) ** 2)) < 0.003


async def test_the_embedded_voice_speaks_in_the_page(browser: Browser) -> None:
    models = create_catalog(settings(model="embedded"))
    async with running(models.primary, models.fallback, http_uri=HTTP) as server, shown(browser, server) as here:
        await here.connected()
        assert await here.page.locator("#settings-note").is_visible()
        await here.speak("Hello, this is the small voice.")
        await here.until("#line-state", "Finished")
        samples = await here.heard()
        heard, sent = (samples * 32768).astype(np.int16), here.sent
        begin = np.flatnonzero(heard)[0] - np.flatnonzero(sent)[0]
        assert np.array_equal(heard[begin : begin + len(sent)], sent)
        assert 1 < len(sent) / 24000 < 6
        assert np.abs(sent).max() > 3000


async def test_less_motion_is_less_motion(browser: Browser) -> None:
    async with running(model_of(NoiseEngine(0.05, chunks=4)), http_uri=HTTP) as server:
        drawn = {}
        for wish in ("no-preference", "reduce"):
            async with shown(browser, server, reduced_motion=wish) as here:
                await here.connected()
                await here.speak("One second of noise.")
                await here.until("#line-state", "Finished")
                drawn[wish] = await here.page.evaluate("() => __pictures")
    assert drawn["reduce"] < 16 < drawn["no-preference"], drawn


async def test_what_was_said_before_comes_from_the_cache_and_says_so(browser: Browser, tmp_path: Path) -> None:
    async with running(model_of(NoiseEngine()), http_uri=HTTP, cache_size=10, data_dir=tmp_path / "data") as server:
        async with shown(browser, server) as here:
            await here.connected()
            await here.speak("Twice the same.")
            await here.until("#line-state", "Finished")
            assert "faster than speech" in await here.text("#rtf-more")
            await here.page.locator("#speak").click()
            await here.until("#rtf-more", "from the cache")
            await expect(here.page.locator("#history li")).to_have_count(2, timeout=SECONDS)
            first, second = np.split(await here.heard_exactly(), 2)
            assert np.array_equal(first, second)


async def test_voices_are_added_from_a_file_and_from_the_microphone(browser: Browser, tmp_path: Path) -> None:
    file, folder, clip = tmp_path / "tokens", tmp_path / "voices", tmp_path / "Anna.wav"
    file.write_text(TOKEN)
    clip.write_bytes(audio())
    library = create_library([folder])
    model = model_of(NoiseEngine(chunks=2, model="original"))
    async with running(model, library=library, http_uri=HTTP, http_token_file=file) as server:
        async with shown(browser, server, expected=("credentials", "401", "400")) as here:
            await here.until("#state-text", "Token needed")
            assert not await here.page.locator("#upload").is_visible()
            await here.page.keyboard.type(TOKEN)
            await here.page.keyboard.press("Enter")
            await here.connected()

            await here.page.locator("#upload-file").set_input_files(clip)
            assert await here.page.locator("#upload-name").input_value() == "Anna"
            await here.page.locator("#upload-send").click()
            assert await here.text("#upload-state") == "", "only with the owner's consent is anything sent"
            await here.page.locator("#upload-consent").check()
            await here.page.locator("#upload-send").click()
            await here.until("#upload-state", "The voice Anna was added and is chosen.")
            assert (folder / "Anna.wav").read_bytes() == clip.read_bytes()
            await here.speak("In her voice.")
            await here.until("#who", "Spoken by the voice Anna, model original.")

            await here.page.locator("#upload-file").set_input_files(tmp_path / "tokens")
            await here.page.locator("#upload-name").fill("Bad")
            await here.page.locator("#upload-consent").check()
            await here.page.locator("#upload-send").click()
            await here.until("#error-code", "invalid-voice")

            await here.page.locator("#record").click()
            await here.until("#record-state", "Recording: 3 s")
            assert await here.page.locator("#record").get_attribute("aria-pressed") == "true"
            await here.page.locator("#record").click()
            await here.until("#record-state", "s recorded")
            await here.page.evaluate("() => { __heard.length = 0; }")
            await here.page.locator("#record-play").click()
            await here.until("#stop:enabled")
            await asyncio.sleep(1)
            await here.page.keyboard.press("Escape")
            level = np.abs(sound()).max()
            assert np.abs(await here.heard()).max() == pytest.approx(level, rel=0.1), "it can be heard before"
            await here.page.locator("#upload-name").fill("Ben")
            await here.page.locator("#upload-send").click()
            await here.until("#upload-state", "The voice Ben was added and is chosen.")
            await expect(here.page.locator("#voice")).to_have_value("Ben", timeout=SECONDS)
            recorded, rate = soundfile.read(folder / "Ben.wav")
            assert recorded.ndim == 1 and 3 <= len(recorded) / rate < 8
            assert np.abs(recorded).max() == pytest.approx(level, rel=0.1), "as the microphone heard it"
            await here.page.locator("#upload-undo").click()
            await here.until("#upload-state", "The voice Ben was removed.")
            assert [voice.name for voice in library.voices] == ["Anna"]
            await expect(here.page.locator("#voice option[value=Ben]")).to_have_count(0, timeout=SECONDS)


async def test_a_server_without_tokens_refuses_uploads(browser: Browser, tmp_path: Path) -> None:
    library = create_library([tmp_path / "voices"])
    model = model_of(NoiseEngine(model="original"))
    async with running(model, library=library, http_uri=HTTP) as server:
        async with shown(browser, server, expected=("403",)) as here:
            await here.connected()
            assert not await here.page.locator("#upload").is_visible(), "it is not even offered"
            await here.page.locator("#token").fill(TOKEN)
            await here.page.locator("#token-save").click()
            await here.connected()
            clip = {"name": "a.wav", "mimeType": "audio/wav", "buffer": audio()}
            await here.page.locator("#upload-file").set_input_files(clip)
            await here.page.locator("#upload-consent").check()
            await here.page.locator("#upload-send").click()
            await here.until("#error-code", "token-needed")
            assert "--http-token-file" in await here.text("#error-message")
            assert not library.voices


async def test_more_than_the_ring_holds_is_heard_whole(browser: Browser, tmp_path: Path) -> None:
    player = tmp_path / "page" / "player.js"
    text = player.read_text()
    small = text.replace("RING_SECONDS = 12;", "RING_SECONDS = 1.3;").replace(
        "AHEAD_SECONDS = 8;", "AHEAD_SECONDS = 0.2;"
    )
    assert small != text
    player.write_text(small)
    async with running(model_of(NoiseEngine(chunks=12)), http_uri=HTTP) as server, shown(browser, server) as here:
        await here.connected()
        await here.speak("Three seconds through a ring of one.")
        await here.until("#line-state", "Finished")
        assert len(here.sent) == 72000
        assert np.array_equal(await here.heard_exactly(), here.sent)
        assert await here.text("#underruns") == "0"


async def test_a_browser_without_sound_says_so(browser: Browser) -> None:
    silent = "AudioContext = class { constructor() { throw new Error('no device'); } };"
    engine = NoiseEngine(0.05, chunks=100)
    async with running(model_of(engine), http_uri=HTTP) as server:
        async with shown(browser, server, script=silent) as here:
            await here.connected()
            await here.speak("Nobody hears this.")
            await here.until("#error-code", "no-sound")
            assert "cannot play sound: no device" in await here.text("#error-message")
            await here.until("#stop:disabled")
            await here.until("#line-state", "Stopped")
    assert engine.made < 100
