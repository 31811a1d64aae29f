"""One worker process as the server sees it: started, spoken to, and started anew when it dies."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence

from sd2rt.serve.backend import Task
from sd2rt.serve.errors import WorkerLost
from sd2rt.serve.messages import BatchDone, Cancel, Evicted, Logged, Opened, Paint, Setup, Told, ToWorker, pack, read_message
from sd2rt.serve.observe import Observer
from sd2rt.serve.order import Event
from sd2rt.serve.shelf import ShelfSettings

STDERR = 2  # the server's own; what engines may print is no result
STOP_S = 5.0  # that a worker has to end before it is killed
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0  # before a worker that did not come up is started again; doubled each time

log = logging.getLogger(__name__)


class Worker:
    """One process. `run` keeps it going until `stop`."""

    def __init__(self, shelf: ShelfSettings, observer: Observer) -> None:
        self._shelf = shelf
        self._observer = observer
        self._process: subprocess.Popen[bytes] | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._events: asyncio.Queue[tuple[str, Event] | WorkerLost | None] | None = None  # of the batch under way
        self._settled = asyncio.Event()  # it is up, or did not come up
        self._up = False
        self._given_up: set[str] = set()  # before the process was up
        self.problem = ""
        self.task: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The process's id; None while there is none."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start the process, and again whenever it is gone."""
        self.task = asyncio.create_task(self._run())

    async def ready(self) -> bool:
        """Wait until the process is up; False when it did not come up, and `problem` then says why."""
        await self._settled.wait()
        return self._up

    async def paint(self, batch: Sequence[Task]) -> AsyncIterator[tuple[str, Event]]:
        """Paint a batch, one at a time; see `Backend`. Raises WorkerLost."""
        if not await self.ready():
            raise WorkerLost(f"the worker did not come up: {self.problem}")
        self._events = asyncio.Queue()
        over = False
        try:
            for task_id in self._given_up:
                self._send(Cancel(id=task_id))
            self._send(Paint(tasks=tuple(batch)))
            while (event := await self._events.get()) is not None:
                if isinstance(event, WorkerLost):
                    raise event
                yield event
            over = True
        finally:
            self._events = None
            self._given_up.clear()
            if not over and self._writer is not None:
                self._writer.close()  # nobody listens to the rest of the batch: the process ends, and is started anew

    def cancel(self, task_id: str) -> None:
        """Tell the process that a task is given up."""
        if self._up:
            self._send(Cancel(id=task_id))
        else:
            self._given_up.add(task_id)

    async def stop(self) -> None:
        """End the process; a batch under way ends in WorkerLost."""
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)

    def _send(self, message: ToWorker) -> None:
        assert self._writer is not None  # it is up
        self._writer.write(pack(message))

    async def _run(self) -> None:
        pause = FIRST_PAUSE_S
        while True:
            try:
                await self._live()
            except OSError as error:  # no process, or no socket, could be had
                self.problem = str(error)
            finally:
                came_up = self._up
                self._up = False
                self._settled.clear()
                if self._events is not None:
                    self._events.put_nowait(WorkerLost(f"worker process {self.pid} is gone"))
                await self._bury()
            if came_up:
                pause = FIRST_PAUSE_S
                continue
            self._settled.set()  # whoever waits for it is told
            log.error("a worker did not come up (%s); trying again in %g s", self.problem, pause)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)

    async def _live(self) -> None:
        """Start a process and pass on what it says until it is gone."""
        self._settled.clear()
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", "sd2rt.serve.worker_process", str(theirs.fileno())]
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=STDERR, pass_fds=[theirs.fileno()], start_new_session=True
            )
        self.problem = "its process ended"
        reader, self._writer = await asyncio.open_connection(sock=ours)
        self._send(Setup(shelf=self._shelf))
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                self._take(await read_message(reader))

    def _take(self, message: Opened | Told | BatchDone | Evicted | Logged) -> None:
        if isinstance(message, Opened):
            self.problem, self._up = message.problem, not message.problem
            if self._up:
                self._settled.set()
        elif isinstance(message, Evicted):
            log.info("closed %s to make room", message.model)
            self._observer.evicted(message.model)
        elif isinstance(message, Logged):
            log.log(message.level, "%s", message.text)
        elif self._events is not None:
            self._events.put_nowait(None if isinstance(message, BatchDone) else (message.id, message.event))

    async def _bury(self) -> None:
        """Let go of a process: one that lives ends, since its server's end of the socket is closed."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        process = self._process
        if process is not None:
            try:
                await asyncio.to_thread(process.wait, STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                await asyncio.to_thread(process.wait)
