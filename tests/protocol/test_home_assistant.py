"""Home Assistant's exact event sequences against a real server on a real socket."""

from __future__ import annotations

import asyncio
import json
import time

import numpy as np
import pytest
from wyoming.event import Event
from wyoming.info import Info

from wyoming_chatterbox.engine.embedded import HEART, create_embedded_engine
from wyoming_chatterbox.speech.model import Model
from wyoming_chatterbox.testing.engines import SlowEngine, ToneEngine, hosted_model, model_of, voice
from wyoming_chatterbox.testing.serving import describe, running, stream, synthesize

PLAIN = ["audio-start", "audio-chunk", "audio-stop"]
STREAMED = [*PLAIN, "synthesize-stopped"]


def embedded() -> Model:
    return hosted_model("embedded", (HEART,), lambda spec, report, cancel: create_embedded_engine())


async def test_full_text_is_spoken_once_in_both_ways_and_sounds_the_same() -> None:
    async with running(embedded()) as server:
        async with server.client() as client:
            plain = await synthesize(client, "The light is on. The door is locked.")
        async with server.client() as client:
            streamed = await stream(client, ["The light is on. The door is locked."])
    assert plain.types == PLAIN
    assert streamed.types == STREAMED
    assert plain.pcm == streamed.pcm
    samples = np.frombuffer(plain.pcm, dtype="<i2")
    assert 1.5 < len(samples) / 24000 < 6
    assert np.abs(samples).max() > 3000, "the voice is audible"
    assert np.abs(samples).max() < 32767, "the voice does not clip"


async def test_the_compatibility_synthesize_inside_a_stream_is_not_spoken() -> None:
    engine = ToneEngine()
    async with running(model_of(engine)) as server, server.client() as client:
        await stream(client, ["One sentence only."])
    assert engine.texts == ["One sentence only."]


@pytest.mark.parametrize(
    "pieces",
    [
        ["The lamp ", "is on. ", "Is the ", "door ", "shut? ", "Yes."],
        list("The lamp is on. Is the door shut? Yes."),
        ["The la", "mp is on.", " Is the door sh", "ut", "? Y", "es."],
        ["", "The lamp is on. Is the door shut? Yes.", ""],
    ],
    ids=["words", "characters", "half words", "empty deltas"],
)
async def test_deltas_give_the_same_sentences_however_they_are_cut(pieces: list[str]) -> None:
    engine = ToneEngine()
    async with running(model_of(engine)) as server, server.client() as client:
        answer = await stream(client, pieces)
    assert engine.texts == ["The lamp is on.", "Is the door shut?", "Yes."]
    assert answer.types == STREAMED


async def test_the_first_sentence_is_spoken_while_text_still_arrives() -> None:
    engine = ToneEngine()
    async with running(model_of(engine)) as server, server.client() as client:
        pieces = ["This is the first. ", "And here "] + ["is more "] * 8 + ["text."]
        answer = await stream(client, pieces, pause=0.1)
    assert answer.first_audio is not None
    assert answer.first_audio < 0.6, "the text took 1.1 s to arrive, its first sentence 0.1 s"
    assert answer.types == STREAMED, "one audio-start for the whole stream"


@pytest.mark.parametrize("text", ["Yes", "3", "Wohnzimmer", "I"])
async def test_one_word_is_spoken(text: str) -> None:
    engine = ToneEngine()
    async with running(model_of(engine)) as server:
        async with server.client() as client:
            assert (await stream(client, [text])).types == STREAMED
        async with server.client() as client:
            assert (await synthesize(client, text)).types == PLAIN
    assert engine.texts == [text, text]


@pytest.mark.parametrize("text", ["", " ", "\n\n", "...", "?!", "😀", "**", "- ", "---", "\u200b", "`"])
async def test_blank_text_ends_at_once_without_audio_and_without_an_error(text: str) -> None:
    engine = ToneEngine()
    async with running(model_of(engine)) as server:
        async with server.client() as client:
            plain = await synthesize(client, text)
        async with server.client() as client:
            streamed = await stream(client, [text])
    assert plain.types == ["audio-start", "audio-stop"]
    assert streamed.types == ["audio-start", "audio-stop", "synthesize-stopped"]
    assert max(plain.seconds, streamed.seconds) < 1
    assert engine.texts == []


async def test_a_stream_without_any_chunk_ends() -> None:
    async with running(model_of(ToneEngine())) as server, server.client() as client:
        assert (await stream(client, [])).types == ["audio-start", "audio-stop", "synthesize-stopped"]


