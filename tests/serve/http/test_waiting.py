"""Clients that hold their connection open until their pictures are there."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from starlette.requests import Request
from starlette.types import Message

from sd2rt.serve.jobs import ServedJob
from sd2rt.serve.order import Cancelled, Finished, Order
from sd2rt.serve.service import Service
from sd2rt.serve.settings import ServeSettings
from sd2rt.serve.waiting import NotPainted, owner_of, wait_for
from tests.serve.fakes import FakeBackend

Body = Callable[[Service, FakeBackend, ServedJob, asyncio.Event], Awaitable[None]]


def request_of(gone: asyncio.Event) -> Request:
    """A request whose client goes away when it is said."""

    async def receive() -> Message:
        await gone.wait()
        return {"type": "http.disconnect"}

    return Request({"type": "http", "method": "POST", "path": "/", "headers": [], "state": {}}, receive)


def with_job(body: Body, prompt: str = "x") -> None:
    """Run something with a service and a job that is held back."""

    async def run() -> None:
        backend = FakeBackend()
        service = Service(ServeSettings(models=("toyworld",), drain_s=0.1), backend)
        await service.start()
        backend.hold()
        try:
            job = await service.submit(Order(model="toyworld", options={"prompt": prompt, "steps": 2}), "local")
            await asyncio.wait_for(body(service, backend, job, asyncio.Event()), 10)
        finally:
            backend.release()
            await service.stop()

    asyncio.run(run())


def test_the_pictures_come_when_they_are_there() -> None:
    async def body(service: Service, backend: FakeBackend, job: ServedJob, gone: asyncio.Event) -> None:
        backend.release()
        request = request_of(gone)
        found = await wait_for(request, service, job)
        assert isinstance(found, Finished)
        assert request.state.job == job.id
        assert owner_of(request) == "local"

    with_job(body)


def test_who_hangs_up_gives_the_job_up() -> None:
    async def body(service: Service, backend: FakeBackend, job: ServedJob, gone: asyncio.Event) -> None:
        waiting = asyncio.create_task(wait_for(request_of(gone), service, job))
        await asyncio.sleep(0.05)
        gone.set()
        with pytest.raises(NotPainted) as caught:
            await waiting
        assert caught.value.status == 499
        assert isinstance(await job.wait(), Cancelled)

    with_job(body)


def test_a_request_that_is_given_up_gives_the_job_up() -> None:
    async def body(service: Service, backend: FakeBackend, job: ServedJob, gone: asyncio.Event) -> None:
        waiting = asyncio.create_task(wait_for(request_of(gone), service, job))
        await asyncio.sleep(0.05)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert isinstance(await job.wait(), Cancelled)

    with_job(body)


@pytest.mark.parametrize(("stopping", "status", "words"), [(False, 409, "was cancelled"), (True, 503, "was stopped")])
def test_a_job_that_others_cancel(stopping: bool, status: int, words: str) -> None:
    async def body(service: Service, backend: FakeBackend, job: ServedJob, gone: asyncio.Event) -> None:
        waiting = asyncio.create_task(wait_for(request_of(gone), service, job))
        await asyncio.sleep(0.05)
        service.cancel(job.id, "local")
        service.stopping = stopping
        with pytest.raises(NotPainted, match=words) as caught:
            await waiting
        assert caught.value.status == status

    with_job(body)


def test_a_job_that_fails() -> None:
    async def body(service: Service, backend: FakeBackend, job: ServedJob, gone: asyncio.Event) -> None:
        backend.release()
        with pytest.raises(NotPainted, match="asked to fail") as caught:
            await wait_for(request_of(gone), service, job)
        assert caught.value.status == 500

    with_job(body, prompt="please fail")
