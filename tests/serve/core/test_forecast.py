"""When a batch is likely to be over."""

from __future__ import annotations

import asyncio

import pytest

from sd2rt.serve.admission import Admitted
from sd2rt.serve.errors import QueueFull
from sd2rt.serve.forecast import FIRST_GUESS_S, Forecast, work_of
from sd2rt.serve.jobs import ServedJob
from sd2rt.serve.order import Cancelled, Finished, Order, Stepped
from sd2rt.serve.service import Service
from sd2rt.serve.settings import ServeSettings
from tests.serve.core.conftest import order
from tests.serve.fakes import FakeBackend

TIMEOUT_S = 60


def job(steps: int = 10, model: str = "toyworld", count: int = 1) -> ServedJob:
    """One of 8 x 8 pixels."""
    asked = Order(model=model, options={"prompt": "a"})
    return ServedJob(Admitted(order=asked, seeds=(1,) * count, width=8, height=8, steps=steps, total_steps=steps, key=None), "me")


def finished(*jobs: ServedJob) -> list[ServedJob]:
    """Jobs with their pictures."""
    for each in jobs:
        each.tell(Finished(pictures=(), parameters=(), timings={}))
    return list(jobs)


def test_work_is_pixels_times_steps_left() -> None:
    begun = job(steps=10, count=2)
    assert work_of([begun, job(steps=3)]) == 64 * (2 * 10 + 3)
    begun.tell(Stepped(step=4, total_steps=10))
    assert work_of([begun]) == 64 * 2 * 6
    assert work_of(finished(begun)) == 0


def test_the_pace_is_the_median_of_a_models_own_batches() -> None:
    forecast = Forecast()
    assert forecast.seconds([job()]) == FIRST_GUESS_S
    for seconds in (1.0, 2.0, 30.0):
        forecast.learn(finished(job()), 64 * 10, seconds)
    assert forecast.seconds([job(steps=150, count=8)]) == pytest.approx(2.0 * 8 * 15)
    assert forecast.seconds([job(model="sd21")]) == FIRST_GUESS_S


def test_what_was_given_up_says_nothing() -> None:
    forecast = Forecast()
    given_up = job()
    given_up.tell(Cancelled())
    forecast.learn([given_up, *finished(job())], 64 * 20, 0.001)
    assert forecast.seconds([job()]) == FIRST_GUESS_S


def test_who_is_refused_is_told_when_a_long_order_that_is_painted_will_be_over() -> None:
    async def run() -> None:
        backend = FakeBackend(step_s=0.05)
        service = Service(ServeSettings(models=("toyworld",), target="cpu", queue=1), backend)
        await service.start()
        try:
            quick = await service.submit(order(steps=2), "me")
            assert isinstance(await asyncio.wait_for(quick.wait(), TIMEOUT_S), Finished)
            backend.hold()
            await service.submit(order(steps=150, images_per_prompt=8), "me")
            while not service.running:
                await asyncio.sleep(0.005)
            await service.submit(order(), "me")
            with pytest.raises(QueueFull) as full:
                await service.submit(order(), "me")
            assert full.value.retry_after_s >= 0.05 * 2 / 2 * 150 * 8
        finally:
            service.cancel_all("me")
            backend.release()
            await service.stop()

    asyncio.run(asyncio.wait_for(run(), TIMEOUT_S))
