"""Who hangs up on a stream of events, and when: OpenAI's stream gives its job up, that of a job's events does not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import httpx
import pytest
from starlette.types import Message

from sd2rt.serve.app import make_app
from sd2rt.serve.event_stream import EventStream
from sd2rt.serve.job_events import job_events
from sd2rt.serve.jobs import ServedJob
from sd2rt.serve.openai_replies import Shown
from sd2rt.serve.openai_stream import ImageStream
from sd2rt.serve.order import Cancelled, Order
from sd2rt.serve.service import Service
from sd2rt.serve.settings import ServeSettings
from tests.serve.conditions import WAIT_S, wait_until
from tests.serve.fakes import FakeBackend
from tests.serve.toyserver import serving

SCOPE = {"type": "http", "asgi": {"spec_version": "2.3"}}  # uvicorn's
Body = Callable[[Service, ServedJob], Awaitable[None]]


def with_held_job(body: Body) -> None:
    """Run something with a service and a job that has taken one of its two steps, and no more."""

    async def run() -> None:
        backend = FakeBackend()
        service = Service(ServeSettings(models=("toyworld",), drain_s=0.1), backend)
        await service.start()
        backend.hold(after=1)
        try:
            job = await service.submit(Order(model="toyworld", options={"prompt": "x", "steps": 2}, previews=2), "local")
            while job.preview is None:
                await asyncio.sleep(0.01)
            await asyncio.wait_for(body(service, job), WAIT_S)
        finally:
            backend.release()
            await service.stop()

    asyncio.run(run())


def stream_of(service: Service, job: ServedJob, openai: bool) -> EventStream:
    """Return the answer that tells of a job."""
    if openai:
        return ImageStream(service, job, "image_generation", Shown(created=0, size="64x64"))
    return EventStream(job_events(job))


async def gone() -> Message:
    """Say what is received from a client that has left."""
    return {"type": "http.disconnect"}


@pytest.mark.parametrize("openai", [True, False], ids=("openai", "events"))
def test_a_client_that_left_before_the_first_event(openai: bool) -> None:
    async def body(service: Service, job: ServedJob) -> None:
        async def send(message: Message) -> None:
            await asyncio.sleep(0)

        await stream_of(service, job, openai)(SCOPE, gone, send)
        assert job.unwanted == openai
        assert not job._listeners
        if openai:
            assert isinstance(await job.wait(), Cancelled)

    with_held_job(body)


@pytest.mark.parametrize("openai", [True, False], ids=("openai", "events"))
def test_a_client_that_leaves_while_it_reads_nothing(openai: bool) -> None:
    async def body(service: Service, job: ServedJob) -> None:
        sent = asyncio.Event()

        async def send(message: Message) -> None:
            if message.get("body"):
                sent.set()
                await asyncio.Event().wait()

        async def receive() -> Message:
            await sent.wait()
            return await gone()

        await stream_of(service, job, openai)(SCOPE, receive, send)
        assert not job._listeners
        assert job.unwanted == openai

    with_held_job(body)


def test_hanging_up_on_the_events_of_a_job_leaves_it_alone() -> None:
    backend = FakeBackend()
    service = Service(ServeSettings(models=("toyworld",)), backend)
    with serving(lambda: make_app(service)) as address, httpx.Client(base_url=address) as client:
        backend.hold()
        try:
            job = service.find(client.post("/v1/jobs", json={"prompt": "x", "steps": 2}).json()["id"], "local")
            with client.stream("GET", f"/v1/jobs/{job.id}/events") as reply:
                lines = reply.iter_lines()  # who lets go of it hangs up
                assert next(lines) == "event: started"
                assert len(job._listeners) == 1
            wait_until(lambda: not job._listeners)
            assert (job.state, job.unwanted) == ("running", False)
        finally:
            backend.release()
        wait_until(lambda: job.state == "done")
