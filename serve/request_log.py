"""Around every request: its id, the headers that keep browsers careful, one line in the log, and what is answered when we fail."""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Callable
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sd2rt.serve.replies import Problem, answer

LOG = logging.getLogger("sd2rt.serve.requests")
PLAIN_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
LONGEST_PATH = 200  # characters of the log
UNMATCHED = "unmatched"  # the route of what no route matches
SECURITY = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
Answered = Callable[[str, str, int], None]
"""Is told a request's method, its route as a pattern, and the status that was answered."""


class RequestLog:
    """Gives each request its id and logs it when it is over; `answered` counts it. What nobody caught becomes a 500 without details."""

    def __init__(self, app: ASGIApp, *, answered: Answered) -> None:
        self.app = app
        self._answered = answered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        state: dict[str, Any] = scope.setdefault("state", {})
        state["request_id"] = name_request(Headers(scope=scope).getlist("x-request-id"))
        begun, status = time.perf_counter(), 0

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                add_headers(MutableHeaders(scope=message), state["request_id"])
            await send(message)

        try:
            await self.app(scope, receive, send_on)
        except Exception:
            LOG.exception("unexpected error", extra={"fields": {"request_id": state["request_id"]}})
            if status:
                raise  # the reply is cut off, which the client sees
            problem = Problem(status=500, message="unexpected error; the server's log says which", code="unexpected_error")
            await answer(scope["path"], problem)(scope, receive, send_on)
        finally:
            self._answered(scope["method"], route_of(scope), status)
            LOG.info("request", extra={"fields": summary(scope, status, time.perf_counter() - begun)})


def name_request(given: list[str]) -> str:
    """Return a client's own id for its request where it is short and plain, else a new one."""
    return given[0] if len(given) == 1 and PLAIN_ID.fullmatch(given[0]) else f"req-{secrets.token_hex(8)}"


def add_headers(headers: MutableHeaders, request_id: str) -> None:
    """Add what every reply has; routes may have set their own."""
    headers["X-Request-ID"] = request_id
    for name, value in SECURITY.items():
        headers.setdefault(name, value)
    headers.setdefault("Cache-Control", "no-store")


def route_of(scope: Scope) -> str:
    """Return the pattern of the route that answered, such as /v1/jobs/{job_id}."""
    path = getattr(scope.get("route"), "path", UNMATCHED)
    assert isinstance(path, str)
    return path


def summary(scope: Scope, status: int, seconds: float) -> dict[str, Any]:
    """Return a request's line: no query, header or body, since those hold prompts and tokens. Status 0: nothing was answered."""
    state = scope["state"]
    fields = {
        "request_id": state["request_id"],
        "owner": state.get("owner"),
        "method": scope["method"],
        "path": scope["path"][:LONGEST_PATH],
        "status": status,
        "ms": round(seconds * 1000, 1),
        "job": state.get("job"),
    }
    return {name: value for name, value in fields.items() if value is not None}
