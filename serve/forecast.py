"""How long what is being painted still takes, from how long such work took lately."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence
from statistics import median

from sd2rt.serve.jobs import ServedJob
from sd2rt.serve.order import Finished

RECENT_BATCHES = 16  # of a model, that its pace is taken from
FIRST_GUESS_S = 1.0


def work_of(jobs: Sequence[ServedJob]) -> int:
    """Return how much is left to paint of jobs: pixels, times the steps that each of them still takes."""
    return sum(job.count * job.width * job.height * (job.total_steps - job.step) for job in jobs if job.ending is None)


class Forecast:
    """The pace of each model: the median of its recent batches, in seconds for a unit of work. All that a batch costs counts as steps."""

    def __init__(self) -> None:
        self._paces: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=RECENT_BATCHES))

    def learn(self, jobs: Sequence[ServedJob], work: int, seconds: float) -> None:
        """Take note of a batch that is over; one that was given up in part says nothing."""
        if work and all(isinstance(job.ending, Finished) for job in jobs):
            self._paces[jobs[0].order.model].append(seconds / work)

    def seconds(self, jobs: Sequence[ServedJob]) -> float:
        """Guess how long a batch still takes."""
        paces = self._paces.get(jobs[0].order.model)
        return median(paces) * work_of(jobs) if paces else FIRST_GUESS_S
