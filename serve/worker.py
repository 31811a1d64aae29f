"""One worker process as the server sees it: started, spoken to, and started anew when it dies."""

from __future__ import annotations

import asyncio
import logging
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Sequence

from sd2rt.serve.backend import Task
from sd2rt.serve.errors import WorkerLost
from sd2rt.serve.messages import BatchDone, Cancel, Evicted, FromWorker, FromWorkers, Logged, Opened, Paint, Setup, Told, ToWorker, pack
from sd2rt.serve.observe import Observer
from sd2rt.serve.order import Event
from sd2rt.serve.shelf import ShelfSettings

STDERR = 2  # the server's own; what engines may print is no result
STOP_S = 5.0  # that a worker has to end before it is killed
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0  # before a worker that did not come up is started again; doubled each time

log = logging.getLogger(__name__)


class Worker:
    """One process, kept going from `start` to `stop`. `changed` is told when it came up, or did not.

    One that says nothing for `hang_s` before it is up is ended, and has not come up; 0: it may take for ever. `failures` is how many
    starts in a row failed, and `problem` why the last one did.
    """

    def __init__(self, shelf: ShelfSettings, observer: Observer, changed: Callable[[], None], hang_s: float = 0.0) -> None:
        self._shelf = shelf
        self._hang_s = hang_s
        self._patience: asyncio.Timeout | None = None  # with a process that is not up yet
        self._observer = observer
        self._changed = changed
        self._process: subprocess.Popen[bytes] | None = None
        self._link: asyncio.Transport | None = None
        self._events: asyncio.Queue[tuple[str, Event] | BatchDone | WorkerLost | None] | None = None  # of the batch under way
        self._came_up = False  # the process that there is, or was last
        self.up = False
        self.failures = 0
        self.problem = ""
        self.task: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The process's id; None while there is none, that is, until the next one is started."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start the process, and again whenever it is gone."""
        self.task = asyncio.create_task(self._run())

    async def paint(self, batch: Sequence[Task]) -> AsyncGenerator[tuple[str, Event] | None]:
        """Paint a batch, one at a time, while it is up; see `Backend`. None is a sign of life. Raises WorkerLost."""
        self._events = asyncio.Queue()
        over = False
        try:
            self._send(Paint(tasks=tuple(batch)))
            while not isinstance(event := await self._events.get(), BatchDone):
                if isinstance(event, WorkerLost):
                    raise event
                yield event
            over = True
        finally:
            self._events = None
            if not over and self._link is not None:
                self.up = False
                self._link.abort()  # nobody listens to the rest of the batch: the process ends, and is started anew

    def cancel(self, task_id: str) -> None:
        """Tell the process that a task is given up; one that is gone tells of no more tasks anyway."""
        if self.up:
            self._send(Cancel(id=task_id))

    async def stop(self) -> None:
        """End the process; a batch under way ends in WorkerLost."""
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)

    def _send(self, message: ToWorker) -> None:
        assert self._link is not None  # it is up
        self._link.write(pack(message))

    async def _run(self) -> None:
        pause = FIRST_PAUSE_S
        while True:
            try:
                await self._live()
            except OSError as error:  # no process, or no socket, could be had
                self.problem = str(error)
            except Exception as error:  # such as words of another version, installed since the server was started
                self.problem = str(error) or type(error).__name__
                log.exception("worker process %s is let go of", self.pid)
            finally:
                self.up = False
                if self._events is not None:
                    self._events.put_nowait(WorkerLost(f"worker process {self.pid} is gone"))
                await self._bury()
            if self._came_up:
                pause = FIRST_PAUSE_S
                continue
            self.failures += 1
            self._changed()
            log.error("a worker did not come up (%s); trying again in %g s", self.problem, pause)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)

    async def _live(self) -> None:
        """Start a process and pass on what it says until it is gone."""
        self._came_up = False
        self.problem = "its process ended"
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", "sd2rt.serve.worker_process", str(theirs.fileno())]
            try:
                self._process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=STDERR, pass_fds=[theirs.fileno()], start_new_session=True
                )
            except BaseException:
                ours.close()
                raise
        self._link, messages = await asyncio.get_running_loop().create_connection(lambda: FromWorkers(self._take), sock=ours)
        self._send(Setup(shelf=self._shelf))
        try:
            async with asyncio.timeout(self._hang_s or None) as self._patience:
                await messages.gone
        except TimeoutError:
            self.problem = f"it said nothing for {self._hang_s:g} s"

    def _take(self, message: FromWorker) -> None:
        if self._patience is not None and self._patience.expired():
            return  # it said nothing for too long, and is being ended
        if isinstance(message, Opened):
            self.problem = message.problem
            self.up = self._came_up = not message.problem
            if self.up:
                self.failures = 0
                self._changed()
        elif isinstance(message, Evicted):
            log.info("closed %s to make room", message.model)
            self._observer.evicted(message.model)
        elif isinstance(message, Logged):
            log.log(message.level, "%s", message.text)
        if self._events is not None:
            told = (message.id, message.event) if isinstance(message, Told) else message if isinstance(message, BatchDone) else None
            self._events.put_nowait(told)
        if self._patience is not None:
            waits = self._hang_s and not self._came_up  # a batch is waited for by whoever gave it
            self._patience.reschedule(asyncio.get_running_loop().time() + self._hang_s if waits else None)

    async def _bury(self) -> None:
        """Let go of a process: one that lives ends, since its server's end of the socket is closed."""
        if self._link is not None:
            self._link.abort()
            self._link = None
        process = self._process
        if process is not None:
            try:
                await asyncio.to_thread(process.wait, STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                await asyncio.to_thread(process.wait)
            self._process = None
