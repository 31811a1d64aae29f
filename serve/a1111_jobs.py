"""The jobs that came by the web UI's API and have not ended: what its progress, interrupt and skip speak of, owner by owner."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sd2rt.serve.a1111_replies import as_base64, timestamp
from sd2rt.serve.errors import UnknownJob

if TYPE_CHECKING:
    from sd2rt.serve.jobs import ServedJob
    from sd2rt.serve.service import Service

LEAST_PROGRESS = 0.01  # of a job that runs, as the web UI says it, so that it is never 0


class A1111Jobs:
    """Unfinished jobs of this API. Where no tokens are set all its clients are one owner, who is not asked about other APIs' jobs."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._jobs: dict[str, ServedJob] = {}

    @contextmanager
    def watched(self, job: ServedJob) -> Iterator[None]:
        """Have a job among the unfinished ones while its client waits for it."""
        self._jobs[job.id] = job
        try:
            yield
        finally:
            del self._jobs[job.id]

    def unfinished(self, owner: str) -> list[ServedJob]:
        """Return an owner's jobs: those that are painted first, then by their turn."""
        jobs = [job for job in self._jobs.values() if job.owner == owner and job.ending is None]
        return sorted(jobs, key=lambda job: job.position)

    def interrupt(self, owner: str) -> None:
        """Give up all of an owner's jobs."""
        self._cancel(self.unfinished(owner))

    def skip(self, owner: str) -> None:
        """Give up the job of an owner's that is being painted, or comes next."""
        self._cancel(self.unfinished(owner)[:1])

    def progress(self, owner: str, now: float, *, with_picture: bool) -> dict[str, Any]:
        """Return what `GET /sdapi/v1/progress` says of an owner's foremost job at `now`, epoch seconds; nothing to do is 0 of 0."""
        jobs = self.unfinished(owner)
        job = jobs[0] if jobs else None
        if job is None or job.started is None:
            return _progress_reply(0.0, 0.0, _state(job, len(jobs)), None)
        done = min(LEAST_PROGRESS + job.step / max(job.total_steps, 1), 1.0)
        passed = max(now - job.started, 0.0)
        picture = as_base64(job.preview.pictures[0]) if with_picture and job.preview else None
        return _progress_reply(done, passed / done - passed, _state(job, len(jobs)), picture)

    def _cancel(self, jobs: list[ServedJob]) -> None:
        for job in jobs:
            with contextlib.suppress(UnknownJob):  # it expired meanwhile
                self._service.cancel(job.id, job.owner)


def _progress_reply(progress: float, eta_s: float, state: dict[str, Any], picture: str | None) -> dict[str, Any]:
    return {"progress": progress, "eta_relative": eta_s, "state": state, "current_image": picture, "textinfo": None}


def _state(job: ServedJob | None, count: int) -> dict[str, Any]:
    return {
        "skipped": False,
        "interrupted": False,
        "stopping_generation": False,
        "job": "" if job is None else job.id,
        "job_count": count,
        "job_timestamp": "0" if job is None else timestamp(job.created),
        "job_no": 0,
        "sampling_step": 0 if job is None else job.step,
        "sampling_steps": 0 if job is None else job.total_steps,
    }
