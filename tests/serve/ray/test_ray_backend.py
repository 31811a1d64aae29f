"""Replicas of a real Ray cluster on this machine, two of them, one killed: everybody is answered, and pictures are right to the byte."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Coroutine, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import pytest

from sd2rt.serve.backend import Task
from sd2rt.serve.order import LAST, Cancelled, Event, Finished, Order, Previewed, Started, Stepped
from sd2rt.serve.painting import paint_batch
from sd2rt.serve.ray_backend import RayBackend
from sd2rt.serve.ray_settings import RaySettings
from sd2rt.serve.service import Service
from sd2rt.serve.settings import Limits, ServeSettings
from sd2rt.serve.shelf import Shelf, ShelfSettings
from tests.serve.ray.processes import descendants, listening, own_environment, replicas, require_ray

require_ray()

SETTINGS = ServeSettings(models=("toyworld",), target="cpu", threads=1, queue=32, batch=1, limits=Limits(steps=500))
OWNER = "local"
SOON_S = 30.0

pytestmark = pytest.mark.slow  # a cluster takes ten seconds to start, in every process of the tests


@dataclass
class Rig:
    """A running service over two replicas, and what paints the same here."""

    runner: asyncio.Runner
    backend: RayBackend
    service: Service
    shelf: Shelf = field(default_factory=lambda: Shelf(ShelfSettings(models={"toyworld": "toyworld"}, target="cpu", threads=1)))

    def run(self, work: Coroutine[Any, Any, Any], within_s: float = SOON_S) -> Any:
        """Run something in the service's loop."""
        return self.runner.run(asyncio.wait_for(work, within_s))

    def expected(self, order: Order) -> tuple[bytes, ...]:
        """Paint an order here."""
        *_, (_, event) = paint_batch(self.shelf, [Task(id="here", order=order)], tuple)
        assert isinstance(event, Finished)
        return event.pictures


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with own_environment(SD2RT_CACHE=str(tmp_path_factory.mktemp("cache")), OMP_NUM_THREADS="1"):
        backend = RayBackend(SETTINGS, RaySettings(replicas=(2, 2), cpus=0.5))
        rig = Rig(asyncio.Runner(), backend, Service(SETTINGS, backend))
        rig.shelf.open("toyworld")  # builds the engines that replicas take
        try:
            rig.run(rig.service.start(), 120)
            yield rig
        finally:
            rig.run(rig.service.stop(), 60)
            rig.runner.close()
            rig.shelf.close()


def make(seed: int, steps: int = 4, **more: Any) -> Order:
    return Order(model="toyworld", options={"prompt": "a large red sphere, gray floor", "seed": seed, "steps": steps}, **more)


def test_a_picture_is_the_one_that_is_painted_here(rig: Rig) -> None:
    order = make(7)

    async def paint() -> Any:
        return await (await rig.service.submit(order, OWNER)).wait()

    finished = rig.run(paint())
    assert isinstance(finished, Finished)
    assert finished.pictures == rig.expected(order)
    assert finished.parameters[0]["seed"] == 7


def test_two_orders_in_one_batch_with_previews_and_one_given_up(rig: Rig) -> None:
    batch = [Task(id="one", order=make(1, 60, previews=2)), Task(id="two", order=make(2, 60))]
    events: list[tuple[str, Event]] = []

    async def paint() -> None:
        async for task_id, event in rig.backend.paint(batch):
            events.append((task_id, event))
            if task_id == "two" and isinstance(event, Stepped) and event.step >= 2:
                rig.backend.cancel("two")

    rig.run(paint())
    one = [event for task_id, event in events if task_id == "one"]
    assert one[0] == Started(total_steps=60, rows=2)
    assert [event.index for event in one if isinstance(event, Previewed)] == [0, 1]
    assert isinstance(one[-1], Finished)
    *_, last = (event for task_id, event in events if task_id == "two")
    assert last == Cancelled()
    assert sum(isinstance(event, LAST) for _, event in events) == 2


