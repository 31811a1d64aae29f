"""Worker processes on the embedded models, one loop that they and a module's tests live in, and an engine cache of the tests' own."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from sd2rt.serve.order import Order
from sd2rt.serve.service import Service
from sd2rt.serve.settings import EMBEDDED, Limits, ServeSettings
from sd2rt.serve.workers import LocalBackend

LONG = 900
"""Steps that nobody waits for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A service over worker processes, its backend, and the loop to run coroutines in."""

    service: Service
    backend: LocalBackend
    runner: asyncio.Runner


@pytest.fixture(scope="module")
def running_server() -> Iterator[Server]:
    """A server with one worker that has room for all models, and lets jobs run long."""
    settings = ServeSettings(models=EMBEDDED, target="cpu", limits=Limits(steps=1000), drain_s=1.0)
    backend = LocalBackend(settings)
    service = Service(settings, backend)
    with asyncio.Runner() as runner:
        runner.run(service.start())
        try:
            yield Server(service=service, backend=backend, runner=runner)
        finally:
            runner.run(service.stop())


@pytest.fixture
def server(running_server: Server) -> Iterator[Server]:
    """The module's server; what a test leaves is cancelled, so that it keeps no other test waiting."""
    yield running_server
    running_server.runner.run(cancel_all(running_server.service))


async def cancel_all(service: Service) -> None:
    """Give up what "me" has not seen the end of."""
    service.cancel_all("me")


def order(prompt: str = "a large red cube", **options: Any) -> Order:
    """An order for toyworld, of four steps."""
    return Order(model="toyworld", options={"prompt": prompt, "steps": 4, **options})


def pixels(content: bytes) -> npt.NDArray[np.float64]:
    """The pixels of a file."""
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"), np.float64)


def psnr(one: bytes, other: bytes) -> float:
    """How alike two pictures are, in dB; 99 for equal ones."""
    error = float(np.mean((pixels(one) - pixels(other)) ** 2))
    return 99.0 if error == 0 else 10 * float(np.log10(255**2 / error))
