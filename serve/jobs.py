"""One accepted order from its place in the queue to its last event, for everybody who waits for it or watches it."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Literal

from sd2rt.serve.admission import Admitted
from sd2rt.serve.listener import Listener
from sd2rt.serve.order import LAST, Cancelled, Event, Failed, Finished, Previewed, Started, Stepped

State = Literal["queued", "running", "done", "failed", "cancelled"]
OVERHEAD_BYTES = 4_096
"""What a job takes besides pictures and prompts, about."""


class ServedJob:
    """An order that the server took. Whoever has it reads it; the service alone calls `tell` and `wait_again`.

    `created`, `started` and `ended` are seconds since 1970. `position` is the place in the queue, 1 being the next, 0 out of it. All of it
    belongs to one event loop.
    """

    def __init__(self, admitted: Admitted, owner: str) -> None:
        self.id = f"job-{secrets.token_hex(8)}"
        self.owner = owner
        self.order = admitted.order
        self.seeds = admitted.seeds
        self.width = admitted.width
        self.height = admitted.height
        self.steps = admitted.steps
        self.total_steps = admitted.total_steps
        self.count = len(admitted.seeds)
        self.key = admitted.key
        self.batch_sizes = admitted.batch_sizes
        self.state: State = "queued"
        self.created = time.time()
        self.started: float | None = None
        self.ended: float | None = None
        self.step = 0
        self.position = 0
        self.preview: Previewed | None = None
        self.ending: Finished | Failed | Cancelled | None = None
        self.lost = 0
        """How many workers were lost while they painted it."""
        self.unwanted = False
        """Whether its owner gave it up; it may still be painted."""
        self.queued_at = time.monotonic()
        self._rows = 0
        self._listeners: list[Listener] = []
        self._over = asyncio.Event()

    @property
    def kept_bytes(self) -> int:
        """About what it takes in memory while it is kept."""
        pictures = self.ending.pictures if isinstance(self.ending, Finished) else ()
        previews = () if self.preview is None else self.preview.pictures
        return OVERHEAD_BYTES + sum(map(len, pictures)) + sum(map(len, previews)) + len(str(self.order.options))

    @property
    def alone(self) -> bool:
        """Whether it is painted by itself: it cannot be joined, or it went down with a worker and may be the reason."""
        return self.key is None or self.lost > 0

    def wait_again(self) -> None:
        """Go back into the queue: a worker was lost."""
        self.state = "queued"
        self.lost += 1
        self.step = 0
        self.queued_at = time.monotonic()

    def tell(self, event: Event) -> None:
        """Take an event and pass it on. After a last one nothing counts any more."""
        if self.ending is not None:
            return
        if isinstance(event, Started):
            self._begin(event)
        elif isinstance(event, Stepped):
            self.step = event.step
        elif isinstance(event, Previewed):
            self.preview, self.step = event, event.step
        else:
            self._end(event)
        for listener in self._listeners:
            listener.put(event)

    async def events(self) -> AsyncGenerator[Event, None]:
        """Yield how far it is, then what happens, up to and with the last event. May be read by several at once.

        Who reads slowly misses previews.
        """
        if self.ending is not None:
            yield self.ending
            return
        listener = Listener()
        for event in self._so_far():
            listener.put(event)
        self._listeners.append(listener)
        try:
            while True:
                event = await listener.get()
                yield event
                if isinstance(event, LAST):
                    return
        finally:
            self._listeners.remove(listener)

    async def wait(self) -> Finished | Failed | Cancelled:
        """Wait for its last event."""
        await self._over.wait()
        assert self.ending is not None
        return self.ending

    def _so_far(self) -> list[Event]:
        if self.state != "running":
            return []
        so_far: list[Event] = [Started(total_steps=self.total_steps, rows=self._rows)]
        if self.step:
            so_far.append(Stepped(step=self.step, total_steps=self.total_steps))
        return so_far if self.preview is None else [*so_far, self.preview]

    def _begin(self, event: Started) -> None:
        self.state = "running"
        self.started = time.time()
        self.step, self.total_steps, self._rows = 0, event.total_steps, event.rows

    def _end(self, event: Finished | Failed | Cancelled) -> None:
        self.ending = event
        self.ended = time.time()
        self.position = 0
        self.state = "done" if isinstance(event, Finished) else "failed" if isinstance(event, Failed) else "cancelled"
        if self.state == "done":
            self.step = self.total_steps  # not every step is told
        self.order = replace(self.order, pictures={})
        self._over.set()
