"""All jobs that the server knows, those that ended for as long as their results are kept. Owners see their own."""

from __future__ import annotations

import time
from collections.abc import Callable

from sd2rt.serve.errors import UnknownJob
from sd2rt.serve.jobs import ServedJob


class Results:
    """Jobs by their ids. Ended ones go `seconds` after their end, and the longest ended first when all take more than `most_bytes`."""

    def __init__(self, seconds: float, most_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._most_bytes = most_bytes
        self._clock = clock
        self._jobs: dict[str, ServedJob] = {}
        self._ended: dict[str, tuple[float, int]] = {}  # when, by the clock, and what it takes; in the order of their ends
        self._total = 0

    def add(self, job: ServedJob) -> None:
        """Keep a job that was taken."""
        self._jobs[job.id] = job

    def end(self, job: ServedJob) -> None:
        """Note that a job has ended, which may push out others."""
        size = job.kept_bytes
        self._ended[job.id] = self._clock(), size
        self._total += size
        self.expire()

    def find(self, job_id: str, owner: str) -> ServedJob:
        """Return an owner's job. Raises UnknownJob, for another owner's too."""
        self.expire()
        job = self._jobs.get(job_id)
        if job is None or job.owner != owner:
            raise UnknownJob(f"job: got {job_id[:80]!r}; expected one of your own whose result has not expired, after {self._seconds:g} s")
        return job

    def of(self, owner: str) -> tuple[ServedJob, ...]:
        """Return an owner's jobs, newest first."""
        self.expire()
        return tuple(job for job in reversed(self._jobs.values()) if job.owner == owner)

    def remove(self, job: ServedJob) -> None:
        """Forget a job that has ended."""
        _, size = self._ended.pop(job.id, (0.0, 0))
        self._total -= size
        self._jobs.pop(job.id, None)

    def expire(self) -> None:
        """Forget what is too old or too much."""
        now = self._clock()
        while self._ended:
            job_id, (ended, _) = next(iter(self._ended.items()))
            if self._total <= self._most_bytes and now - ended < self._seconds:
                return
            self.remove(self._jobs[job_id])
