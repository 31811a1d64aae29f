"""Jobs that wait: at most so many, the oldest first, and with it those behind it that can be painted together."""

from __future__ import annotations

from collections.abc import Iterator

from sd2rt.serve.jobs import ServedJob


class WaitingJobs:
    """A bounded queue. A place may be reserved before there is a job for it, so that checks that take time need not be made in vain."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._reserved = 0
        self._jobs: list[ServedJob] = []

    def __len__(self) -> int:
        return len(self._jobs)

    def __iter__(self) -> Iterator[ServedJob]:
        return iter(self._jobs)

    def reserve(self) -> bool:
        """Take a place; False when there is none. It must be filled or given back."""
        if len(self._jobs) + self._reserved >= self._places:
            return False
        self._reserved += 1
        return True

    def give_back(self) -> None:
        """Free a place that was reserved."""
        self._reserved -= 1

    def add(self, job: ServedJob) -> None:
        """Put a job last, into a place that was reserved for it."""
        self._reserved -= 1
        self._jobs.append(job)
        self._number()

    def put_first(self, jobs: list[ServedJob]) -> None:
        """Put jobs that were taken out back to the front, however many there are."""
        self._jobs[:0] = jobs
        self._number()

    def remove(self, job: ServedJob) -> None:
        """Take out a job that is no longer wanted."""
        self._jobs.remove(job)
        self._number()

    def batch(self) -> list[ServedJob]:
        """Return the oldest job and, in order, as many of those that can be painted with it as make a batch; they stay in the queue."""
        if not self._jobs:
            return []
        first, *others = self._jobs
        found, count, sound = [first], first.count, 1
        for job in others:
            if not first.alone and not job.alone and job.key == first.key and count + job.count <= first.batch_sizes[-1]:
                found.append(job)
                count += job.count
                sound = len(found) if count in first.batch_sizes else sound
        return found[:sound]

    def full(self) -> bool:
        """Whether nothing can come that would be painted with the oldest job and those beside it."""
        batch = self.batch()
        return not batch or batch[0].alone or sum(job.count for job in batch) >= batch[0].batch_sizes[-1]

    def take(self) -> list[ServedJob]:
        """Take out what `batch` returns."""
        taken = self.batch()
        gone = {job.id for job in taken}
        for job in taken:
            job.position = 0
        self._jobs = [job for job in self._jobs if job.id not in gone]
        self._number()
        return taken

    def _number(self) -> None:
        for place, job in enumerate(self._jobs, 1):
            job.position = place
