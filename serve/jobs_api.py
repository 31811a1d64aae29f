"""`/v1/jobs`: everything that can be asked for, without waiting for it. A job is seen and cancelled by its owner alone."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from starlette.exceptions import HTTPException

from sd2rt.serve.job_request import JobRequest
from sd2rt.serve.job_view import JobList, JobView, view
from sd2rt.serve.json_request import JsonRoute
from sd2rt.serve.model_choice import default_model
from sd2rt.serve.service import Service
from sd2rt.serve.waiting import note_job, own_job, owner_of

MOST_JOBS = 200  # of one reply
Limit = Annotated[int, Query(ge=1, le=MOST_JOBS, description="How many at most.")]
JobId = Annotated[str, Path(description="As `id` of a job.")]
CREATED_REPLY: dict[int | str, dict[str, Any]] = {
    202: {"headers": {"Location": {"description": "The job's path.", "required": True, "schema": {"type": "string"}}}}
}


async def require_json(request: Request) -> None:
    """Refuse (415) a body that does not say that it is JSON."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise HTTPException(415, f"got a body of type {kind[:80] or 'unknown'}; expected application/json")


def make_router(service: Service) -> APIRouter:
    """Return the routes."""
    router = APIRouter(prefix="/v1/jobs", tags=["jobs"], route_class=JsonRoute)

    @router.post("", status_code=202, responses=CREATED_REPLY, dependencies=[Depends(require_json)])
    async def create_job(request: Request, response: Response, body: JobRequest) -> JobView:
        """Take an order; the job's address is in Location."""
        service.check_open()
        order = await asyncio.to_thread(body.order, default_model(service.models))  # what is base64 may be large
        job = await service.submit(order, owner_of(request))
        note_job(request, job)
        response.headers["Location"] = f"/v1/jobs/{job.id}"
        return view(job)

    @router.get("")
    async def list_jobs(request: Request, limit: Limit = MOST_JOBS) -> JobList:
        """Return the client's own jobs, the newest first."""
        return JobList(data=[view(job) for job in service.jobs(owner_of(request))[:limit]])

    @router.get("/{job_id}")
    async def read_job(request: Request, job_id: JobId) -> JobView:
        """Return a job: its state, and when it is done what decided its pictures."""
        return view(own_job(service, request, job_id))

    @router.delete("/{job_id}")
    async def cancel_job(request: Request, job_id: JobId) -> JobView:
        """Cancel a job that waits or is being painted; remove one that has ended."""
        job = own_job(service, request, job_id)
        return view(service.remove(job.id, job.owner))

    return router
