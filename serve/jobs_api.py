"""`/v1/jobs`: everything that can be asked for, without waiting for it. A job is seen and cancelled by its owner alone."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from starlette.exceptions import HTTPException
from starlette.responses import StreamingResponse

from sd2rt.serve.errors import ServeError, UnknownJob
from sd2rt.serve.job_events import event_stream
from sd2rt.serve.job_request import JobRequest
from sd2rt.serve.job_view import JobList, JobView, view
from sd2rt.serve.jobs import ServedJob
from sd2rt.serve.order import Finished
from sd2rt.serve.service import Service
from sd2rt.serve.waiting import note_job, owner_of

JobId = Annotated[str, Path(description="As `id` of a job.")]
Index = Annotated[int, Path(ge=0, lt=256)]
PICTURE = {"schema": {"type": "string", "format": "binary"}}
CREATED_REPLY: dict[int | str, dict[str, Any]] = {
    202: {"headers": {"Location": {"description": "The job's path.", "required": True, "schema": {"type": "string"}}}}
}
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


def require_json(request: Request) -> None:
    """Refuse (415) a body that does not say that it is JSON."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise HTTPException(415, f"got a body of type {kind[:80] or 'unknown'}; expected application/json")


def make_router(service: Service) -> APIRouter:
    """Return the routes."""
    router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

    def find(request: Request, job_id: str) -> ServedJob:
        """Return a job of the client's own. Raises UnknownJob."""
        job = service.find(job_id, owner_of(request))
        note_job(request, job)
        return job

    @router.post("", status_code=202, responses=CREATED_REPLY, dependencies=[Depends(require_json)])
    async def create_job(request: Request, response: Response, body: JobRequest) -> JobView:
        """Take an order; the job's address is in Location."""
        job = await service.submit(body.order(default_model(service)), owner_of(request))
        note_job(request, job)
        response.headers["Location"] = f"/v1/jobs/{job.id}"
        return view(job)

    @router.get("")
    async def list_jobs(request: Request) -> JobList:
        """Return the client's own jobs, the newest first."""
        return JobList(data=[view(job) for job in service.jobs(owner_of(request))])

    @router.get("/{job_id}")
    async def read_job(request: Request, job_id: JobId) -> JobView:
        """Return a job: its state, and when it is done what decided its pictures."""
        return view(find(request, job_id))

    @router.delete("/{job_id}")
    async def cancel_job(request: Request, job_id: JobId) -> JobView:
        """Cancel a job that waits or is being painted; remove one that has ended."""
        job = find(request, job_id)
        return view(service.remove(job.id, job.owner))

    @router.get("/{job_id}/images/{index}", response_class=Response, responses=IMAGE_REPLY)
    async def read_image(request: Request, job_id: JobId, index: Index) -> Response:
        """Return a finished picture, the file itself."""
        job = find(request, job_id)
        if not isinstance(job.ending, Finished):
            raise UnknownJob(f"the job is {job.state}; expected it to be done: its pictures are there then")
        return file_reply(job.ending.pictures, index, f"image/{job.order.format}")

    @router.get("/{job_id}/preview", response_class=Response, responses=PREVIEW_REPLY)
    async def read_preview(request: Request, job_id: JobId, index: Annotated[int, Query(ge=0, lt=256)] = 0) -> Response:
        """Return what picture `index` is going to be, as the latest preview has it."""
        job = find(request, job_id)
        return file_reply(job.preview.pictures if job.preview else (), index, "image/png")

    @router.get("/{job_id}/events", response_class=StreamingResponse, responses=EVENTS_REPLY)
    async def follow_job(request: Request, job_id: JobId) -> StreamingResponse:
        """Stream what happens to a job, from now on to its end."""
        return StreamingResponse(event_stream(find(request, job_id)), media_type="text/event-stream")

    return router


def default_model(service: Service) -> str:
    """Return the model of orders that name none. Raises ServeError before the models are known."""
    if not service.models:
        raise ServeError("the server is not ready yet; ask again")
    return service.models[0].name


def file_reply(pictures: tuple[bytes, ...], index: int, kind: str) -> Response:
    """Return one of several files. Raises UnknownJob where there is none of this index."""
    if index >= len(pictures):
        raise UnknownJob(f"there is no picture {index} here; got {len(pictures)} so far, counted from 0")
    return Response(pictures[index], media_type=kind)
