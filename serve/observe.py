"""What happens in a server, for whoever counts it: metrics and logs implement it. Nothing that it does may raise or wait."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from sd2rt.serve.jobs import ServedJob


class Observer(Protocol):
    """Told of each thing once, in the server's event loop."""

    def submitted(self, job: ServedJob) -> None:
        """An order was taken."""

    def refused(self, reason: str) -> None:
        """One was not: "invalid", "unknown_model", "queue_full", "stopping", or "failed" where it could not be checked."""

    def began(self, rows: int, jobs: int, waited_s: Sequence[float]) -> None:
        """A batch of so many pictures, of so many jobs, is given to a worker; how long each of them waited."""

    def ended(self, job: ServedJob) -> None:
        """A job had its last event."""

    def lost(self, jobs: int) -> None:
        """A worker was lost while it painted so many jobs; another one is started."""

    def evicted(self, model: str) -> None:
        """A worker closed a model to make room for another one."""
