"""How long a connection may take to ask for something: uvicorn waits for a request's line and headers forever."""

from __future__ import annotations

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEADERS_S = 20.0


class PatientProtocol(H11Protocol):
    """Closes a connection whose next request is not there, headers and all, `HEADERS_S` after its first byte was waited for.

    Between requests uvicorn's own, shorter time for idle connections holds; for bodies `body_limit` does.
    """

    _asking: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Take bytes, and wait for what is missing."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, error: Exception | None) -> None:
        """Wait no longer."""
        self._calm()
        super().connection_lost(error)

    def _watch(self) -> None:
        if self.conn.their_state is not h11.IDLE:
            self._calm()
        elif self._asking is None and self.timeout_keep_alive_task is None:
            self._asking = self.loop.call_later(HEADERS_S, self.transport.close)

    def _calm(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
            self._asking = None
