"""Guards against other sites: pages that a browser shows may neither reach this server under a name of their own nor send to it.

The Host allow-list stops DNS rebinding, the Origin check stops cross-site requests. No answer ever allows another origin (CORS).
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from sd2rt.serve.public import is_public
from sd2rt.serve.replies import Problem, answer
from sd2rt.serve.settings import LOOPBACK

EVERYWHERE = ("0.0.0.0", "::")  # what is served on all addresses has none of its own
READS = ("GET", "HEAD")


class HostGuard:
    """Refuses (403) requests whose Host is no name of this server: loopback, the host served on, or one that was allowed.

    Served on all addresses, any literal address will do: no name server can turn one into another.
    """

    def __init__(self, app: ASGIApp, *, host: str, allowed: tuple[str, ...]) -> None:
        self.app = app
        self._any_address = host in EVERYWHERE
        self._names = {plain_name(name) for name in (*LOOPBACK, host, *allowed)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self.knows(Headers(scope=scope).getlist("host")):
            await self.app(scope, receive, send)
            return
        message = "the Host of this request is no name of this server; add it with --allowed-host where it should be one"
        await answer(scope["path"], Problem(status=403, message=message, code="host_not_allowed"))(scope, receive, send)

    def knows(self, hosts: list[str]) -> bool:
        """Tell whether a request's Host, of which there must be one, is ours; its port does not matter."""
        if len(hosts) != 1 or not (name := host_name(hosts[0])):
            return False
        return name in self._names or (self._any_address and is_address(name))


class OriginGuard:
    """Refuses (403) what a page of another site sends, but for reading what is public."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self.allows(scope):
            await self.app(scope, receive, send)
            return
        message = "this request comes from a page of another site; open this server's own page, or ask without a browser"
        await answer(scope["path"], Problem(status=403, message=message, code="origin_not_allowed"))(scope, receive, send)

    def allows(self, scope: Scope) -> bool:
        """Tell whether a request is none of another site's page, or reads what is public."""
        return not is_cross_site(Headers(scope=scope)) or (scope["method"] in READS and is_public(scope["path"]))


def is_cross_site(headers: Headers) -> bool:
    """Tell whether a browser sent this for a page of another site than the one that Host names."""
    origins = headers.getlist("origin")
    if not origins:
        return headers.get("sec-fetch-site", "none") in ("cross-site", "same-site")
    try:
        places = [urlsplit(origin).netloc.lower() for origin in origins]
    except ValueError:
        return True
    return places != [headers.get("host", "").lower()]


def host_name(host: str) -> str:
    """Return a Host header's name without its port, in lower case; empty for what is none."""
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port  # raises for what is no port
    except ValueError:
        return ""
    if parts.username is not None or parts.path or parts.query or parts.fragment:
        return ""
    return plain_name(parts.hostname or "")


def plain_name(name: str) -> str:
    """Return a host's name as it is compared."""
    return name.lower().strip("[]").removesuffix(".")


def is_address(name: str) -> bool:
    """Tell whether a host is a literal address."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
