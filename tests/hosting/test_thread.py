"""A host that runs an engine on a thread, and the messages of all hosts."""

from __future__ import annotations

import dataclasses
import enum
import threading
import types
import typing
from collections.abc import Callable, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wyoming_chatterbox.engine.base import CancelToken, Engine, EngineBroken, EngineError
from wyoming_chatterbox.hosting.base import (
    AudioChunk,
    EngineInfo,
    EngineSpec,
    LoadFailed,
    LoadPhase,
    SentenceJob,
    StatusReport,
)
from wyoming_chatterbox.hosting.thread import ThreadHost
from wyoming_chatterbox.speech_settings import GenerationSettings
from wyoming_chatterbox.testing.engines import SlowEngine, ToneEngine

SPEC = EngineSpec("tone")


def host_of(engine: Engine) -> ThreadHost:
    return ThreadHost("tone", lambda spec, report, cancel: engine)


def job(engine: ToneEngine, text: str = "Hello.") -> SentenceJob:
    return SentenceJob(1, text, engine.voices[0], GenerationSettings())


def ignore(phase: LoadPhase, progress: float | None) -> None:
    """Receives what the host is doing."""


def is_plain(kind: Any) -> bool:
    """Values of the type can be sent to another process without pickle."""
    origin, arguments = typing.get_origin(kind), [one for one in typing.get_args(kind) if one is not ...]
    if dataclasses.is_dataclass(kind):
        return all(is_plain(hint) for hint in typing.get_type_hints(kind).values())
    if origin in (tuple, types.UnionType, typing.Union):
        return all(is_plain(argument) for argument in arguments)
    if origin in (dict, Mapping):
        return arguments[0] is str  # the settings of a voice: numbers, words and switches
    if origin is np.ndarray:
        return True
    return kind in (int, float, bool, str, Path, type(None)) or (isinstance(kind, type) and issubclass(kind, enum.Enum))


@pytest.mark.parametrize("message", [EngineSpec, EngineInfo, SentenceJob, AudioChunk])
def test_what_crosses_a_host_is_a_plain_frozen_value(message: Any) -> None:
    assert is_plain(message)
    assert message.__dataclass_params__.frozen


def test_a_function_or_an_engine_is_no_plain_value() -> None:
    assert not is_plain(Callable[[], None]) and not is_plain(Engine) and not is_plain(Any)


async def test_an_engine_is_built_warmed_up_used_and_closed_on_one_thread() -> None:
    engine, threads = ToneEngine(), []

    def build(spec: EngineSpec, report: StatusReport, cancel: CancelToken) -> Engine:
        assert spec == SPEC
        report(LoadPhase.LOADING, 0.5)
        threads.append(threading.get_ident())
        return engine

    engine.warm_up = engine.close = lambda: threads.append(threading.get_ident())  # type: ignore[method-assign]
    host, phases = ThreadHost("tone", build), []
    info = await host.start(SPEC, lambda phase, progress: phases.append((phase, progress)))
    assert (info.fingerprint, info.sample_rate, info.voices, info.clones) == (
        engine.fingerprint, engine.sample_rate, engine.voices, False,
    )  # fmt: skip
    assert phases == [(LoadPhase.LOADING, 0.5), (LoadPhase.WARMING, None)]
    chunks = [chunk async for chunk in host.stream(job(engine))]
    assert [len(chunk.samples) for chunk in chunks] == [2400, 2400]
    assert [chunk.stats.chunk_count for chunk in chunks] == [1, 2]
    assert {(chunk.sample_rate, chunk.voice, chunk.cacheable) for chunk in chunks} == {(24000, engine.voices[0], True)}
    await host.stop()
    assert {*threads, *engine.threads} == engine.threads != {threading.get_ident()} and len(threads) == 3
    host.close()
    assert host.join(5) and len(threads) == 3, "closed once"


async def test_a_stopped_host_speaks_nothing_and_can_be_started_again() -> None:
    engine = ToneEngine()
    host = host_of(engine)
    for _ in range(2):
        with pytest.raises(EngineError, match="no engine of model tone is loaded"):
            await anext(host.stream(job(engine)))
        await host.start(SPEC, ignore)
        assert [chunk.seconds async for chunk in host.stream(job(engine))] == [0.1, 0.1]
        await host.stop()
    host.close()


async def test_closing_a_stream_aborts_its_job() -> None:
    engine = SlowEngine(0.01)
    host = host_of(engine)
    await host.start(SPEC, ignore)
    async with aclosing(host.stream(job(engine))) as chunks:
        async for _ in chunks:
            break
    await host.responsive()
    assert engine.made < 10, "the thread is free long before the sentence would have ended"
    host.close()


@pytest.mark.parametrize(
    ("error", "failure", "retryable"),
    [
        (EngineError("no weights here"), LoadFailed, False),
        (MemoryError("no room"), LoadFailed, True),
        (RuntimeError("CUDA error: unspecified launch failure"), EngineBroken, None),
    ],
)
async def test_a_load_that_fails_says_why_and_whether_it_may_pass(
    error: Exception, failure: type[Exception], retryable: bool | None
) -> None:
    def build(spec: EngineSpec, report: StatusReport, cancel: CancelToken) -> Engine:
        raise error

    host = ThreadHost("tone", build)
    with pytest.raises(failure, match=str(error)) as caught:
        await host.start(SPEC, ignore)
    assert getattr(caught.value, "retryable", None) is retryable
    assert caught.value.__cause__ is caught.value.__context__ is None, "a traceback holds what was loaded in part"
    host.close()


async def test_a_gpu_that_is_lost_in_a_sentence_is_told_apart_from_other_errors() -> None:
    for message, kind in (("CUDA error: device-side assert triggered", EngineBroken), ("a bug", RuntimeError)):
        engine = ToneEngine()
        error = RuntimeError(message)
        engine.work = lambda number, cancel, error=error: (_ for _ in ()).throw(error)  # type: ignore[method-assign,misc]
        host = host_of(engine)
        await host.start(SPEC, ignore)
        with pytest.raises(kind, match=message):
            await anext(host.stream(job(engine)))
        host.close()
