"""The queue, batches and jobs, with a backend that paints nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from sd2rt.engine.errors import InvalidArgument
from sd2rt.serve.errors import QueueFull, Stopping, UnknownJob, UnknownModel
from sd2rt.serve.jobs import ServedJob
from sd2rt.serve.order import Cancelled, Failed, Finished, Order, Previewed, Started, Stepped
from sd2rt.serve.service import Service
from sd2rt.serve.settings import ServeSettings
from tests.serve.fakes import FakeBackend

SOON_S = 30


@asynccontextmanager
async def serving(backend: FakeBackend, **settings: Any) -> AsyncIterator[Service]:
    """A service that runs, and is stopped whatever happens."""
    service = Service(ServeSettings(**{"models": ("toyworld",), "drain_s": 1.0, **settings}), backend)
    await service.start()
    try:
        yield service
    finally:
        backend.release()
        await service.stop()


async def painting(service: Service) -> None:
    """Wait until something is being painted."""
    async with asyncio.timeout(SOON_S):
        while not service.running:
            await asyncio.sleep(0.001)


def order(prompt: str = "a red cube", **options: Any) -> Order:
    return Order(model="toyworld", options={"prompt": prompt, "steps": 4, **options})


def test_an_order_comes_to_pictures_with_the_seed_that_was_drawn() -> None:
    async def run() -> None:
        async with serving(FakeBackend()) as service:
            job = await service.submit(order(images_per_prompt=2), "me")
            assert job.seeds[1] == job.seeds[0] + 1
            ending = await asyncio.wait_for(job.wait(), SOON_S)
            assert isinstance(ending, Finished)
            assert [parameters["seed"] for parameters in ending.parameters] == list(job.seeds)
            assert (job.state, job.count, job.step, job.total_steps) == ("done", 2, 4, 4)
            assert service.find(job.id, "me") is job

    asyncio.run(run())


def test_events_tell_all_of_it_to_everybody() -> None:
    async def run() -> None:
        backend = FakeBackend()
        backend.hold()
        async with serving(backend) as service:
            job = await service.submit(Order(model="toyworld", options={"prompt": "a cube", "steps": 4}, previews=2), "me")

            async def watch() -> list[type]:
                return [type(event) async for event in job.events()]

            watchers = [asyncio.create_task(watch()) for _ in range(2)]
            await asyncio.sleep(0)  # they listen
            backend.release()
            kinds = await asyncio.wait_for(asyncio.gather(*watchers), SOON_S)
            assert kinds[0] == kinds[1]
            assert [kinds[0].count(kind) for kind in (Started, Stepped, Previewed, Finished)] == [1, 4, 2, 1]
            assert await watch() == [Finished]

    asyncio.run(run())


def test_compatible_orders_are_painted_together_and_the_oldest_goes_first() -> None:
    async def run() -> None:
        backend = FakeBackend()
        backend.hold()
        async with serving(backend, batch=3) as service:
            first = await service.submit(order(), "me")
            await painting(service)
            sizes = [64, 128, 64, 128, 64, 64]
            jobs = [await service.submit(order(width=size), "me") for size in sizes]
            assert [job.position for job in jobs] == [1, 2, 3, 4, 5, 6]
            backend.release()
            await asyncio.wait_for(asyncio.gather(*(job.wait() for job in jobs)), SOON_S)
            ids = [job.id for job in jobs]
            assert backend.batches == [[first.id], [ids[0], ids[2], ids[4]], [ids[1], ids[3]], [ids[5]]]

    asyncio.run(run())


def test_a_full_queue_and_wrong_orders_are_refused() -> None:
    async def run() -> None:
        backend = FakeBackend()
        backend.hold()
        async with serving(backend, queue=1) as service:
            await service.submit(order(), "me")
            await painting(service)
            waiting = await service.submit(order(), "me")
            with pytest.raises(QueueFull) as full:
                await service.submit(order(), "me")
            assert full.value.retry_after_s >= 1
            service.cancel(waiting.id, "me")
            assert waiting.state == "cancelled"
            for wrong in ({"steps": 151}, {"images_per_prompt": 9}, {"width": 256, "height": 128}, {"nonsense": 1}, {"steps": 0}):
                with pytest.raises(InvalidArgument):
                    await service.submit(order(**wrong), "me")
            with pytest.raises(InvalidArgument, match="8,193 characters"):
                await service.submit(order("x" * 8193), "me")
            with pytest.raises(UnknownModel):
                await service.submit(Order(model="../toyworld", options={"prompt": "a"}), "me")
            assert service.queued == 0

    asyncio.run(run())


def test_owners_see_and_cancel_their_own_jobs_alone() -> None:
    async def run() -> None:
        backend = FakeBackend()
        backend.hold()
        async with serving(backend) as service:
            mine, other = await service.submit(order(), "me"), await service.submit(order(), "you")
            with pytest.raises(UnknownJob):
                service.find(other.id, "me")
            await painting(service)
            assert service.cancel_all("me") == 1
            assert isinstance(await asyncio.wait_for(mine.wait(), SOON_S), Cancelled)
            backend.release()
            assert isinstance(await asyncio.wait_for(other.wait(), SOON_S), Finished)
            assert service.jobs("me") == (mine,)

    asyncio.run(run())


def test_a_poison_job_fails_alone() -> None:
    async def run() -> None:
        backend = FakeBackend()
        backend.hold()
        async with serving(backend) as service:
            await service.submit(order(), "me")
            await painting(service)
            good = [await service.submit(order(), "me") for _ in range(3)]
            poison = await service.submit(order("poison"), "me")
            backend.release()
            for job in good:
                assert isinstance(await asyncio.wait_for(job.wait(), SOON_S), Finished)
            ending = await asyncio.wait_for(poison.wait(), SOON_S)
            assert isinstance(ending, Failed)
            assert ending.status == 503
            assert poison.id in ending.message
            assert sum(poison.id in batch for batch in backend.batches) == 3

    asyncio.run(run())


def test_stopping_finishes_what_was_taken_and_takes_nothing_more() -> None:
    async def run() -> None:
        backend = FakeBackend(step_s=0.01)
        async with serving(backend, drain_s=SOON_S) as service:
            jobs = [await service.submit(order(), "me") for _ in range(12)]
            stopping = asyncio.create_task(service.stop())
            await asyncio.sleep(0)
            with pytest.raises(Stopping):
                await service.submit(order(), "me")
            await stopping
            assert all(job.state == "done" for job in jobs)

    asyncio.run(run())


def test_what_does_not_end_in_time_is_cancelled_when_the_server_stops() -> None:
    async def run() -> None:
        backend = FakeBackend()
        backend.hold()
        async with serving(backend, drain_s=0.05) as service:
            jobs = [await service.submit(order(), "me") for _ in range(12)]
            await service.stop()
            assert {job.state for job in jobs} == {"cancelled"}

    asyncio.run(run())


def cancel_when_taken(service: Service, backend: FakeBackend, patch: pytest.MonkeyPatch) -> None:
    """Give up the first job of each batch after it was taken and before its batch has its first turn: the backend does not know it yet."""
    take = service._waiting.take

    def take_and_cancel() -> list[ServedJob]:
        jobs = take()
        asyncio.get_running_loop().call_soon(service.cancel, jobs[0].id, "me")
        return jobs

    patch.setattr(service._waiting, "take", take_and_cancel)
    patch.setattr(backend, "cancel", lambda job_id: None)


def test_a_job_given_up_before_its_batch_begins_is_not_painted(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        backend = FakeBackend()
        async with serving(backend) as service:
            cancel_when_taken(service, backend, monkeypatch)
            job = await service.submit(order(), "me")
            assert isinstance(await asyncio.wait_for(job.wait(), SOON_S), Cancelled)
            assert (backend.batches, service.running) == ([], 0)

    asyncio.run(run())


def test_a_job_given_up_before_its_batch_begins_is_left_out_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        backend = FakeBackend()
        async with serving(backend, batch_wait_ms=20.0) as service:
            cancel_when_taken(service, backend, monkeypatch)
            first, other = [await service.submit(order(), "me") for _ in range(2)]
            endings = await asyncio.wait_for(asyncio.gather(first.wait(), other.wait()), SOON_S)
            assert [type(ending) for ending in endings] == [Cancelled, Finished]
            assert backend.batches == [[other.id]]

    asyncio.run(run())


def test_a_server_that_stops_does_not_wait_for_a_job_given_up_meanwhile() -> None:
    async def run() -> None:
        backend = FakeBackend()
        async with serving(backend, drain_s=2 * SOON_S) as service:
            backend.hold()
            painted = await service.submit(order(), "me")
            await painting(service)
            waiting = await service.submit(order(width=128), "me")
            stopping = asyncio.create_task(service.stop())
            await asyncio.sleep(0)
            backend.slots = 0  # nobody takes it
            backend.release()
            await painted.wait()
            await asyncio.sleep(0.05)
            service.cancel(waiting.id, "me")
            await asyncio.wait_for(stopping, SOON_S)
            assert (painted.state, waiting.state) == ("done", "cancelled")

    asyncio.run(run())


def test_a_dispatcher_that_breaks_is_no_secret(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> list[ServedJob]:
        raise RuntimeError("an error of ours")

    async def run() -> None:
        async with serving(FakeBackend()) as service:
            assert service.ready
            monkeypatch.setattr(service._waiting, "take", broken)
            job = await service.submit(order(), "me")
            ending = await asyncio.wait_for(job.wait(), SOON_S)
            assert isinstance(ending, Failed)
            assert ending.status == 500
            assert not service.ready
            with pytest.raises(Stopping, match="not ready"):
                await service.submit(order(), "me")
        assert "an error of ours" in caplog.text

    asyncio.run(run())


def test_a_watcher_that_does_not_read_keeps_few_previews_and_every_end() -> None:
    async def run() -> None:
        backend = FakeBackend()
        backend.hold()
        async with serving(backend) as service:
            job = await service.submit(Order(model="toyworld", options={"prompt": "a cube", "steps": 9}, previews=8), "me")
            await painting(service)
            while job.state != "running":
                await asyncio.sleep(0)
            events = job.events()
            assert isinstance(await anext(events), Started)
            backend.release()
            await asyncio.wait_for(job.wait(), SOON_S)
            rest = [event async for event in events]
            assert [event.index for event in rest if isinstance(event, Previewed)] == [5, 6, 7]
            assert [event.step for event in rest if isinstance(event, Stepped)] == list(range(1, 10))
            assert isinstance(rest[-1], Finished)

    asyncio.run(run())
