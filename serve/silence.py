"""What is waited for, but not for ever: a process that hangs says as little as one that works."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from sd2rt.serve.errors import WorkerLost
from sd2rt.serve.order import Event

Events = AsyncGenerator[tuple[str, Event]]


async def unless_silent(events: Events, seconds: float) -> Events:
    """Pass on what tells of a batch. Closes it and raises WorkerLost when nothing comes for so long; with 0 it waits for ever."""
    async with aclosing(events):
        while True:
            try:
                async with asyncio.timeout(seconds or None) as limit:
                    told = await anext(events)
            except StopAsyncIteration:
                return
            except TimeoutError:
                if not limit.expired():
                    raise
                raise WorkerLost(f"it said nothing for {seconds:g} s") from None
            yield told
