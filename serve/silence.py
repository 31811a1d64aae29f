"""What is waited for, but not for ever: a process that hangs says as little as one that works."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from sd2rt.serve.errors import WorkerLost
from sd2rt.serve.order import Event

Heard = AsyncGenerator[tuple[str, Event] | None]
"""What is told of a batch, and None for other signs of life, such as lines for the log while an engine is built."""


async def unless_silent(events: Heard, seconds: float) -> AsyncGenerator[tuple[str, Event]]:
    """Pass on what is told of a batch. Closes it and raises WorkerLost when nothing comes for so long; with 0 it waits for ever."""
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
            if told is not None:
                yield told
