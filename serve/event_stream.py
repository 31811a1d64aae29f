"""A job as a stream of server-sent events, whatever they are called and say: from now on to its last event."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from starlette.responses import StreamingResponse

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from sd2rt.serve.jobs import ServedJob
    from sd2rt.serve.order import Event

KEEP_ALIVE_S = 15.0
COMMENT = b": still here\n\n"
Write = Callable[["Event"], Awaitable[Iterable[bytes]]]
"""Words what happened to a job as none, one or several server-sent events, as `encode` writes them."""


class EventStream(StreamingResponse):
    """The answer that sends a stream of events. Closes the stream when it is over, also where a client left that read nothing."""

    def __init__(self, events: AsyncGenerator[bytes, None]) -> None:
        super().__init__(events, media_type="text/event-stream")
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._events.aclose()


async def event_stream(job: ServedJob, write: Write, keep_alive_s: float = KEEP_ALIVE_S) -> AsyncGenerator[bytes, None]:
    """Yield what `write` makes of a job's events, and a comment whenever nothing happened for `keep_alive_s`.

    Ends with the job, and leaves the job alone when it is closed before. Raises what `write` does.
    """
    events = job.events()
    coming = asyncio.ensure_future(anext(events, None))
    try:
        while True:
            done, _ = await asyncio.wait({coming}, timeout=keep_alive_s)
            if not done:
                yield COMMENT
                continue
            event = coming.result()
            if event is None:
                return
            for written in await write(event):
                yield written
            coming = asyncio.ensure_future(anext(events, None))
    finally:
        await asyncio.shield(_close(events, coming))  # also where this task is cancelled over and over, as anyio does


async def _close(events: AsyncGenerator[Event, None], coming: asyncio.Future[Event | None]) -> None:
    """Have a job's events end, whether the next one is waited for or not."""
    coming.cancel()
    await asyncio.wait({coming})
    await events.aclose()


def encode(name: str, fields: Mapping[str, Any]) -> bytes:
    """Write one server-sent event."""
    return f"event: {name}\ndata: {json.dumps(fields, separators=(',', ':'))}\n\n".encode()
