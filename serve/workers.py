"""The local backend: worker processes of this machine, each with models of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from sd2rt.engine.cpu import cpu_count
from sd2rt.serve.backend import Task
from sd2rt.serve.errors import ServeError
from sd2rt.serve.observe import NobodyObserves, Observer
from sd2rt.serve.offers import name_models
from sd2rt.serve.order import Event
from sd2rt.serve.settings import ServeSettings
from sd2rt.serve.shelf import ShelfSettings
from sd2rt.serve.worker import Worker


class LocalBackend:
    """`settings.workers` processes; see `Backend`."""

    def __init__(self, settings: ServeSettings, observer: Observer | None = None) -> None:
        threads = settings.threads or max(cpu_count() // settings.workers, 1)
        shelf = ShelfSettings(
            models=name_models(settings.models), target=settings.target, threads=threads, memory_bytes=settings.memory_bytes
        )
        self._workers = [Worker(shelf, observer or NobodyObserves()) for _ in range(settings.workers)]
        self._free: asyncio.Queue[Worker] = asyncio.Queue()
        self._painting: dict[str, Worker] = {}

    @property
    def slots(self) -> int:
        """How many batches it works on at once."""
        return len(self._workers)

    @property
    def pids(self) -> tuple[int, ...]:
        """The ids of the processes that there are."""
        return tuple(worker.pid for worker in self._workers if worker.pid is not None)

    async def start(self) -> None:
        """Start all workers; see `Backend`. Raises ServeError when one cannot open the default model."""
        for worker in self._workers:
            worker.start()
        for worker in self._workers:
            if not await worker.ready():
                problem = worker.problem
                await self.stop()
                raise ServeError(f"a worker did not come up: {problem}")
            self._free.put_nowait(worker)

    async def paint(self, batch: Sequence[Task]) -> AsyncIterator[tuple[str, Event]]:
        """Paint on the worker that is free first; see `Backend`. Raises WorkerLost."""
        worker = await self._free.get()
        mine = dict.fromkeys((task.id for task in batch), worker)
        self._painting |= mine
        try:
            async for event in worker.paint(batch):
                yield event
        finally:
            for task_id in mine:
                self._painting.pop(task_id, None)
            self._free.put_nowait(worker)

    def cancel(self, job_id: str) -> None:
        """Give up a task that is being painted; see `Backend`."""
        worker = self._painting.get(job_id)
        if worker is not None:
            worker.cancel(job_id)

    async def stop(self) -> None:
        """End all workers; see `Backend`."""
        await asyncio.gather(*(worker.stop() for worker in self._workers))
