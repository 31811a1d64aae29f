"""What runs in Ray's processes: replicas that paint, and the board on which a server writes what it has given up.

A replica gets and gives bytes (`wire`). It paints one batch at a time, so a second call cannot tell it to stop: it looks at the board
after every step. One that hangs does not look; the board, which knows who paints what, ends it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from sd2rt.engine.errors import Sd2rtError
from sd2rt.serve.order import LAST, Failed
from sd2rt.serve.pace import paced
from sd2rt.serve.painting import paint_batch
from sd2rt.serve.shelf import Shelf, ShelfSettings
from sd2rt.serve.wire import Evicted, LogLine, decode_batch, encode_event

MOST_ENDED = 10_000  # tasks that are remembered: a replica may sign for them, or ask, after the server has let go of them
NOT_UP = "the replica's first model cannot be opened: "

log = logging.getLogger(__name__)


def attempt_id(attempt: int, task_id: str) -> str:
    """Return what the board calls a task while a batch is painted; it is called otherwise where it is painted again."""
    return f"{attempt}/{task_id}"


class Board:
    """Tasks that are given up, and who paints them. One process for all replicas; its methods take turns in one event loop.

    A task's id here is of one attempt to paint it (`attempt_id`): what has ended stays so, also where the task is painted again.
    """

    def __init__(self) -> None:
        self._painters: dict[str, Any] = {}  # handles of actors
        self._watched: dict[str, asyncio.Event] = {}
        self._given_up: set[str] = set()
        self._ended: dict[str, None] = {}  # as a set, the oldest first

    async def take(self, task_ids: list[str], painter: Any) -> None:
        """Write who paints a batch."""
        self._painters |= {task_id: painter for task_id in task_ids if task_id not in self._ended}

    async def end(self, task_ids: list[str]) -> None:
        """End those who paint some tasks, whether they listen or not; Serve starts others."""
        for painter in {self._painters[task_id] for task_id in task_ids if task_id in self._painters}:
            kill_actor(painter)
        await self.forget(task_ids)

    async def give_up(self, task_id: str) -> None:
        """Write that a task is given up."""
        self._given_up.add(task_id)
        if task_id in self._watched:
            self._watched[task_id].set()

    async def forget(self, task_ids: list[str]) -> None:
        """Let go of tasks that nobody waits for any more; replicas that still paint them give them up."""
        for task_id in task_ids:
            self._painters.pop(task_id, None)
            self._given_up.discard(task_id)
            self._ended[task_id] = None
            event = self._watched.pop(task_id, None)
            if event is not None:
                event.set()
        while len(self._ended) > MOST_ENDED:
            del self._ended[next(iter(self._ended))]

    async def next(self, task_ids: list[str], known: list[str]) -> list[str]:
        """Wait until some of a batch's tasks are given up that are not `known` to be, or all have ended; return them."""
        changed = asyncio.Event()
        self._watched |= {task_id: changed for task_id in task_ids if task_id not in self._ended}
        while True:
            found = [task_id for task_id in task_ids if task_id in self._given_up or task_id not in self._watched]
            if set(found) - set(known) or len(found) == len(task_ids):
                return found
            changed.clear()
            await changed.wait()


class Watch:
    """One batch's view of the board: signs for it, asks once, and looks after each step whether the answer has come."""

    def __init__(self, board: Any, attempt: int, task_ids: Sequence[str]) -> None:
        import ray

        self._ray = ray
        self._board = board
        self._tasks = {attempt_id(attempt, task_id): task_id for task_id in task_ids}
        self._given_up: list[str] = []
        board.take.remote(list(self._tasks), ray.get_runtime_context().current_actor)
        self._answer = self._ask()

    def __call__(self) -> list[str]:
        """Return the tasks that are given up by now."""
        ready, _ = self._ray.wait([self._answer], timeout=0)
        if ready:
            try:
                self._given_up = self._ray.get(self._answer)
            except self._ray.exceptions.RayError:  # a board that is gone is being started again
                log.warning("the board did not answer; asking again")
            self._answer = self._ask()
        return [self._tasks[found] for found in self._given_up]

    def _ask(self) -> Any:
        return self._board.next.remote(list(self._tasks), self._given_up)


class Replica:
    """A shelf of models, the first of them open, behind one method that paints."""

    def __init__(self, setup: str, board: Any) -> None:
        """Take `ShelfSettings` as JSON. Raises RuntimeError, which Serve can pass on, when the first model cannot be opened."""
        settings = ShelfSettings(**json.loads(setup))
        self._board = board
        self._turn = threading.Lock()  # Serve lets go of a call that it has cancelled before that has ended
        self._notes: list[LogLine | Evicted] = []
        logging.getLogger("sd2rt").addHandler(_Notebook(self._notes))
        self._shelf = Shelf(settings, evicted=lambda model: self._notes.append(Evicted(model=model)))
        try:
            self._shelf.open(next(iter(settings.models)))
        except (Sd2rtError, MemoryError) as error:
            raise RuntimeError(f"{NOT_UP}{error or type(error).__name__}") from None

    def paint(self, content: bytes, attempt: int) -> Iterator[bytes]:
        """Paint a batch: yield events until each of its tasks had its last one, between lines of the log. No other has its `attempt`."""
        tasks = decode_batch(content)
        left = {task.id for task in tasks}
        watch = Watch(self._board, attempt, list(left))
        with self._turn:
            try:
                for task_id, event in paced(paint_batch(self._shelf, tasks, watch)):
                    left -= {task_id} if isinstance(event, LAST) else set()
                    yield from self._told()
                    yield encode_event(task_id, event)
            except Exception:  # nobody's fault but ours
                log.exception("painting %s failed", ", ".join(left))
                for task_id in left:
                    yield encode_event(task_id, Failed(message=f"{task_id}: the server failed; its log says why", status=500))
            yield from self._told()

    def _told(self) -> Iterator[bytes]:
        while self._notes:
            yield encode_event("", self._notes.pop(0))


def kill_actor(actor: Any) -> None:
    """End an actor's process, also one that hangs."""
    import ray

    ray.kill(actor)


class _Notebook(logging.Handler):
    """Keeps lines of the log for the server."""

    def __init__(self, notes: list[LogLine | Evicted]) -> None:
        super().__init__(logging.INFO)
        self._notes = notes

    def emit(self, record: logging.LogRecord) -> None:
        self._notes.append(LogLine(level=record.levelno, text=self.format(record)))
