"""A job as server-sent events: what keeps it alive, and what stays of a stream that is not read to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest

from sd2rt.serve.admission import Admitted
from sd2rt.serve.event_stream import COMMENT, encode, event_stream
from sd2rt.serve.jobs import ServedJob
from sd2rt.serve.order import Cancelled, Event, Order, Previewed, Started, Stepped

STARTED, CANCELLED = Started(total_steps=4, rows=1), Cancelled()
LONG_S = 60.0


def make_job() -> ServedJob:
    """A job that nobody paints: a test tells it what happens."""
    order = Order(model="toyworld", options={"prompt": "x"})
    return ServedJob(Admitted(order=order, seeds=(0,), width=64, height=64, steps=4, total_steps=4, key=None), "local")


def listeners(job: ServedJob) -> int:
    """How many watch a job."""
    return len(job._listeners)


async def write(event: Event) -> Iterable[bytes]:
    """Name the event; say nothing of steps, and two things of previews."""
    if isinstance(event, Stepped):
        return []
    written = encode(type(event).__name__, {})
    return [written, written] if isinstance(event, Previewed) else [written]


def test_an_event_as_it_is_written() -> None:
    assert encode("step", {"step": 1, "of": "ä\n"}) == b'event: step\ndata: {"step":1,"of":"\\u00e4\\n"}\n\n'


def test_comments_while_nothing_happens() -> None:
    async def run() -> None:
        job = make_job()
        stream = event_stream(job, write, keep_alive_s=0.01)
        assert [await anext(stream) for _ in range(3)] == [COMMENT] * 3
        job.tell(STARTED)
        job.tell(CANCELLED)
        said = [written async for written in stream if written != COMMENT]  # there may be one more
        assert said == [encode("Started", {}), encode("Cancelled", {})]

    asyncio.run(run())


def test_an_event_may_be_none_or_several() -> None:
    async def run() -> None:
        job = make_job()
        for event in (STARTED, Stepped(step=1, total_steps=4), Previewed(index=0, step=1, pictures=(b"",))):
            job.tell(event)
        stream = event_stream(job, write, LONG_S)
        first = await anext(stream)
        job.tell(CANCELLED)
        names = [first, *[written async for written in stream]]
        assert names == [encode(name, {}) for name in ("Started", "Previewed", "Previewed", "Cancelled")]
        assert listeners(job) == 0

    asyncio.run(run())


def test_a_job_that_has_ended_tells_its_end_alone() -> None:
    async def run() -> None:
        job = make_job()
        job.tell(STARTED)
        job.tell(CANCELLED)
        assert [written async for written in event_stream(job, write, LONG_S)] == [encode("Cancelled", {})]

    asyncio.run(run())


@pytest.mark.parametrize(
    "events", [(STARTED,), (STARTED, Stepped(step=1, total_steps=4)), (STARTED, CANCELLED)], ids=("none", "one", "end")
)
def test_who_closes_the_stream_watches_no_more(events: tuple[Event, ...]) -> None:
    """Whatever is unread then."""

    async def run() -> None:
        job = make_job()
        job.tell(events[0])
        stream = event_stream(job, write, LONG_S)
        await anext(stream)
        for event in events[1:]:
            job.tell(event)
        assert listeners(job) == 1
        await stream.aclose()
        assert listeners(job) == 0
        assert job.ending is (CANCELLED if CANCELLED in events else None)

    asyncio.run(run())


def test_who_is_cancelled_while_it_waits_watches_no_more() -> None:
    async def run() -> None:
        job = make_job()
        stream = event_stream(job, write, LONG_S)
        waiting = asyncio.ensure_future(anext(stream))
        while not listeners(job):
            await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert listeners(job) == 0
        assert job.ending is None

    asyncio.run(run())


def test_what_the_wording_raises_ends_the_stream() -> None:
    async def fail(event: Event) -> Iterable[bytes]:
        raise KeyError(type(event).__name__)

    async def run() -> None:
        job = make_job()
        job.tell(STARTED)
        with pytest.raises(KeyError, match="Started"):
            await anext(event_stream(job, fail, LONG_S))
        assert listeners(job) == 0
        assert job.ending is None

    asyncio.run(run())
