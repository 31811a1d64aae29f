"""A job's events as a browser's EventSource reads them."""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator
from typing import Any

from sd2rt.serve.client_names import JOBS, in_clients_words
from sd2rt.serve.event_stream import encode, event_stream
from sd2rt.serve.job_view import view
from sd2rt.serve.jobs import ServedJob
from sd2rt.serve.order import Cancelled, Event, Failed, Finished, Previewed, Started, Stepped
from sd2rt.serve.replies import without_paths


def job_events(job: ServedJob) -> AsyncGenerator[bytes, None]:
    """Return a job's events from now on. Who stops reading them leaves the job as it is."""

    async def write(event: Event) -> list[bytes]:
        return [encode(*describe(job, event))]

    return event_stream(job, write)


def describe(job: ServedJob, event: Event) -> tuple[str, dict[str, Any]]:
    """Return an event's name and what it says."""
    match event:
        case Started(total_steps=total, rows=rows):
            return "started", {"total_steps": total, "rows": rows}
        case Stepped(step=step, total_steps=total):
            return "step", {"step": step, "total_steps": total}
        case Previewed(index=index, step=step, pictures=pictures):
            return "preview", {"index": index, "step": step, "images": [base64.b64encode(picture).decode() for picture in pictures]}
        case Finished():
            return "done", view(job).model_dump()
        case Failed(message=message, status=status):
            return "failed", {"message": in_clients_words(JOBS, without_paths(message)), "status": status}
        case Cancelled():
            return "cancelled", {}
