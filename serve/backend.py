"""The seam between the queue and what paints: processes of this machine (`workers`), or replicas on several (`ray_backend`)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from sd2rt.serve.order import Event, Order


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One order of a batch, by its job's id."""

    id: str
    order: Order


class Backend(Protocol):
    """What paints batches: orders that differ in prompts and seeds alone, joined into one batch of the engines."""

    @property
    def slots(self) -> int:
        """How many batches it works on at once."""
        ...

    async def start(self) -> None:
        """Make ready; return once a first batch can be taken. Raises ServeError, or Sd2rtError for a model that cannot be opened."""
        ...

    def paint(self, batch: Sequence[Task]) -> AsyncIterator[tuple[str, Event]]:
        """Yield (job id, event) until each task of the batch had its last one.

        Raises WorkerLost when the process is gone; tasks without a last event may then be painted again, by another `paint`. Raises
        NoWorker, with nothing painted, when there is no process and none comes up.
        """
        ...

    def cancel(self, job_id: str) -> None:
        """Give up a task that was given to `paint`: its last event, Cancelled, comes within a step. Unknown ids mean nothing."""
        ...

    async def stop(self) -> None:
        """Free everything; batches under way end in WorkerLost."""
        ...
