"""A job's events as a browser's EventSource reads them: server-sent events, the last of which ends the stream."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Any

from sd2rt.serve.job_view import view
from sd2rt.serve.jobs import ServedJob
from sd2rt.serve.order import Cancelled, Event, Failed, Finished, Previewed, Started, Stepped
from sd2rt.serve.replies import without_paths

KEEP_ALIVE_S = 15.0
COMMENT = b": still here\n\n"


async def event_stream(job: ServedJob, keep_alive_s: float = KEEP_ALIVE_S) -> AsyncIterator[bytes]:
    """Yield a job's events from now on, and a comment whenever nothing was said for `keep_alive_s`."""
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
            yield encode(*describe(job, event))
            coming = asyncio.ensure_future(anext(events, None))
    finally:
        coming.cancel()


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
            return "failed", {"message": without_paths(message), "status": status}
        case Cancelled():
            return "cancelled", {}


def encode(name: str, content: dict[str, Any]) -> bytes:
    """Write one event."""
    return f"event: {name}\ndata: {json.dumps(content, separators=(',', ':'))}\n\n".encode()
