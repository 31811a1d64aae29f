"""Server-sent events of OpenAI's images API while a job is painted. A client that hangs up gives its job up."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import TYPE_CHECKING

from sd2rt.serve.errors import UnknownJob
from sd2rt.serve.given_pictures import write_again
from sd2rt.serve.openai_replies import Kind, Shown, completed_events, error_event, partial_events
from sd2rt.serve.order import Cancelled, Failed, Finished, Previewed
from sd2rt.serve.replies import without_paths

if TYPE_CHECKING:
    from sd2rt.serve.jobs import ServedJob
    from sd2rt.serve.service import Service

KEEP_ALIVE_S = 15.0
COMMENT = b": still here\n\n"


async def image_events(
    service: Service, job: ServedJob, kind: Kind, about: Shown, keep_alive_s: float = KEEP_ALIVE_S
) -> AsyncIterator[bytes]:
    """Yield the events of a job to its end, and a comment whenever nothing was said for `keep_alive_s`."""
    events = job.events()
    coming = asyncio.ensure_future(anext(events, None))
    try:
        while True:
            done, _ = await asyncio.wait({coming}, timeout=keep_alive_s)
            if not done:
                yield COMMENT
                continue
            happened = coming.result()
            match happened:
                case None:
                    return
                case Previewed():
                    for line in partial_events(kind, await _in_format(happened, job), about):
                        yield line
                case Finished():
                    for line in completed_events(kind, happened, about):
                        yield line
                case Failed(message=message, status=status):
                    yield error_event(without_paths(message), "server_error" if status >= 500 else "invalid_request_error")
                case Cancelled():
                    yield error_event("the job was cancelled", "invalid_request_error")
            coming = asyncio.ensure_future(anext(events, None))
    finally:
        coming.cancel()
        if job.ending is None:
            with contextlib.suppress(UnknownJob):  # it expired meanwhile
                service.cancel(job.id, job.owner)


async def _in_format(previewed: Previewed, job: ServedJob) -> Previewed:
    """Return a preview whose pictures are files of the order's format."""
    order = job.order
    pictures = [await asyncio.to_thread(write_again, picture, order.format, order.quality) for picture in previewed.pictures]
    return replace(previewed, pictures=tuple(pictures))
