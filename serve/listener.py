"""What somebody who watches a job has not read yet; a slow one misses previews, and nothing else."""

from __future__ import annotations

import asyncio

from sd2rt.serve.order import Event, Previewed

MOST_UNREAD = 3  # previews, which are large, so that a client that does not read fills no memory


class Listener:
    """A queue of events for one reader."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._come = asyncio.Event()

    def put(self, event: Event) -> None:
        """Add an event; a preview too many takes the place of the oldest one."""
        unread = [place for place, waiting in enumerate(self._events) if isinstance(waiting, Previewed)]
        if isinstance(event, Previewed) and len(unread) >= MOST_UNREAD:
            del self._events[unread[0]]
        self._events.append(event)
        self._come.set()

    async def get(self) -> Event:
        """Wait for an event, and return the oldest."""
        while not self._events:
            self._come.clear()
            await self._come.wait()
        return self._events.pop(0)
