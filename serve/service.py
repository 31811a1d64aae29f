"""The core of a server: takes orders, lets them wait, has them painted in batches, and keeps what came of them.

Knows no HTTP and no engine. All methods belong to one event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from concurrent.futures import ThreadPoolExecutor

from sd2rt.engine.errors import InvalidArgument, Sd2rtError
from sd2rt.serve.admission import Admitted, admit, check_limits
from sd2rt.serve.backend import Backend
from sd2rt.serve.dispatch import Dispatcher
from sd2rt.serve.errors import QueueFull, ServeError, Stopping, UnknownModel
from sd2rt.serve.jobs import ServedJob
from sd2rt.serve.observe import Observer
from sd2rt.serve.observers import Observers
from sd2rt.serve.offers import Offer, OfferedModel, read_offers
from sd2rt.serve.order import Order
from sd2rt.serve.queue import WaitingJobs
from sd2rt.serve.results import Results
from sd2rt.serve.settings import ServeSettings

CANCEL_S = 10.0  # that jobs have to end after they are cancelled when the server stops
SWEEP_S = 5.0  # between looks for results that have expired
LONGEST_RETRY_S = 600
CHECKING_THREADS = 2
QUICK_CHARACTERS, QUICK_STEPS = 400, 50


class Service:
    """Orders to pictures. Start it before the first order; `stop` finishes what was taken."""

    def __init__(self, settings: ServeSettings, backend: Backend, observer: Observer | None = None) -> None:
        self.settings = settings
        self.stopping = False
        self._backend = backend
        self._observer = observer or Observers()
        self._offers: dict[str, Offer] = {}
        self._waiting = WaitingJobs(settings.queue)
        self._results = Results(settings.results_s, settings.results_bytes)
        self._dispatcher = Dispatcher(settings, self._waiting, backend, self._observer, self._results.end)
        self._checks = ThreadPoolExecutor(CHECKING_THREADS, thread_name_prefix="check")
        self._sweeper: asyncio.Task[None] | None = None

    @property
    def models(self) -> tuple[OfferedModel, ...]:
        """The models that orders may name, the default one first."""
        return tuple(offer.model for offer in self._offers.values())

    @property
    def ready(self) -> bool:
        """Whether it takes orders: it is started, does not stop, and nothing in it broke."""
        return self._dispatcher.alive and not self.stopping

    @property
    def queued(self) -> int:
        """How many jobs wait."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """How many jobs are being painted."""
        return len(self._dispatcher.painting)

    async def start(self) -> None:
        """Read the models and start what paints. Raises InvalidArgument, ModelNotFound, BundleError, and as `Backend.start` does."""
        self._offers = await asyncio.to_thread(read_offers, self.settings)
        await self._backend.start()
        self._dispatcher.start()
        self._sweeper = asyncio.create_task(self._sweep())

    async def stop(self) -> None:
        """Take nothing more, finish what was taken within `drain_s`, cancel the rest, and free everything."""
        self.stopping = True
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._dispatcher.drain(), self.settings.drain_s)
        for job in [*self._waiting, *self._dispatcher.painting.values()]:
            self._dispatcher.give_up(job)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._dispatcher.drain(), CANCEL_S)
        await self._backend.stop()
        await self._dispatcher.stop()
        if self._sweeper is not None:
            self._sweeper.cancel()
        self._checks.shutdown(wait=False)

    async def submit(self, order: Order, owner: str) -> ServedJob:
        """Take an order, or say why not: raises Stopping, UnknownModel, InvalidArgument, QueueFull. Nothing is decoded for a full queue."""
        try:
            job = ServedJob(await self._admit(order), owner)
        except Sd2rtError as error:
            self._observer.refused(_refusal(error))
            raise
        self._waiting.add(job)
        self._results.add(job)
        self._observer.submitted(job)
        self._dispatcher.wake()
        return job

    def check_open(self) -> None:
        """Raise what every order would get now: Stopping, QueueFull. For routes, before they do work on what may be a large body."""
        try:
            self._check_running()
            self._take_place()
        except ServeError as error:
            self._observer.refused(_refusal(error))
            raise
        self._waiting.give_back()

    def find(self, job_id: str, owner: str) -> ServedJob:
        """Return an owner's job. Raises UnknownJob, for another owner's too."""
        return self._results.find(job_id, owner)

    def jobs(self, owner: str) -> tuple[ServedJob, ...]:
        """Return an owner's jobs, newest first."""
        return self._results.of(owner)

    def cancel(self, job_id: str, owner: str) -> ServedJob:
        """Give up an owner's job: one that waits at once, one that is painted within a step. Raises UnknownJob."""
        job = self._results.find(job_id, owner)
        self._dispatcher.give_up(job)
        return job

    def remove(self, job_id: str, owner: str) -> ServedJob:
        """Forget an owner's job that has ended; give up one that has not, which stays until it expires. Raises UnknownJob."""
        job = self._results.find(job_id, owner)
        if job.ending is None:
            self._dispatcher.give_up(job)
        else:
            self._results.remove(job)
        return job

    def cancel_all(self, owner: str) -> int:
        """Give up all of an owner's jobs that have not ended; return how many there were."""
        found = [job for job in self._results.of(owner) if job.ending is None]
        for job in found:
            self._dispatcher.give_up(job)
        return len(found)

    async def _admit(self, order: Order) -> Admitted:
        """Check an order, with a place in the queue reserved for it, which is kept when it is right."""
        self._check_running()
        offer = self._offers.get(order.model)
        if offer is None:
            raise UnknownModel(f"model: got {order.model[:80]!r}; expected one of {', '.join(self._offers)}")
        self._take_place()
        try:
            limits = order, offer.bundle, self.settings.limits
            await asyncio.to_thread(check_limits, *limits) if order.pictures else check_limits(*limits)
            if offer.engines is None and _is_quick(order):  # what is built may have to be read
                admitted = admit(order, offer, self.settings.limits)
            else:
                threads = self._checks if order.pictures else None  # texts do not wait for pictures that are decoded
                admitted = await asyncio.get_running_loop().run_in_executor(threads, admit, order, offer, self.settings.limits)
            self._check_running()  # it may have been told to stop meanwhile
        except BaseException:
            self._waiting.give_back()
            raise
        return admitted

    def _take_place(self) -> None:
        if not self._waiting.reserve():
            soon = min(max(math.ceil(self._dispatcher.place_free_in_s()), 1), LONGEST_RETRY_S)
            raise QueueFull(f"queue: got an order while {self.queued} wait, as many as may; try again in {soon} s", soon)

    def _check_running(self) -> None:
        if not self.ready:
            raise Stopping(
                "the server is stopping: it takes no more orders" if self.stopping else "the server is not ready: try again soon"
            )

    async def _sweep(self) -> None:
        """Forget results that have expired, also while nobody asks."""
        while True:
            await asyncio.sleep(min(SWEEP_S, self.settings.results_s))
            self._results.expire()


def _is_quick(order: Order) -> bool:
    """Return whether checking an order takes less than a thread's turn does, half a millisecond: few words, few steps, no pictures."""
    texts = [order.options.get(name, "") for name in ("prompt", "negative_prompt")]
    steps = order.options.get("steps")
    few = steps is None or (isinstance(steps, int) and steps <= QUICK_STEPS)
    return few and not order.pictures and all(isinstance(text, str) and len(text) <= QUICK_CHARACTERS for text in texts)


def _refusal(error: Sd2rtError) -> str:
    """Name the reason of a refusal, as observers are told."""
    if isinstance(error, UnknownModel):
        return "unknown_model"
    if isinstance(error, QueueFull):
        return "queue_full"
    if isinstance(error, InvalidArgument):
        return "invalid"
    return "stopping" if isinstance(error, ServeError) else "failed"
