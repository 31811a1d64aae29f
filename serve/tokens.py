"""Who may ask: a token's name owns what is asked with it. Without tokens, everybody is one owner."""

from __future__ import annotations

import base64
import binascii
import hmac

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from sd2rt.serve.public import is_public
from sd2rt.serve.replies import Problem, answer
from sd2rt.serve.waiting import EVERYBODY

MESSAGE = "got no token that is known here; send `Authorization: Bearer TOKEN`, or the token as the password of Basic authentication"
SPACES = " \t"  # of headers; more would be stripped of Latin-1 text than spaces
CHALLENGE = {"WWW-Authenticate": 'Bearer realm="sd2rt"'}  # not Basic: browsers would ask for a password in a window of their own


class TokenGuard:
    """Puts the owner of each request into its state; refuses (401) what needs a token and has none of `tokens`, names and secrets."""

    def __init__(self, app: ASGIApp, *, tokens: tuple[tuple[str, str], ...]) -> None:
        self.app = app
        self._tokens = tuple((name, secret.encode()) for name, secret in tokens)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        owner = self.find_owner(Headers(scope=scope).getlist("authorization"))
        if owner is None and not is_public(scope["path"]):
            problem = Problem(status=401, message=MESSAGE, code="invalid_api_key", headers=CHALLENGE)
            await answer(scope["path"], problem)(scope, receive, send)
            return
        scope.setdefault("state", {})["owner"] = owner or EVERYBODY
        await self.app(scope, receive, send)

    def find_owner(self, authorization: list[str]) -> str | None:
        """Return whose token a request has. Compares with every token in full, so that the time tells nothing."""
        if not self._tokens:
            return EVERYBODY
        given = given_secret(authorization[0]) if len(authorization) == 1 else b""
        owner = None
        for name, secret in self._tokens:
            if hmac.compare_digest(secret, given):
                owner = name
        return owner


def given_secret(authorization: str) -> bytes:
    """Return the secret of an Authorization header; empty where it has none."""
    scheme, _, value = authorization.strip(SPACES).partition(" ")
    if scheme.lower() == "bearer":
        return value.strip(SPACES).encode("latin-1")
    if scheme.lower() != "basic":
        return b""
    try:
        return base64.b64decode(value.strip(SPACES), validate=True).partition(b":")[2]
    except (binascii.Error, ValueError):
        return b""
