"""The application over a backend that paints nothing, asked without a network."""

from __future__ import annotations

import asyncio
import base64
import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs the serve extra")

from fastapi import FastAPI
from PIL import Image
from starlette.testclient import TestClient

from sd2rt.serve.app import make_app
from sd2rt.serve.metrics import Metrics
from sd2rt.serve.server import QuietServer, bind, config_of, url_of
from sd2rt.serve.service import Service
from sd2rt.serve.settings import ServeSettings
from tests.serve.conditions import WAIT_S, wait_until
from tests.serve.fakes import FakeBackend

HOME = "http://127.0.0.1:7860"
TOKENS = (("ann", "ann-secret-0123456789"), ("bob", "bob-secret-0123456789"))
ENDED = ("done", "failed", "cancelled")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rig:
    """A client, and what is behind it."""

    client: TestClient
    app: FastAPI
    service: Service
    backend: FakeBackend

    def post(self, **fields: Any) -> Any:
        """Order pictures, and return the job."""
        reply = self.client.post("/v1/jobs", json={"prompt": "a red cube", "steps": 2, **fields})
        assert reply.status_code == 202, reply.text
        return reply.json()

    def follow(self, job: Any) -> Any:
        """Wait for a job's end and return it."""
        found = {}

        def ended() -> bool:
            found.update(self.client.get(f"/v1/jobs/{job['id']}").json())
            return found["state"] in ENDED

        wait_until(ended)
        return found


@contextmanager
def serving(backend: FakeBackend | None = None, **given: Any) -> Iterator[Rig]:
    """Serve with settings of a test's own."""
    backend = backend or FakeBackend()
    settings = ServeSettings(**{"models": ("toyworld", "toyworld-inpainting", "toyworld-upscaler"), "drain_s": 0.1, **given})
    metrics = Metrics()
    service = Service(settings, backend, metrics)
    app = make_app(service, metrics)
    with TestClient(app, base_url=HOME) as client:
        yield Rig(client=client, app=app, service=service, backend=backend)


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    """A server without tokens, as on one's own machine."""
    with serving() as found:
        yield found


@pytest.fixture(scope="module")
def guarded() -> Iterator[Rig]:
    """A server with the tokens of two owners."""
    with serving(tokens=TOKENS) as found:
        yield found


@contextmanager
def listening(backend: FakeBackend | None = None, **given: Any) -> Iterator[str]:
    """Serve on a real socket, in a thread of its own, and give the address."""
    settings = ServeSettings(**{"models": ("toyworld", "toyworld-inpainting"), "drain_s": 0.1, **given})
    service = Service(settings, backend or FakeBackend())
    server = QuietServer(config_of(make_app(service)))
    listener = bind("127.0.0.1", 0)

    async def work() -> None:
        await service.start()
        await server.serve(sockets=[listener])
        await service.stop()

    thread = threading.Thread(target=lambda: asyncio.run(work()))
    thread.start()
    try:
        wait_until(lambda: server.started or not thread.is_alive())
        yield url_of(listener)
    finally:
        server.should_exit = True
        thread.join(WAIT_S)
        assert not thread.is_alive()


def bearer(secret: str) -> dict[str, str]:
    """Headers with a token."""
    return {"Authorization": f"Bearer {secret}"}


def picture(width: int = 64, height: int = 64, kind: str = "PNG") -> bytes:
    """A picture file."""
    stream = io.BytesIO()
    Image.new("RGB", (width, height), (10, 200, 30)).save(stream, kind)
    return stream.getvalue()


def text_of(content: bytes) -> str:
    """A file as base64."""
    return base64.b64encode(content).decode()
