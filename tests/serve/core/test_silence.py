"""Workers that hang: they live, and say nothing."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncGenerator

import pytest

from sd2rt.serve import worker
from sd2rt.serve.errors import ServeError, WorkerLost
from sd2rt.serve.order import Cancelled, Event, Finished, Started, Stepped
from sd2rt.serve.service import Service
from sd2rt.serve.settings import Limits, ServeSettings
from sd2rt.serve.silence import unless_silent
from sd2rt.serve.workers import LocalBackend
from tests.serve.core.conftest import LONG, order

TIMEOUT_S = 120
SOON_S = 0.05


def test_what_comes_in_time_passes_and_the_source_is_closed() -> None:
    closed = []

    async def events() -> AsyncGenerator[tuple[str, Event]]:
        try:
            for step in range(1, 4):
                await asyncio.sleep(0)
                yield "job-a", Stepped(step=step, total_steps=3)
        finally:
            closed.append(True)

    async def read(seconds: float) -> list[Event]:
        return [event async for _, event in unless_silent(events(), seconds)]

    for seconds in (TIMEOUT_S, 0.0):
        assert asyncio.run(read(seconds)) == [Stepped(step=step, total_steps=3) for step in (1, 2, 3)]
    assert closed == [True, True]


def test_silence_closes_the_source_and_is_a_lost_worker() -> None:
    closed = []

    async def events() -> AsyncGenerator[tuple[str, Event]]:
        try:
            yield "job-a", Started(total_steps=3, rows=1)
            await asyncio.Event().wait()
        finally:
            closed.append(True)

    async def read() -> None:
        async for _ in unless_silent(events(), SOON_S):
            pass

    with pytest.raises(WorkerLost, match=r"nothing for 0\.05 s"):
        asyncio.run(read())
    assert closed == [True]


def test_signs_of_life_are_no_silence_and_are_not_passed_on() -> None:
    async def events() -> AsyncGenerator[tuple[str, Event] | None]:
        for _ in range(8):
            await asyncio.sleep(SOON_S)
            yield None
        yield "job-a", Started(total_steps=3, rows=1)

    async def read() -> list[tuple[str, Event]]:
        return [told async for told in unless_silent(events(), 5 * SOON_S)]

    assert asyncio.run(read()) == [("job-a", Started(total_steps=3, rows=1))]


def test_a_timeout_of_the_backend_itself_is_no_silence() -> None:
    async def events() -> AsyncGenerator[tuple[str, Event]]:
        yield "job-a", Started(total_steps=3, rows=1)
        raise TimeoutError("its own")

    async def read() -> None:
        async for _ in unless_silent(events(), TIMEOUT_S):
            pass

    with pytest.raises(TimeoutError, match="its own"):
        asyncio.run(read())


def test_a_worker_that_hangs_is_replaced_and_its_job_begun_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "STOP_S", 0.1)

    async def hang() -> None:
        limits = Limits(steps=LONG)
        settings = ServeSettings(models=("toyworld",), target="cpu", threads=1, limits=limits, drain_s=1.0, hang_s=TIMEOUT_S)
        backend = LocalBackend(settings)
        service = Service(settings, backend)
        await service.start()
        try:
            (pid,) = backend.pids
            monkeypatch.setattr(backend, "_hang_s", 3.0)  # of batches; a process may take longer to start
            first = await service.submit(order(width=128, height=128, images_per_prompt=8, steps=LONG), "me")
            other = await service.submit(order(seed=2), "me")
            while not first.step:
                await asyncio.sleep(0.005)
            os.kill(pid, signal.SIGSTOP)
            while not (first.lost and first.step):
                await asyncio.sleep(0.005)
            service.cancel(first.id, "me")
            assert isinstance(await first.wait(), Cancelled)
            assert isinstance(await other.wait(), Finished)
            assert (first.lost, other.lost) == (1, 0)
            assert pid not in backend.pids
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)
        finally:
            await service.stop()

    asyncio.run(asyncio.wait_for(hang(), TIMEOUT_S))


def test_a_worker_that_hangs_before_it_is_up_has_not_come_up() -> None:
    async def start() -> None:
        backend = LocalBackend(ServeSettings(models=("toyworld",), target="cpu", threads=1, hang_s=SOON_S))
        try:
            with pytest.raises(ServeError, match=r"did not come up: it said nothing for 0\.05 s"):
                await backend.start()
        finally:
            await backend.stop()

    asyncio.run(asyncio.wait_for(start(), TIMEOUT_S))
