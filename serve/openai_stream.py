"""Server-sent events of OpenAI's images API while a job is painted. A client that hangs up gives its job up."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from sd2rt.serve.client_names import IMAGES, in_clients_words
from sd2rt.serve.errors import UnknownJob
from sd2rt.serve.event_stream import EventStream, event_stream
from sd2rt.serve.given_pictures import write_again
from sd2rt.serve.openai_replies import Kind, Shown, completed_events, error_event, partial_events
from sd2rt.serve.order import Cancelled, Event, Failed, Finished, Previewed
from sd2rt.serve.replies import without_paths

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from sd2rt.serve.jobs import ServedJob
    from sd2rt.serve.service import Service


class ImageStream(EventStream):
    """A job's events to its end."""

    def __init__(self, service: Service, job: ServedJob, kind: Kind, about: Shown) -> None:
        async def write(event: Event) -> Iterable[bytes]:
            return await image_events(job, event, kind, about)

        super().__init__(event_stream(job, write))
        self._service = service
        self._job = job

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, and cancel the job if it did not end meanwhile: the client may be gone before its first event is asked for."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            if self._job.ending is None:
                with contextlib.suppress(UnknownJob):  # it expired meanwhile
                    self._service.cancel(self._job.id, self._job.owner)


async def image_events(job: ServedJob, event: Event, kind: Kind, about: Shown) -> Iterable[bytes]:
    """Word an event as OpenAI does: nothing of steps, one for each picture."""
    match event:
        case Previewed():
            return partial_events(kind, await _in_format(event, job), about)
        case Finished():
            return completed_events(kind, event, about)
        case Failed(message=message, status=status):
            return [
                error_event(in_clients_words(IMAGES, without_paths(message)), "server_error" if status >= 500 else "invalid_request_error")
            ]
        case Cancelled():
            return [error_event("the job was cancelled", "invalid_request_error")]
        case _:
            return []


async def _in_format(previewed: Previewed, job: ServedJob) -> Previewed:
    """Return a preview whose pictures are files of the order's format."""
    order = job.order
    pictures = [await asyncio.to_thread(write_again, picture, order.format, order.quality) for picture in previewed.pictures]
    return replace(previewed, pictures=tuple(pictures))
