"""Servers for tests of the page: the real application on a free port, in a thread of its own."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn

from sd2rt.serve.app import make_app
from sd2rt.serve.backend import Backend
from sd2rt.serve.service import Service
from sd2rt.serve.settings import ServeSettings
from tests.serve.conditions import WAIT_S, wait_until


class PageServer(uvicorn.Server):
    """A server whose event loop tests can call into. `address` is that of the page."""

    address: str
    service: Service
    loop: asyncio.AbstractEventLoop

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        self.loop = asyncio.get_running_loop()
        await super().serve(sockets)

    def call(self, act: Callable[[], None]) -> None:
        """Do something on the event loop, and wait until it is done."""

        async def run() -> None:
            act()

        asyncio.run_coroutine_threadsafe(run(), self.loop).result(WAIT_S)


@contextmanager
def serving(settings: ServeSettings, backend: Backend, port: int = 0) -> Iterator[PageServer]:
    """Serve on loopback while the block runs."""
    listener = socket.create_server(("127.0.0.1", port))
    service = Service(settings, backend)
    server = PageServer(uvicorn.Config(make_app(service), log_level="warning", timeout_graceful_shutdown=1))
    server.service = service
    server.address = f"http://127.0.0.1:{listener.getsockname()[1]}/"
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    try:
        wait_until(lambda: server.started or not thread.is_alive())
        assert server.started, "the server did not start"
        yield server
    finally:
        server.should_exit = True
        thread.join(WAIT_S)
        listener.close()
    assert not thread.is_alive()
