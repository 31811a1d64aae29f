"""A server on 127.0.0.1 for tests: uvicorn in a thread, over worker processes with toyworld or over a fake backend."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

import uvicorn
from fastapi import FastAPI

from sd2rt.serve.app import make_app
from sd2rt.serve.service import Service
from sd2rt.serve.settings import ServeSettings
from sd2rt.serve.workers import LocalBackend

START_S = 120.0


@contextlib.contextmanager
def serving(make: Callable[[], FastAPI]) -> Iterator[str]:
    """Serve an application, made in the server's own thread's reach, and yield its address; stop it in any case."""
    server = uvicorn.Server(uvicorn.Config(make(), host="127.0.0.1", port=0, log_level="warning", timeout_graceful_shutdown=5))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        deadline = time.monotonic() + START_S
        while not server.started:
            assert thread.is_alive(), "the server ended while it started"
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(0.02)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(60)
        assert not thread.is_alive()


def toyworld_app(settings: ServeSettings) -> FastAPI:
    """Return an application that paints toyworld in a worker process."""
    return make_app(Service(settings, LocalBackend(settings)))
