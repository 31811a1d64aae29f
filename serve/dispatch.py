"""Waiting jobs to batches, batches to the backend, and events back to the jobs; lost workers cost nobody a job but a guilty one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from time import monotonic

from sd2rt.serve.backend import Backend, Task
from sd2rt.serve.errors import NoWorker, WorkerLost
from sd2rt.serve.forecast import Forecast, work_of
from sd2rt.serve.jobs import ServedJob
from sd2rt.serve.observe import Observer
from sd2rt.serve.order import Cancelled, Event, Failed
from sd2rt.serve.queue import WaitingJobs
from sd2rt.serve.settings import ServeSettings

MOST_TRIES = 3  # of a job whose workers are lost
MOST_WAITS = 8  # for orders that come one after the other, as those of clients do that were answered together
LONELY = 3  # batches of one job after which nobody is waited for

log = logging.getLogger(__name__)


class Dispatcher:
    """Paints what waits, for as long as it runs; `ended` is told of every job that had its last event."""

    def __init__(
        self, settings: ServeSettings, waiting: WaitingJobs, backend: Backend, observer: Observer, ended: Callable[[ServedJob], None]
    ) -> None:
        self.painting: dict[str, ServedJob] = {}
        self._settings = settings
        self._waiting = waiting
        self._backend = backend
        self._observer = observer
        self._ended = ended
        self._batches: dict[asyncio.Task[None], list[ServedJob]] = {}
        self._lonely = 0  # how many batches in a row held one job, with nobody waiting when they ended
        self._forecast = Forecast()
        self._changed = asyncio.Event()  # a job came or went, or a batch ended
        self._loop: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look for jobs."""
        self._loop = asyncio.create_task(self._dispatch())
        self._loop.add_done_callback(self._broken)

    @property
    def alive(self) -> bool:
        """Whether what waits will be painted."""
        return self._loop is not None and not self._loop.done()

    def wake(self) -> None:
        """Look again: a job has come."""
        self._changed.set()

    def place_free_in_s(self) -> float:
        """Guess when a place in a full queue is free: when the next batch ends."""
        return min(map(self._forecast.seconds, self._batches.values()), default=0.0)

    def give_up(self, job: ServedJob) -> None:
        """End a job: at once where it waits, within a step where it is being painted; nothing where it has ended."""
        job.unwanted = True
        if job.id in self.painting:
            self._backend.cancel(job.id)
        elif job.ending is None:
            self._waiting.remove(job)
            self._tell(job, Cancelled())
            self._changed.set()

    async def drain(self) -> None:
        """Wait until nothing waits and nothing is being painted."""
        while len(self._waiting) or self._batches:
            self._changed.clear()
            await self._changed.wait()

    async def stop(self) -> None:
        """End all at once; jobs that have not ended are cancelled. The backend is stopped by then."""
        tasks = [*self._batches, *([] if self._loop is None else [self._loop])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for job in [*self._waiting, *self.painting.values()]:
            self._tell(job, Cancelled())

    async def _dispatch(self) -> None:
        """Give batches to free workers."""
        while True:
            while not len(self._waiting) or len(self._batches) >= self._backend.slots:
                self._changed.clear()
                await self._changed.wait()
            if not self._batches and self._lonely < LONELY:
                await self._companions()
            jobs = self._waiting.take()
            if jobs:  # not cancelled meanwhile
                self.painting |= {job.id: job for job in jobs}
                batch = asyncio.create_task(self._paint(jobs))
                self._batches[batch] = jobs
                batch.add_done_callback(self._batch_ended)

    def _broken(self, loop: asyncio.Task[None]) -> None:
        """Where an error of ours ended the loop, let nobody wait for what does not come."""
        error = None if loop.cancelled() else loop.exception()
        if error is not None:
            log.critical("no more batches are made; the server must be started anew", exc_info=error)
            waiting = list(self._waiting)
            for job in waiting:
                self._waiting.remove(job)
            self._fail(waiting, "the server failed; its log says why", 500)
            self._changed.set()

    def _batch_ended(self, batch: asyncio.Task[None]) -> None:
        del self._batches[batch]
        self._changed.set()

    async def _companions(self) -> None:
        """Wait a little for orders that can be painted with the oldest, and after each that comes as long again, up to MOST_WAITS."""
        wait_s = self._settings.batch_wait_ms / 1000
        until = monotonic() + MOST_WAITS * wait_s
        while not self._waiting.full() and (left := until - monotonic()) > 0:
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), min(wait_s, left))
            except TimeoutError:
                return

    async def _paint(self, jobs: list[ServedJob]) -> None:
        """Have a batch painted and pass its events on; what is left when its worker is lost is painted again, or fails."""
        for job in jobs:
            if job.unwanted:  # since it was taken: the backend did not know it yet
                self._tell(job, Cancelled())
        jobs = [job for job in jobs if job.ending is None]
        if not jobs:
            return
        began = monotonic()
        by_id = {job.id: job for job in jobs}
        work = work_of(jobs)
        try:
            self._observer.began(sum(job.count for job in jobs), len(jobs), [began - job.queued_at for job in jobs])
            async for job_id, event in self._backend.paint([Task(id=job.id, order=job.order) for job in jobs]):
                self._tell(by_id[job_id], event)
            self._forecast.learn(jobs, work, monotonic() - began)
            self._lonely = self._lonely + 1 if len(jobs) == 1 and not len(self._waiting) else 0
            self._fail(jobs, "its batch ended without it", 500)
        except WorkerLost as error:
            log.warning("lost a worker that painted %s: %s", ", ".join(by_id), error)
            self._observer.lost(len(jobs))
            self._paint_again(jobs)
        except NoWorker as error:
            log.error("%s were not painted: %s", ", ".join(by_id), error)
            self._fail(jobs, "nothing can be painted now; the server's log says why", 503)
        except Exception:
            log.exception("painting %s failed", ", ".join(by_id))
            self._fail(jobs, "the server failed; its log says why", 500)

    def _paint_again(self, jobs: list[ServedJob]) -> None:
        """Put what a lost worker left undone to the front of the queue, each to be painted by itself; after too many tries it fails."""
        left = [job for job in jobs if job.ending is None]
        for job in left:
            job.wait_again()
            if job.unwanted:
                self._tell(job, Cancelled())
        self._fail([job for job in left if job.lost >= MOST_TRIES], f"{MOST_TRIES} workers were lost while they painted it", 503)
        again = [job for job in left if job.ending is None]
        for job in again:
            del self.painting[job.id]
        self._waiting.put_first(again)

    def _fail(self, jobs: list[ServedJob], why: str, status: int) -> None:
        """End what has not ended."""
        for job in jobs:
            if job.ending is None:
                self._tell(job, Failed(message=f"{job.id}: {why}", status=status))

    def _tell(self, job: ServedJob, event: Event) -> None:
        """Pass an event on; after the last one the job is out of the way."""
        job.tell(event)
        if job.ending is event:
            self.painting.pop(job.id, None)
            self._ended(job)
            asyncio.get_running_loop().call_soon(self._observer.ended, job)  # once those who wait for it had their turn