def test_a_cancel_frees_the_replica_within_a_step(rig: Rig) -> None:
    async def cancel_both() -> tuple[float, list[Any]]:
        jobs = [await rig.service.submit(make(seed, 500), OWNER) for seed in (1, 2)]
        while any(job.step < 2 for job in jobs):
            await asyncio.sleep(0.01)
        began = time.perf_counter()
        for job in jobs:
            rig.service.cancel(job.id, OWNER)
        endings = [await job.wait() for job in jobs]
        seconds = time.perf_counter() - began
        return seconds, [*endings, await (await rig.service.submit(make(3), OWNER)).wait()]

    seconds, (one, two, after) = rig.run(cancel_both())
    assert (one, two) == (Cancelled(), Cancelled())
    assert isinstance(after, Finished)
    assert seconds < 1  # a step takes 0.01 s, 500 of them 5 s


def test_a_cancel_before_the_first_step_is_heard_too(rig: Rig) -> None:
    async def cancel_at_once() -> tuple[Event, Any]:
        events: list[Event] = []

        async def paint() -> None:
            async for _, event in rig.backend.paint([Task(id="x", order=make(1, 500))]):
                events.append(event)

        painting = asyncio.create_task(paint())
        await asyncio.sleep(0)  # it is on its way
        rig.backend.cancel("x")
        await painting
        return events[-1], await (await rig.service.submit(make(3), OWNER)).wait()

    last, after = rig.run(cancel_at_once())
    assert last == Cancelled()
    assert isinstance(after, Finished)


def test_our_cluster_listens_on_loopback_but_for_a_port_of_each_replica(rig: Rig) -> None:
    until = time.monotonic() + SOON_S
    while len(painting := replicas()) < 2 and time.monotonic() < until:  # one may have been killed by another test
        time.sleep(0.1)
    assert len(painting) == 2
    assert os.environ["RAY_AUTH_MODE"] == "token"
    for pid, command in descendants().items():
        outside = [address for address in listening(pid) if address != "127.0.0.1"]
        assert outside == (["::"] if pid in painting else []), command


def test_a_batch_that_is_closed_ends_its_replica_which_hangs_and_no_other(rig: Rig) -> None:
    begun: set[str] = set()

    async def paint(name: str, steps: int) -> Event:
        async with aclosing(rig.backend.paint([Task(id=name, order=make(1, steps))])) as events:
            told: list[Event] = []
            async for _, event in events:
                begun.add(name)
                told.append(event)
        return told[-1]

    async def hang() -> tuple[int, list[Event], int]:
        await asyncio.gather(paint("warm-1", 60), paint("warm-2", 60))
        both = [asyncio.create_task(paint(name, 400)) for name in ("left", "right")]
        while not begun.issuperset({"left", "right"}):
            await asyncio.sleep(0.01)
        stopped = replicas()[0]
        os.kill(stopped, signal.SIGSTOP)
        done, hung = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        for task in hung:
            task.cancel()
        await asyncio.wait(hung)
        again = [await asyncio.wait_for(paint(f"again-{number}", 60), SOON_S) for number in range(3)]
        while len(replicas()) < 2 or stopped in replicas():
            await asyncio.sleep(0.1)
        return len(hung), [task.result() for task in done] + again, stopped

    waited, endings, stopped = rig.run(hang(), 120)
    assert (waited, [type(ending) for ending in endings]) == (1, [Finished] * 4)
    assert stopped not in descendants()


def test_a_killed_replica_costs_nobody_a_picture(rig: Rig) -> None:
    orders = [make(seed, 30) for seed in range(8)]

    async def paint() -> list[Any]:
        jobs = [await rig.service.submit(order, OWNER) for order in orders]
        while sum(job.step > 1 for job in jobs) < 2:
            await asyncio.sleep(0.01)
        os.kill(replicas()[0], signal.SIGKILL)
        return [await job.wait() for job in jobs]

    endings = rig.run(paint(), 120)
    assert [type(ending) for ending in endings] == [Finished] * 8
    assert [ending.pictures for ending in endings] == [rig.expected(order) for order in orders]
