"""The local backend: worker processes of this machine, each with models of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing

from sd2rt.engine.cpu import cpu_count
from sd2rt.serve.backend import Task
from sd2rt.serve.errors import NoWorker, ServeError, WorkerLost
from sd2rt.serve.observe import Observer
from sd2rt.serve.observers import Observers
from sd2rt.serve.offers import name_models
from sd2rt.serve.order import Cancelled, Event
from sd2rt.serve.settings import ServeSettings
from sd2rt.serve.shelf import ShelfSettings
from sd2rt.serve.silence import unless_silent
from sd2rt.serve.worker import Worker

MOST_FAILURES = 5  # starts in a row that fail, of every worker, before batches fail too: about ten seconds


class LocalBackend:
    """`settings.workers` processes; see `Backend`."""

    def __init__(self, settings: ServeSettings, observer: Observer | None = None) -> None:
        threads = settings.threads or max(cpu_count() // settings.workers, 1)
        shelf = ShelfSettings(
            models=name_models(settings.models),
            target=settings.target,
            threads=threads,
            memory_bytes=settings.memory_bytes,
            first_batch=settings.batch,
        )
        self._changed = asyncio.Event()  # a worker came up, or did not, or has a batch less, or a task that waits for one is given up
        observer = observer or Observers()
        self._hang_s = settings.hang_s
        self._workers = [Worker(shelf, observer, self._changed.set, settings.hang_s) for _ in range(settings.workers)]
        self._busy: set[Worker] = set()
        self._painting: dict[str, Worker | None] = {}  # None: it waits for one
        self._given_up: set[str] = set()  # of those that wait
        self._stopped = False

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
        while not all(worker.up for worker in self._workers):
            failed = next((worker for worker in self._workers if worker.failures), None)
            if failed is not None:
                await self.stop()
                raise ServeError(f"a worker did not come up: {failed.problem}")
            await self._change()

    async def paint(self, batch: Sequence[Task]) -> AsyncIterator[tuple[str, Event]]:
        """Paint on the worker that is free first; see `Backend`. Raises WorkerLost, NoWorker."""
        left = {task.id: task for task in batch}
        self._painting |= dict.fromkeys(left)
        worker = None
        try:
            while worker is None:
                while unwanted := self._given_up.intersection(left):
                    yield left.pop(unwanted.pop()).id, Cancelled()
                if not left:
                    return
                worker = self._free()
                if worker is None:
                    await self._change()
            self._painting |= dict.fromkeys(left, worker)
            self._busy.add(worker)
            async with aclosing(unless_silent(worker.paint(tuple(left.values())), self._hang_s)) as events:
                async for event in events:
                    yield event
        finally:
            for task in batch:
                self._painting.pop(task.id, None)
                self._given_up.discard(task.id)
            if worker is not None:
                self._busy.discard(worker)
            self._changed.set()

    def cancel(self, job_id: str) -> None:
        """Give up a task that is being painted, or waits for a worker; see `Backend`."""
        worker = self._painting.get(job_id)
        if worker is not None:
            worker.cancel(job_id)
        elif job_id in self._painting:
            self._given_up.add(job_id)
            self._changed.set()

    async def stop(self) -> None:
        """End all workers; see `Backend`."""
        self._stopped = True
        self._changed.set()
        await asyncio.gather(*(worker.stop() for worker in self._workers))

    def _free(self) -> Worker | None:
        """Return a worker that is up and has no batch, None while there is none. Raises WorkerLost when stopped, NoWorker."""
        if self._stopped:
            raise WorkerLost("the workers are stopped")
        if all(worker.failures >= MOST_FAILURES for worker in self._workers):
            raise NoWorker(f"no worker comes up: {self._workers[0].problem}")
        return next((worker for worker in self._workers if worker.up and worker not in self._busy), None)

    async def _change(self) -> None:
        """Wait until something is as it was not."""
        self._changed.clear()
        await self._changed.wait()
