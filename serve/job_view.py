"""A job as clients see it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, Field

from sd2rt.serve.client_names import JOBS, in_clients_words
from sd2rt.serve.jobs import ServedJob
from sd2rt.serve.order import Failed, Finished
from sd2rt.serve.replies import without_paths

State = Literal["queued", "running", "done", "failed", "cancelled"]


class JobImage(BaseModel):
    """One finished picture: where it is, and everything that decided it."""

    index: int
    url: str
    parameters: dict[str, Any]


class JobError(BaseModel):
    """Why a job failed; `status` is the HTTP status that a request would have had."""

    message: str
    status: int


class JobView(BaseModel):
    """A job. Times are seconds since 1970; `position` is its place in the queue, 1 the next one, 0 when it does not wait."""

    id: str
    object: Literal["job"] = "job"
    model: str
    state: State
    position: int
    step: int
    total_steps: int
    eta_s: float | None = Field(description="Seconds until the last step, at the pace so far.")
    n: int
    seeds: list[int]
    width: int
    height: int
    created: float
    started: float | None
    ended: float | None
    images: list[JobImage]
    timings: dict[str, Any] | None = Field(description="Seconds of each stage, of the batch that it was painted in.")
    notes: list[str]
    error: JobError | None


class JobList(BaseModel):
    """A client's own jobs, the newest first."""

    object: Literal["list"] = "list"
    data: list[JobView]


def view(job: ServedJob) -> JobView:
    """Return what a job's owner may know of it."""
    ending = job.ending
    finished = ending if isinstance(ending, Finished) else None
    return JobView(
        id=job.id,
        model=job.order.model,
        state=job.state,
        position=job.position,
        step=job.step,
        total_steps=job.total_steps,
        eta_s=eta_s(job),
        n=job.count,
        seeds=list(job.seeds),
        width=job.width,
        height=job.height,
        created=job.created,
        started=job.started,
        ended=job.ended,
        images=[image_view(job.id, index, parameters) for index, parameters in enumerate(finished.parameters if finished else ())],
        timings=dict(finished.timings) if finished else None,
        notes=list(finished.notes) if finished else [],
        error=error_view(ending) if isinstance(ending, Failed) else None,
    )


def error_view(failed: Failed) -> JobError:
    """Return why a job failed."""
    return JobError(message=in_clients_words(JOBS, without_paths(failed.message)), status=failed.status)


def image_view(job_id: str, index: int, parameters: Mapping[str, Any]) -> JobImage:
    """Return one finished picture."""
    return JobImage(index=index, url=f"/v1/jobs/{job_id}/images/{index}", parameters=dict(parameters))


def eta_s(job: ServedJob) -> float | None:
    """Return the seconds that the rest of the steps take at the pace so far; None where there is no pace yet."""
    if job.state != "running" or not job.step or job.started is None:
        return None
    return round((time.time() - job.started) / job.step * (job.total_steps - job.step), 3)
