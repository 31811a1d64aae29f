"""How often it is told that a step is done: fast models take more steps a second than anybody reads, and telling costs cores."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import monotonic

from sd2rt.serve.order import Event, Stepped

STEPS_EVERY_S = 0.1


def paced(events: Iterator[tuple[str, Event]], clock: Callable[[], float] = monotonic) -> Iterator[tuple[str, Event]]:
    """Pass events on but for steps that follow too soon on one that was told; a step is told of all tasks of a batch or of none.

    The last step is always told.
    """
    told, last = 0, float("-inf")
    for task_id, event in events:
        if isinstance(event, Stepped) and event.step != told:
            if clock() - last < STEPS_EVERY_S and event.step < event.total_steps:
                continue
            told, last = event.step, clock()
        yield task_id, event
