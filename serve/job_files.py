"""What comes of jobs: `/v1/jobs/{job_id}/images`, `/preview` and `/events`, for their owners alone."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response

from sd2rt.serve.errors import UnknownJob
from sd2rt.serve.event_stream import EventStream
from sd2rt.serve.job_events import job_events
from sd2rt.serve.jobs_api import JobId
from sd2rt.serve.order import Finished
from sd2rt.serve.service import Service
from sd2rt.serve.waiting import own_job

Index = Annotated[int, Path(ge=0, lt=256)]
PICTURE = {"schema": {"type": "string", "format": "binary"}}
IMAGE_REPLY: dict[int | str, dict[str, Any]] = {
    200: {"content": {f"image/{name}": PICTURE for name in ("png", "jpeg", "webp")}, "description": "The file."}
}
PREVIEW_REPLY: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/png": PICTURE}, "description": "What the picture is going to be, so far."}
}
EVENT = {
    "type": "object",
    "properties": {"event": {"enum": ["started", "step", "preview", "done", "failed", "cancelled"]}, "data": {"type": "string"}},
    "required": ["event", "data"],
}
EVENTS_REPLY: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {"text/event-stream": {"schema": EVENT}},
        "description": "Events: started, step, preview, and one of done, failed and cancelled.",
    }
}


def make_router(service: Service) -> APIRouter:
    """Return the routes."""
    router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["jobs"])

    @router.get("/images/{index}", response_class=Response, responses=IMAGE_REPLY)
    async def read_image(request: Request, job_id: JobId, index: Index) -> Response:
        """Return a finished picture, the file itself."""
        job = own_job(service, request, job_id)
        if not isinstance(job.ending, Finished):
            raise UnknownJob(f"the job is {job.state}; expected it to be done: its pictures are there then")
        return file_reply(job.ending.pictures, index, f"image/{job.order.format}")

    @router.get("/preview", response_class=Response, responses=PREVIEW_REPLY)
    async def read_preview(request: Request, job_id: JobId, index: Annotated[int, Query(ge=0, lt=256)] = 0) -> Response:
        """Return what picture `index` is going to be, as the latest preview has it."""
        job = own_job(service, request, job_id)
        return file_reply(job.preview.pictures if job.preview else (), index, "image/png")

    @router.get("/events", response_class=Response, responses=EVENTS_REPLY)
    async def follow_job(request: Request, job_id: JobId) -> EventStream:
        """Stream what happens to a job, from now on to its end."""
        return EventStream(job_events(own_job(service, request, job_id)))

    return router


def file_reply(pictures: tuple[bytes, ...], index: int, kind: str) -> Response:
    """Return one of several files. Raises UnknownJob where there is none of this index."""
    if index >= len(pictures):
        raise UnknownJob(f"there is no picture {index} here; got {len(pictures)} so far, counted from 0")
    return Response(pictures[index], media_type=kind)
