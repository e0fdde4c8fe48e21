"""The requests of one connection: in order, one at a time, each until it is cancelled."""

from __future__ import annotations

import asyncio

import pytest

from wyoming_chatterbox.speech.errors import ServerBusy
from wyoming_chatterbox.speech.request import SpeechRequest, TextStream
from wyoming_chatterbox.speech.turns import MAX_PENDING, Turn, TurnQueue


def turn() -> Turn:
    return Turn(SpeechRequest(TextStream.of("Hello.", 100)))


async def test_turns_are_answered_in_order_one_at_a_time_until_the_queue_is_closed() -> None:
    queue: TurnQueue[Turn] = TurnQueue()
    answered: list[Turn] = []

    async def answer(current: Turn) -> None:
        assert queue.current is current
        await asyncio.sleep(0)
        assert queue.current is current, "it stays until it is answered"
        answered.append(current)

    answering = asyncio.create_task(queue.answer_all(answer))
    turns = [turn() for _ in range(3)]
    for added in turns[:2]:
        queue.add(added)
    while queue:
        await asyncio.sleep(0)
    assert queue.current is None and not answering.done()
    queue.add(turns[2])
    queue.close()
    queue.add(last := turn())
    await asyncio.wait_for(answering, 5)
    assert answered == [*turns, last], "what was added before the queue was empty is answered too"


async def test_the_owner_hears_of_every_change() -> None:
    lengths: list[int] = []
    queue: TurnQueue[Turn] = TurnQueue(on_change=lambda: lengths.append(len(queue)))

    async def answer(_: Turn) -> None:
        pass

    queue.add(turn())
    queue.add(turn())
    queue.close()
    idle_since = queue.idle_since
    await asyncio.wait_for(queue.answer_all(answer), 5)
    assert lengths == [1, 2, 1, 0]
    assert queue.idle_since > idle_since


def test_a_queue_is_full_at_its_limit() -> None:
    queue: TurnQueue[Turn] = TurnQueue()
    for _ in range(MAX_PENDING):
        assert not queue.is_full
        queue.add(turn())
    assert queue.is_full
    queue.clear()
    assert not queue.is_full and not queue


def test_a_turn_that_is_refused_drops_its_text() -> None:
    refused = turn()
    assert refused.request.text.waiting_chars
    refused.refuse(ServerBusy("full"))
    assert isinstance(refused.error, ServerBusy) and not refused.request.text.waiting_chars


async def test_a_turn_that_is_cancelled_ends_its_answer_and_not_its_connection() -> None:
    cancelled = turn()
    began, ended = asyncio.Event(), asyncio.Event()

    async def answer() -> None:
        began.set()
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)
            ended.set()

    running = asyncio.create_task(cancelled.run(answer()))
    await began.wait()
    cancelled.cancel()
    assert await asyncio.wait_for(running, 5) is False
    assert ended.is_set()


async def test_a_turn_that_is_cancelled_before_it_begins_is_not_answered() -> None:
    cancelled = turn()
    cancelled.cancel()
    began = asyncio.Event()

    async def answer() -> None:
        began.set()

    assert await cancelled.run(answer()) is False
    assert not began.is_set()


async def test_an_error_of_an_answer_is_raised() -> None:
    async def answer() -> None:
        raise ServerBusy("full")

    with pytest.raises(ServerBusy, match="full"):
        await turn().run(answer())


async def test_a_connection_that_ends_ends_the_answer() -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def answer() -> None:
        began.set()
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    running = asyncio.create_task(turn().run(answer()))
    await began.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert ended.is_set()
