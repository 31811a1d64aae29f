"""Listening, and ending well: a first signal lets the server finish what it took, a second one ends it at once.

Knows signals, sockets and uvicorn; the routes are the application's, the jobs the service's.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import uvicorn
from fastapi import FastAPI

from sd2rt.serve.backend import Backend
from sd2rt.serve.errors import ServeError
from sd2rt.serve.patience import PatientProtocol
from sd2rt.serve.service import Service

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
END_S = 10.0  # that workers have to end
REPLIES_S = 5  # that replies under way have to get through, once all jobs are done
CONNECTIONS = 512  # more are answered with 503 by uvicorn itself
FETCH_S = 2.0  # in which clients that ask for their jobs now and then find what was finished last
HEADER_BYTES = 32_768


class QuietServer(uvicorn.Server):
    """uvicorn, which leaves signals to us."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


class Signals:
    """The signals that asked to end, in the order they came."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.first, self.second = asyncio.Event(), asyncio.Event()

    def take(self, number: int) -> None:
        """Note one."""
        self.numbers.append(number)
        (self.first if len(self.numbers) == 1 else self.second).set()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How serving ended: by which signal, and whether a second one cut it short."""

    signal: int
    at_once: bool


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that listens. Raises ServeError where the port is taken or the address is none of this machine's."""
    try:
        listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=CONNECTIONS)
    except OSError as error:
        why = str(error) if isinstance(error, socket.gaierror) or not error.errno else os.strerror(error.errno)
        raise ServeError(f"cannot listen on {host}, port {port}: {why}; another --port may be free, 0 finds one") from None
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # its connections have it too; without, every reply may wait 40 ms
    return listener


def url_of(listener: socket.socket) -> str:
    """Return the address that a browser on this machine opens."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def run(app: FastAPI, service: Service, backend: Backend, listener: socket.socket, ready: Callable[[], None]) -> Ended:
    """Serve until a signal comes. Calls `ready` once pictures can be painted; /health answers from the first moment.

    A first signal: no orders are taken any more, what was taken is finished within the drain time, replies get through. Raises what
    `Service.start` raises, and ServeError where listening ends by itself. Nothing is left running.
    """
    signals = Signals()
    http = QuietServer(config_of(app))
    with caught(signals):
        accepting = asyncio.create_task(http.serve(sockets=[listener]))
        work = asyncio.create_task(_work(service, signals, ready))
        second = asyncio.create_task(signals.second.wait())
        try:
            await asyncio.wait((work, second, accepting), return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
                http.should_exit = True
                await asyncio.wait((accepting, second), return_when=asyncio.FIRST_COMPLETED)
            if accepting.done():
                accepting.result()
        finally:
            for task in (accepting, work, second):
                task.cancel()
            await asyncio.gather(accepting, work, second, return_exceptions=True)
            with suppress(TimeoutError):
                await asyncio.wait_for(backend.stop(), END_S)
            listener.close()
    if not signals.numbers:
        raise ServeError("listening ended without a signal; the log says why; start the server again")
    return Ended(signal=signals.numbers[-1], at_once=len(signals.numbers) > 1)


async def _work(service: Service, signals: Signals, ready: Callable[[], None]) -> None:
    """Start the service, and stop it when a signal comes; one that comes while it starts gives the start up."""
    starting = asyncio.create_task(service.start())
    stopping = asyncio.create_task(signals.first.wait())
    try:
        await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            return
        starting.result()
        ready()
        await stopping
        left = service.queued + service.running
        await service.stop()
        await asyncio.sleep(FETCH_S if left else 0.0)
    finally:
        for task in (starting, stopping):
            task.cancel()
        await asyncio.gather(starting, stopping, return_exceptions=True)


def config_of(app: FastAPI) -> uvicorn.Config:
    """Return how uvicorn serves: no headers of proxies believed, no words of its own, requests without end refused."""
    return uvicorn.Config(
        app,
        http=PatientProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=CONNECTIONS,
        h11_max_incomplete_event_size=HEADER_BYTES,
        timeout_graceful_shutdown=REPLIES_S,
    )


@contextmanager
def caught(signals: Signals) -> Iterator[None]:
    """Take the signals that end a run in the running event loop; those that are ignored (nohup) stay ignored."""
    loop = asyncio.get_running_loop()
    taken = [number for number in STOPS if signal.getsignal(number) is not signal.SIG_IGN]
    for number in taken:
        loop.add_signal_handler(number, signals.take, number)
    try:
        yield
    finally:
        for number in taken:
            loop.remove_signal_handler(number)
