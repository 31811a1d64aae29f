"""`python -m sd2rt.serve.worker_process FD`: a process that paints batches for the server at the other end of a socket.

It ends when the server does, however that ends, in the middle of a step too. Signals are for the server: Ctrl-C in a terminal reaches
both, and what is being painted may be finished.
"""

from __future__ import annotations

import logging
import os
import queue
import signal
import socket
import sys
import threading

from sd2rt.engine.errors import Sd2rtError
from sd2rt.serve.messages import BatchDone, Cancel, Evicted, FromWorker, Logged, Opened, Paint, Setup, Told, pack, receive
from sd2rt.serve.order import LAST, Failed
from sd2rt.serve.pace import paced
from sd2rt.serve.painting import paint_batch
from sd2rt.serve.shelf import Shelf

IGNORED = (signal.SIGINT, signal.SIGTERM)


class Link(logging.Handler):
    """The way to the server, for events and for lines of the log."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__()
        self._connection = connection
        self._turn = threading.Lock()

    def send(self, *messages: FromWorker) -> None:
        """Send messages whole, together. A server that is gone ends this process."""
        with self._turn:
            try:
                self._connection.sendall(b"".join(map(pack, messages)))
            except OSError:
                os._exit(0)

    def emit(self, record: logging.LogRecord) -> None:
        """Send a line of the log."""
        self.send(Logged(level=record.levelno, text=self.format(record)))


class Commands:
    """What the server says, read by a thread of its own, so that a task can be given up while others are painted."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._batches: queue.SimpleQueue[Paint] = queue.SimpleQueue()
        self._cancelled: set[str] = set()
        threading.Thread(target=self._listen, name="commands", daemon=True).start()

    def next_batch(self) -> Paint:
        """Wait for a batch."""
        batch = self._batches.get()
        self._cancelled &= {task.id for task in batch.tasks}
        return batch

    def cancelled(self) -> set[str]:
        """Return what is given up by now."""
        return set(self._cancelled)

    def _listen(self) -> None:
        while True:
            message = receive(self._connection)
            if message is None:
                os._exit(0)  # the server is gone, and nobody wants what is being painted
            if isinstance(message, Paint):
                self._batches.put(message)
            elif isinstance(message, Cancel):
                self._cancelled.add(message.id)


def main() -> None:
    """Open the first model, then paint until the server is gone."""
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    connection = socket.socket(fileno=int(sys.argv[1]))
    setup = receive(connection)
    if not isinstance(setup, Setup):
        return
    link = Link(connection)
    logging.basicConfig(level=logging.INFO, handlers=[link], format="%(message)s")
    shelf = Shelf(setup.shelf, evicted=lambda model: link.send(Evicted(model=model)), notify=logging.getLogger(__name__).info)
    commands = Commands(connection)
    try:
        shelf.open(next(iter(setup.shelf.models)))
    except (Sd2rtError, MemoryError) as error:
        link.send(Opened(problem=str(error) or type(error).__name__))
        return
    link.send(Opened())
    while True:
        paint(shelf, link, commands)


def paint(shelf: Shelf, link: Link, commands: Commands) -> None:
    """Paint the next batch. An error that is nobody's fault but ours fails what is left of it, and is logged."""
    tasks = commands.next_batch().tasks
    left = {task.id for task in tasks}
    try:
        for task_id, event in paced(paint_batch(shelf, tasks, commands.cancelled)):
            rest = left - {task_id} if isinstance(event, LAST) else left
            link.send(Told(id=task_id, event=event), *([] if rest else [BatchDone()]))
            left = rest
    except Exception:
        logging.getLogger(__name__).exception("painting %s failed", ", ".join(task.id for task in tasks))
    if left:
        logging.getLogger(__name__).error("%s: came to no end", ", ".join(left))
        why = "the server failed; its log says why"
        link.send(*(Told(id=task_id, event=Failed(message=f"{task_id}: {why}", status=500)) for task_id in left), BatchDone())


if __name__ == "__main__":
    main()
