"""How often it is told that a step is done: fast models take more steps a second than anybody reads, and telling costs cores."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import monotonic

from sd2rt.serve.order import Event, Started, Stepped

STEPS_EVERY_S = 0.2


def paced(events: Iterator[tuple[str, Event]], clock: Callable[[], float] = monotonic) -> Iterator[tuple[str, Event]]:
    """Pass events on but for steps that come too soon after the start, or after a step that was told.

    A step is told of all tasks of a batch or of none.
    """
    told, last = 0, float("-inf")
    for task_id, event in events:
        if isinstance(event, Started):
            told, last = 0, clock()
        elif isinstance(event, Stepped) and event.step != told:
            if clock() - last < STEPS_EVERY_S:
                continue
            told, last = event.step, clock()
        yield task_id, event
