"""What the server and its worker processes say to each other, over a pair of sockets that nobody else has.

Messages are pickled: both ends are this program, and the server made the pair itself. Nothing that came from outside is ever unpickled.
"""

from __future__ import annotations

import pickle
import struct
from asyncio import Future, Protocol, Transport, get_running_loop
from collections.abc import Callable
from dataclasses import dataclass
from socket import socket

from sd2rt.serve.backend import Task
from sd2rt.serve.order import Event
from sd2rt.serve.shelf import ShelfSettings

LENGTH = struct.Struct("<Q")


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """To a worker, first: what to open; the first of the models at once."""

    shelf: ShelfSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Paint:
    """To a worker: a batch."""

    tasks: tuple[Task, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    """To a worker: a task is given up."""

    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """From a worker, once: it takes batches now; or it does not, since its first model cannot be opened."""

    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """From a worker: an event of a task."""

    id: str
    event: Event


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchDone:
    """From a worker: every task of its batch had its last event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evicted:
    """From a worker: it closed a model."""

    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Logged:
    """From a worker: a line for the server's log, of a level as `logging` counts."""

    level: int
    text: str


ToWorker = Setup | Paint | Cancel
FromWorker = Opened | Told | BatchDone | Evicted | Logged


def pack(message: ToWorker | FromWorker) -> bytes:
    """Return a message as it goes over the socket."""
    content = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    return LENGTH.pack(len(content)) + content


class FromWorkers(Protocol):
    """The server's end of the pair: gives each message to `take` the moment that it is whole.

    `gone` is done when the worker is, or holds what `take` raised, such as for words of another version; nothing is read after that.
    """

    def __init__(self, take: Callable[[FromWorker], None]) -> None:
        self.gone: Future[None] = get_running_loop().create_future()
        self._take = take
        self._received = bytearray()
        self._transport: Transport | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Keep what closes the connection."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Take every message that is whole by now."""
        self._received += data
        begin = 0
        try:
            while len(self._received) >= begin + LENGTH.size:
                (length,) = LENGTH.unpack_from(self._received, begin)
                end = begin + LENGTH.size + length
                if len(self._received) < end:
                    break
                with memoryview(self._received) as received:
                    message = pickle.loads(received[begin + LENGTH.size : end])
                begin = end
                self._take(message)
        except Exception as error:
            if not self.gone.done():
                self.gone.set_exception(error)
            assert self._transport is not None
            self._transport.abort()
        del self._received[:begin]

    def connection_lost(self, error: Exception | None) -> None:
        """Say that the worker is gone."""
        if not self.gone.done():
            self.gone.set_result(None)


def receive(link: socket) -> ToWorker | None:
    """Wait for the server's next message; None when the server is gone."""
    head = _receive_bytes(link, LENGTH.size)
    content = None if head is None else _receive_bytes(link, LENGTH.unpack(head)[0])
    if content is None:
        return None
    message: ToWorker = pickle.loads(content)
    return message


def _receive_bytes(link: socket, count: int) -> bytes | None:
    received = bytearray()
    while len(received) < count:
        try:
            part = link.recv(min(count - len(received), 1 << 20))
        except OSError:
            part = b""
        if not part:
            return None
        received += part
    return bytes(received)
