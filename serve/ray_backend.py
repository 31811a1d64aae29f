"""The backend of many machines: Ray Serve replicas paint, the server's own process keeps the queue, the jobs and the APIs.

Ray Serve starts replicas, as many as there is work for, and replaces those that die; its HTTP proxy is off. A batch goes to whichever
replica is free and its events come back as a stream of bytes.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import socket
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, field
from typing import Any

from sd2rt.serve.backend import Task
from sd2rt.serve.errors import ServeError, WorkerLost
from sd2rt.serve.observe import Observer
from sd2rt.serve.observers import Observers
from sd2rt.serve.offers import name_models
from sd2rt.serve.order import LAST, Cancelled, Event
from sd2rt.serve.ray_cluster import Cluster, take_back_signals
from sd2rt.serve.ray_deployment import deployment_options
from sd2rt.serve.ray_replica import NOT_UP, Board, Replica, attempt_id
from sd2rt.serve.ray_settings import RaySettings, portable_model
from sd2rt.serve.settings import ServeSettings
from sd2rt.serve.shelf import ShelfSettings
from sd2rt.serve.silence import unless_silent
from sd2rt.serve.wire import Evicted, LogLine, decode_event, encode_batch

DEPLOYMENT = "painter"

log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True, eq=False)
class Painting:
    """A batch on its way: `left` are the tasks without their last event, `unwanted` those given up."""

    attempt: int
    left: set[str]
    stream: Any
    begun: bool = False
    unwanted: set[str] = field(default_factory=set)


class RayBackend:
    """Replicas in a Ray cluster; see `Backend`."""

    def __init__(self, settings: ServeSettings, ray: RaySettings | None = None, observer: Observer | None = None) -> None:
        self._ray_settings = ray or RaySettings()
        self._target = settings.target
        self._hang_s = settings.hang_s
        self._shelf = ShelfSettings(
            models={name: portable_model(model) for name, model in name_models(settings.models).items()},
            target=settings.target,
            threads=self._ray_settings.threads_for(settings.threads),
            memory_bytes=settings.memory_bytes,
        )
        self._application = f"sd2rt-{socket.gethostname()}-{settings.port}"
        self._observer = observer or Observers()
        self._places = asyncio.Semaphore(self.slots)
        self._painting: dict[str, Painting] = {}
        self._attempts = itertools.count(1)
        self._cluster: Cluster | None = None
        self._board: Any = None
        self._handle: Any = None

    @property
    def slots(self) -> int:
        """How many batches it works on at once: one for each replica that there may be."""
        return self._ray_settings.replicas[1]

    async def start(self) -> None:
        """Connect, and deploy; see `Backend`. Raises MissingDependency without ray, ServeError."""
        try:
            await asyncio.to_thread(self._deploy)
            take_back_signals()
        except BaseException:
            await self.stop()
            raise

    async def paint(self, batch: Sequence[Task]) -> AsyncGenerator[tuple[str, Event]]:
        """Paint on a replica that is free, or as soon as one is; see `Backend`. Raises WorkerLost.

        Where it says nothing for long, or is closed before its end, the replica is ended too: it may hang, which Ray is slow to notice.
        """
        ids = [task.id for task in batch]
        async with self._places:
            if self._handle is None:
                raise WorkerLost("the Ray backend is stopped")
            attempt = next(self._attempts)
            painting = Painting(attempt=attempt, left=set(ids), stream=self._handle.paint.remote(encode_batch(batch), attempt))
            self._painting |= dict.fromkeys(ids, painting)
            try:
                async with aclosing(unless_silent(self._events(painting), self._hang_s)) as events:
                    async for task_id, event in events:
                        painting.left -= {task_id} if isinstance(event, LAST) else set()
                        yield task_id, event
            finally:
                for task_id in ids:
                    self._painting.pop(task_id, None)
                if self._handle is not None:  # or the board is gone with the cluster
                    let_go = self._board.end if painting.left else self._board.forget
                    let_go.remote([attempt_id(attempt, task_id) for task_id in ids])

    def cancel(self, job_id: str) -> None:
        """Give up a task that is being painted, or waits for a replica; see `Backend`."""
        painting = self._painting.get(job_id)
        if painting is not None and self._handle is not None:
            painting.unwanted.add(job_id)
            self._board.give_up.remote(attempt_id(painting.attempt, job_id))
            if not painting.begun and painting.left <= painting.unwanted:
                painting.stream.cancel()  # it may wait long for a replica

    async def stop(self) -> None:
        """Take the deployment down, and our own cluster with it; see `Backend`."""
        found, self._cluster, self._handle = self._cluster, None, None
        if found is not None:
            left = [attempt_id(painting.attempt, task_id) for task_id, painting in self._painting.items()]
            await asyncio.to_thread(self._undeploy, found, left)

    async def _events(self, painting: Painting) -> AsyncGenerator[tuple[str, Event] | None]:
        """Yield what the replica tells of the batch, and None for other signs of life. Raises WorkerLost."""
        from ray.exceptions import RayError, TaskCancelledError
        from ray.serve.exceptions import RayServeException

        try:
            async for content in painting.stream:
                task_id, event = decode_event(content)
                if isinstance(event, LogLine):
                    log.log(event.level, "%s", event.text)
                    yield None
                elif isinstance(event, Evicted):
                    self._observer.evicted(event.model)
                    yield None
                else:
                    painting.begun = True
                    yield task_id, event
        except (GeneratorExit, asyncio.CancelledError):  # nobody waits for it any more
            if painting.left and self._handle is not None:
                painting.stream.cancel()
            raise
        except TaskCancelledError:
            for task_id in tuple(painting.left):
                yield task_id, Cancelled()
        except (RayError, RayServeException) as error:
            raise WorkerLost(f"a replica is gone: {type(error).__name__}") from error
        except AttributeError as error:  # what Ray's own code says where the cluster was closed
            if self._handle is None:
                raise WorkerLost("the Ray backend is stopped") from error
            raise
        if painting.left:
            raise WorkerLost("a replica ended without a word on some of its tasks")

    def _deploy(self) -> None:
        """Start replicas and wait until they can paint. Raises ServeError."""
        self._cluster = Cluster(self._ray_settings)
        ray = self._cluster.ray
        from ray import serve

        logging.getLogger("ray.serve").setLevel(logging.ERROR)
        self._board = ray.remote(num_cpus=0, max_restarts=-1)(Board).remote()
        options = deployment_options(self._ray_settings, self._target)
        application = serve.deployment(Replica, name=DEPLOYMENT, **options).bind(json.dumps(asdict(self._shelf)), self._board)
        serve.start(proxy_location="Disabled")
        try:
            handle = serve.run(application, name=self._application, route_prefix=None)
        except RuntimeError as error:
            raise ServeError(f"the replicas did not come up: {self._problem() or error}") from error
        self._handle = handle.options(stream=True)

    def _problem(self) -> str:
        """Return what a replica said when it could not open its model."""
        from ray import serve

        said = serve.status().applications[self._application]
        messages = [said.message, *(deployment.message for deployment in said.deployments.values())]
        found = (line for message in messages for line in message.splitlines() if NOT_UP in line)
        return next((line.partition(NOT_UP)[2] for line in found), "")

    def _undeploy(self, found: Cluster, left: list[str]) -> None:
        """End the replicas of a cluster that goes on, and what is `left` to paint; our own ends with all that is in it."""
        from ray import serve

        if not found.local:
            for task_id in left:
                self._board.give_up.remote(task_id)
            self._board.end.remote(left)
            try:
                serve.delete(self._application)
            except TimeoutError:
                log.warning("replicas of %s still paint; each ends with its batch", self._application)
            found.ray.kill(self._board)
        found.close()
