"""What every request passes before a route sees it, from the outside in: id, log line, headers, Host, Origin, token, body, HEAD."""

from __future__ import annotations

from fastapi import FastAPI

from sd2rt.serve.body_limit import BodyLimit
from sd2rt.serve.head import HeadAsGet
from sd2rt.serve.hosts import HostGuard, OriginGuard
from sd2rt.serve.request_log import Answered, RequestLog
from sd2rt.serve.settings import ServeSettings
from sd2rt.serve.tokens import TokenGuard


def add_guards(app: FastAPI, settings: ServeSettings, answered: Answered) -> None:
    """Put the guards around an application; `answered` counts requests. Starlette calls the one that was added last first."""
    app.add_middleware(HeadAsGet)
    app.add_middleware(BodyLimit, most_bytes=settings.limits.body_bytes)
    app.add_middleware(TokenGuard, tokens=settings.tokens)
    app.add_middleware(OriginGuard)
    app.add_middleware(HostGuard, host=settings.host, allowed=settings.allowed_hosts)
    app.add_middleware(RequestLog, answered=answered)
