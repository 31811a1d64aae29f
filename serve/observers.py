"""Several observers as one."""

from __future__ import annotations

from collections.abc import Sequence

from sd2rt.serve.jobs import ServedJob
from sd2rt.serve.observe import Observer


class Observers:
    """Tells each of several observers everything; without any, nobody."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def submitted(self, job: ServedJob) -> None:
        """Pass it on."""
        for observer in self._observers:
            observer.submitted(job)

    def refused(self, reason: str) -> None:
        """Pass it on."""
        for observer in self._observers:
            observer.refused(reason)

    def began(self, rows: int, jobs: int, waited_s: Sequence[float]) -> None:
        """Pass it on."""
        for observer in self._observers:
            observer.began(rows, jobs, waited_s)

    def ended(self, job: ServedJob) -> None:
        """Pass it on."""
        for observer in self._observers:
            observer.ended(job)

    def lost(self, jobs: int) -> None:
        """Pass it on."""
        for observer in self._observers:
            observer.lost(jobs)

    def evicted(self, model: str) -> None:
        """Pass it on."""
        for observer in self._observers:
            observer.evicted(model)