async def test_several_streams_and_plain_requests_follow_each_other_on_one_connection() -> None:
    engine = ToneEngine()
    async with running(model_of(engine)) as server, server.client() as client:
        for number in range(3):
            assert (await stream(client, [f"Stream {number}."])).types == STREAMED
            assert (await synthesize(client, f"Plain {number}.")).types == PLAIN
    assert engine.texts == [text for number in range(3) for text in (f"Stream {number}.", f"Plain {number}.")]


async def test_every_audio_event_of_a_stream_has_one_format() -> None:
    async with running(model_of(ToneEngine()), sample_rate=16000) as server, server.client() as client:
        answer = await stream(client, ["One. ", "Two. ", "Three."])
    audio = [event.data for event in answer.events if event.type in ("audio-start", "audio-chunk")]
    assert {(data["rate"], data["width"], data["channels"]) for data in audio} == {(16000, 2, 1)}
    assert answer.types.count("audio-start") == 1


async def test_info_satisfies_the_clients_parser_and_says_what_home_assistant_needs() -> None:
    async with running(model_of(ToneEngine())) as server, server.client() as client:
        info = Info.from_event(await describe(client))
    program = info.tts[0]
    assert program.installed and program.supports_synthesize_streaming
    assert (program.name, program.version) == ("chatterbox", "0.1.0")
    assert "tone ready" in (program.description or "")
    assert [(voice.name, voice.languages, voice.installed) for voice in program.voices] == [("tone", ["en"], True)]
    assert info.satellite is None and not info.asr


async def test_info_of_any_size_is_read_by_the_client() -> None:
    engine = ToneEngine()
    engine.voices = tuple(voice(f"voice number {number}", "tone") for number in range(3000))
    async with running(model_of(engine)) as server, server.client() as client:
        assert len(Info.from_event(await describe(client)).tts[0].voices) == 3000
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b'{"type": "describe"}\n')
        header = json.loads(await reader.readline())
        writer.close()
    assert header["data_length"] > 64 * 1024, "more than the client takes in a header line"


async def test_streaming_can_be_turned_off() -> None:
    async with running(model_of(ToneEngine()), streaming=False) as server, server.client() as client:
        assert not Info.from_event(await describe(client)).tts[0].supports_synthesize_streaming


async def test_describe_is_answered_at_once_on_any_connection_while_speech_is_made() -> None:
    async with running(model_of(SlowEngine(seconds=0.02, chunks=40))) as server:
        async with server.client() as speaking, server.client() as polling:
            answer = asyncio.create_task(stream(speaking, ["A long answer."]))
            await asyncio.sleep(0.1)
            waits = []
            for _ in range(20):
                started = time.perf_counter()
                await describe(polling)
                waits.append(time.perf_counter() - started)
            assert not answer.done(), "the speech was over before it was measured"
            assert max(waits) < 0.4
            assert (await answer).types == STREAMED


async def test_describe_is_answered_between_the_audio_of_the_same_connection() -> None:
    async with running(model_of(SlowEngine(seconds=0.02, chunks=20))) as server, server.client() as client:
        answer = asyncio.create_task(synthesize(client, "A long answer."))
        await asyncio.sleep(0.1)
        await client.write_event(Event("describe"))
        types = (await answer).types
    assert types == ["audio-start", "audio-chunk", "info", "audio-chunk", "audio-stop"]


async def test_two_clients_at_once_take_turns_and_get_their_own_audio() -> None:
    engine = SlowEngine(seconds=0.001, chunks=3)
    async with running(model_of(engine)) as server:
        async with server.client() as one, server.client() as two:
            first, second = await asyncio.gather(
                stream(one, ["Alpha one. Alpha two. Alpha three. Alpha four."]),
                stream(two, ["Beta one. Beta two. Beta three. Beta four."]),
            )
    assert first.types == second.types == STREAMED
    # The tone's value is the sentence's number: every client has the four values of its own sentences.
    for answer, name in ((first, "Alpha"), (second, "Beta")):
        values = {round(int(value) * 1000 / 32767) for value in np.frombuffer(answer.pcm, dtype="<i2")} - {0}
        assert {engine.texts[value - 1].split()[0] for value in values} == {name}
        assert len(values) == 4
    order = [text.split()[0] for text in engine.texts]
    assert order != sorted(order), "a long text does not keep the other client waiting until its end"
