"""Request bodies are counted while they stream in, and read no further than allowed, whatever they declare; slow ones are cut off."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sd2rt.serve.public import is_public
from sd2rt.serve.replies import Problem, answer

BODY_S = 60.0  # for the whole body
DISCARDED_S = 5.0  # what is too much is read and thrown away for so long, so that the client comes to read the answer
DISCARDED_BODIES = 4  # and so many times the limit
HELD_BODIES = 16  # at their largest, of all requests that are being read or answered
MOST_VALUES = 50_000  # in a body that is no form with files, by the signs between them: reading them holds up everybody


class TooMuch(Exception):
    """Reading was stopped; nothing but `BodyLimit` sees this."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.code)
        self.problem = problem


class Disconnected(Exception):
    """The client went away while it sent its body; nothing but `BodyLimit` sees this."""


@dataclass(slots=True)
class Body:
    """What a request has sent so far; `size` in bytes stays when the content was given away. `separators` stand between values."""

    content: bytearray = field(default_factory=bytearray)
    size: int = 0
    separators: int = 0

    def take(self) -> bytes:
        """Return the content, and keep none of it."""
        taken, self.content = bytes(self.content), bytearray()
        return taken


class BodyLimit:
    """Reads each body before the application sees it.

    Refuses too much (413), too slow (408), too many at once (503), and more values (400) than any request needs. What anybody may ask
    takes no body, and none is read of it.
    """

    def __init__(self, app: ASGIApp, *, most_bytes: int, body_s: float = BODY_S) -> None:
        self.app = app
        self._most = most_bytes
        self._seconds = body_s
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope) if scope["type"] == "http" and not is_public(scope["path"]) else None
        if headers is None or not ("content-length" in headers or "transfer-encoding" in headers):
            await self.app(scope, receive, send)
            return
        body = Body()
        try:
            problem = await self._receive(headers, receive, body)
            app = self.app if problem is None else answer(scope["path"], problem)
            await app(scope, replay(body, receive), send)
        except Disconnected:
            return
        finally:
            self._release(body)

    async def _receive(self, headers: Headers, receive: Receive, body: Body) -> Problem | None:
        """Read a whole body; return why it is refused, where it is. Raises Disconnected."""
        try:
            async with asyncio.timeout(self._seconds):
                await self._read(headers, receive, body)
        except TooMuch as error:
            self._release(body)
            await discard(receive, DISCARDED_BODIES * self._most)
            return error.problem
        except TimeoutError:
            message = f"the body took more than {self._seconds:g} s; expected all of it by then"
            return Problem(status=408, message=message, code="request_timeout", headers={"Connection": "close"})
        return too_many_values() if body.separators > MOST_VALUES else None

    async def _read(self, headers: Headers, receive: Receive, body: Body) -> None:
        """Read the whole body. Raises TooMuch as soon as it is known to be, and Disconnected."""
        declared = headers.get("content-length", "")
        if declared.isdecimal() and int(declared[:20]) > self._most:
            raise TooMuch(self._too_large())
        with_files = headers.get("content-type", "").lower().startswith("multipart/")
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Disconnected
            part = message.get("body", b"")
            body.content += part
            body.size += len(part)
            body.separators += 0 if with_files else part.count(b",") + part.count(b"&")
            self._held += len(part)
            if body.size > self._most:
                raise TooMuch(self._too_large())
            if self._held > HELD_BODIES * self._most:
                raise TooMuch(Problem(status=503, message="too many uploads at once; ask again", code="busy", headers={"Retry-After": "1"}))
            if not message.get("more_body", False):
                return

    def _release(self, body: Body) -> None:
        self._held -= body.size
        body.content, body.size = bytearray(), 0

    def _too_large(self) -> Problem:
        message = f"the body is larger than {self._most:,} bytes; expected at most that: send smaller pictures, or fewer"
        return Problem(status=413, message=message, code="body_too_large", headers={"Connection": "close"})


def too_many_values() -> Problem:
    """Return why a body of JSON, or of a form without files, takes too long to read."""
    message = f"body: got more than {MOST_VALUES:,} values; expected a JSON object of the fields that /openapi.json names"
    return Problem(status=400, message=message, code="invalid_value")


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


def replay(body: Body, receive: Receive) -> Receive:
    """Return what gives the application a body that was read already, once, and then what comes after it."""
    given = False

    async def receive_again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body.take(), "more_body": False}

    return receive_again
