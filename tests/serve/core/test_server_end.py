"""A server whose listening ends without anybody having asked for it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs the serve extra")

from sd2rt.serve.app import make_app
from sd2rt.serve.errors import ServeError
from sd2rt.serve.server import QuietServer, bind, run
from sd2rt.serve.service import Service
from sd2rt.serve.settings import ServeSettings
from tests.serve.fakes import FakeBackend


def test_listening_that_ends_by_itself_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    async def end(server: QuietServer, **given: Any) -> None:
        await asyncio.sleep(0.01)

    async def serve() -> None:
        backend = FakeBackend()
        service = Service(ServeSettings(models=("toyworld",)), backend)
        await run(make_app(service), service, backend, bind("127.0.0.1", 0), lambda: None)

    monkeypatch.setattr(QuietServer, "serve", end)
    with pytest.raises(ServeError, match="without a signal"):
        asyncio.run(asyncio.wait_for(serve(), 30))
