"""Request bodies are counted while they stream in, and read no further than allowed, whatever they declare; slow ones are cut off."""

from __future__ import annotations

import asyncio

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sd2rt.serve.replies import Problem, answer

BODY_S = 60.0  # for the whole body
DISCARDED_S = 5.0  # what is too much is read and thrown away for so long, so that the client comes to read the answer
DISCARDED_BODIES = 4  # and so many times the limit
HELD_BODIES = 16  # at their largest, of all requests that are being read


class TooMuch(Exception):
    """Reading was stopped; nothing but `BodyLimit` sees this."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.code)
        self.problem = problem


class Disconnected(Exception):
    """The client went away while it sent its body; nothing but `BodyLimit` sees this."""


class BodyLimit:
    """Reads each body before the application sees it. Refuses too much (413), too slow (408), and too many at once (503)."""

    def __init__(self, app: ASGIApp, *, most_bytes: int, body_s: float = BODY_S) -> None:
        self.app = app
        self._most = most_bytes
        self._seconds = body_s
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope) if scope["type"] == "http" else None
        if headers is None or not ("content-length" in headers or "transfer-encoding" in headers):
            await self.app(scope, receive, send)
            return
        try:
            async with asyncio.timeout(self._seconds):
                body = await self._read(headers, receive)
        except TooMuch as error:
            await discard(receive, DISCARDED_BODIES * self._most)
            await answer(scope["path"], error.problem)(scope, receive, send)
        except TimeoutError:
            message = f"the body took more than {self._seconds:g} s; expected all of it by then"
            problem = Problem(status=408, message=message, code="request_timeout", headers={"Connection": "close"})
            await answer(scope["path"], problem)(scope, receive, send)
        except Disconnected:
            return
        else:
            await self.app(scope, replay(body, receive), send)

    async def _read(self, headers: Headers, receive: Receive) -> bytes:
        """Return the whole body. Raises TooMuch as soon as it is known to be, and Disconnected."""
        declared = headers.get("content-length", "")
        if declared.isdecimal() and int(declared[:20]) > self._most:
            raise TooMuch(self._too_large())
        body = bytearray()
        try:
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Disconnected
                body += message.get("body", b"")
                self._held += len(message.get("body", b""))
                if len(body) > self._most:
                    raise TooMuch(self._too_large())
                if self._held > HELD_BODIES * self._most:
                    raise TooMuch(
                        Problem(status=503, message="too many uploads at once; ask again", code="busy", headers={"Retry-After": "1"})
                    )
                if not message.get("more_body", False):
                    return bytes(body)
        finally:
            self._held -= len(body)

    def _too_large(self) -> Problem:
        message = f"the body is larger than {self._most:,} bytes; expected at most that: send smaller pictures, or fewer"
        return Problem(status=413, message=message, code="body_too_large", headers={"Connection": "close"})


async def discard(receive: Receive, most_bytes: int) -> None:
    """Read what a client still sends, for a while: one that is cut off would lose the answer."""
    left = most_bytes
    try:
        async with asyncio.timeout(DISCARDED_S):
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return
    except TimeoutError:
        return


def replay(body: bytes, receive: Receive) -> Receive:
    """Return what gives the application a body that was read already, and then what comes after it."""
    given = False

    async def receive_again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again
