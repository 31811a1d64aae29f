"""How a batch on its way ends, over a handle and a board in Ray's place: closed, silent, recalled, lost."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from sd2rt.serve.backend import Task
from sd2rt.serve.errors import WorkerLost
from sd2rt.serve.order import Cancelled, Event, Failed, Order, Started
from sd2rt.serve.ray_backend import RayBackend
from sd2rt.serve.ray_settings import RaySettings
from sd2rt.serve.settings import ServeSettings
from sd2rt.serve.wire import encode_event

BATCH = [Task(id=name, order=Order(model="toyworld", options={"prompt": "a red cube"})) for name in ("one", "two")]
STARTED = [encode_event(task.id, Started(total_steps=4, rows=2)) for task in BATCH]
ENDED = [encode_event(task.id, Failed(message="no room", status=500)) for task in BATCH]


class RayError(Exception):
    """In the place of Ray's own."""


class TaskCancelledError(RayError):
    """In the place of Ray's own."""


class Stream:
    """What a replica says, then an error, or nothing more until it is cancelled."""

    def __init__(self, said: list[bytes], error: Exception | None = None) -> None:
        self.said = said
        self.error = error
        self.cancelled = asyncio.Event()

    def cancel(self) -> None:
        self.cancelled.set()

    async def __aiter__(self) -> AsyncGenerator[bytes]:
        for content in self.said:
            yield content
        if self.error is not None:
            raise self.error
        await self.cancelled.wait()
        raise TaskCancelledError


class Calls:
    """A handle or a board that notes what is called, `answer` being what `paint` returns."""

    def __init__(self, answer: Stream | None = None) -> None:
        self.answer = answer
        self.made: list[tuple[str, Any]] = []

    def __getattr__(self, name: str) -> Any:
        def remote(*arguments: Any) -> Stream | None:
            self.made.append((name, *arguments))
            return self.answer

        return SimpleNamespace(remote=remote)


@pytest.fixture(autouse=True)
def errors_of_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have modules in Ray's place, since whoever imports it for good decides for the other tests how it is set up."""
    for name in ("ray", "ray.serve", "ray.exceptions", "ray.serve.exceptions"):
        module = ModuleType(name)
        module.__dict__.update(RayError=RayError, TaskCancelledError=TaskCancelledError, RayServeException=type("Other", (Exception,), {}))
        monkeypatch.setitem(sys.modules, name, module)


def connected(stream: Stream, hang_s: float = 0.0) -> tuple[RayBackend, Calls]:
    backend, board = RayBackend(ServeSettings(models=("toyworld",), hang_s=hang_s), RaySettings()), Calls()
    backend._handle, backend._board = Calls(stream), board
    return backend, board


def run(scene: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scene, 10))


def test_a_batch_that_says_nothing_and_is_closed_has_its_replica_ended() -> None:
    async def scene() -> None:
        stream = Stream(STARTED[:1])
        backend, board = connected(stream)
        async with aclosing(backend.paint(BATCH)) as events:
            assert (await anext(events))[0] == "one"
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(events), 0.01)
        assert stream.cancelled.is_set()
        assert board.made == [("end", ["1/one", "1/two"])]
        assert not backend._places.locked()  # the next one need not wait

    run(scene())


def test_a_batch_that_says_nothing_for_long_is_lost_and_its_replica_ended() -> None:
    async def scene() -> None:
        stream = Stream(STARTED)
        backend, board = connected(stream, hang_s=0.05)
        events = backend.paint(BATCH)
        assert [(await anext(events))[0] for _ in range(2)] == ["one", "two"]
        with pytest.raises(WorkerLost, match="said nothing for"):
            await anext(events)
        assert stream.cancelled.is_set()
        assert board.made == [("end", ["1/one", "1/two"])]

    run(scene())


def test_a_batch_that_is_closed_between_two_events_has_its_replica_ended() -> None:
    async def scene() -> None:
        stream = Stream(STARTED)
        backend, board = connected(stream)
        events = backend.paint(BATCH)
        await anext(events)
        await events.aclose()
        assert stream.cancelled.is_set()
        assert board.made == [("end", ["1/one", "1/two"])]

    run(scene())


def test_a_batch_that_has_ended_leaves_its_replica_alone() -> None:
    async def scene() -> None:
        stream = Stream(STARTED + ENDED)
        backend, board = connected(stream)
        events = backend.paint(BATCH)
        assert [(await anext(events))[0] for _ in range(4)] == ["one", "two"] * 2
        await events.aclose()
        assert not stream.cancelled.is_set()
        assert board.made == [("forget", ["1/one", "1/two"])]

    run(scene())


def test_a_batch_that_is_recalled_ends_in_cancelled() -> None:
    async def scene() -> None:
        stream = Stream([])
        backend, board = connected(stream)
        events: list[tuple[str, Event]] = []

        async def paint() -> None:
            async for event in backend.paint(BATCH):
                events.append(event)

        painting = asyncio.create_task(paint())
        await asyncio.sleep(0.01)
        for task in BATCH:
            assert not stream.cancelled.is_set()
            backend.cancel(task.id)
        await painting
        assert sorted(events, key=lambda event: event[0]) == [("one", Cancelled()), ("two", Cancelled())]
        assert board.made[-1] == ("forget", ["1/one", "1/two"])

    run(scene())


def test_a_batch_that_is_lost_is_told_and_what_is_left_of_its_replica_is_ended() -> None:
    async def scene() -> None:
        backend, board = connected(Stream(STARTED, RayError("it died")))
        with pytest.raises(WorkerLost, match="a replica is gone: RayError"):
            async for _ in backend.paint(BATCH):
                pass
        assert board.made == [("end", ["1/one", "1/two"])]

    run(scene())


def test_a_batch_that_is_painted_again_is_another_to_the_board() -> None:
    async def scene() -> None:
        backend, board = connected(Stream(STARTED, RayError("it died")))
        for _ in range(2):
            async with aclosing(backend.paint(BATCH)) as events:
                await anext(events)
        assert board.made == [("end", ["1/one", "1/two"]), ("end", ["2/one", "2/two"])]

    run(scene())


def test_once_the_backend_is_stopped_nobody_is_asked() -> None:
    async def scene() -> None:
        stream = Stream(STARTED)
        backend, board = connected(stream)
        events = backend.paint(BATCH)
        await anext(events)
        backend._handle = None
        await events.aclose()
        assert (stream.cancelled.is_set(), board.made) == (False, [])

    run(scene())
