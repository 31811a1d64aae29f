"""Bodies that are too large, too slow, or lie about themselves; counted while they come."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from sd2rt.serve import body_limit
from sd2rt.serve.body_limit import Body, BodyLimit, replay
from sd2rt.serve.settings import Limits
from tests.serve.http.conftest import HOME, TOKENS, listening, serving

MOST = 10_000
UPLOADS = 6


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the length of the body."""
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(len(body)).encode()})


def put(app: BodyLimit, *parts: bytes, pause_s: float = 0.0, headers: dict[str, str] | None = None) -> httpx.Response:
    """Send a body part by part."""

    async def body() -> AsyncIterator[bytes]:
        for part in parts:
            await asyncio.sleep(pause_s)
            yield part

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=HOME) as client:
            return await client.post("/v1/jobs", content=body(), headers=headers or {})

    return asyncio.run(ask())


@pytest.fixture
def app() -> BodyLimit:
    return BodyLimit(echo, most_bytes=MOST)


@pytest.mark.parametrize("headers", [{}, {"Content-Length": str(MOST)}])
def test_what_is_allowed_passes_whole(headers: dict[str, str], app: BodyLimit) -> None:
    reply = put(app, b"x" * (MOST - 1), b"", b"y", headers=headers)
    assert (reply.status_code, reply.text) == (200, str(MOST))


def test_without_a_body_nothing_is_waited_for(app: BodyLimit) -> None:
    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=HOME) as client:
            return await client.get("/v1/models")

    assert asyncio.run(ask()).text == "0"


@pytest.mark.parametrize(
    "headers", [{}, {"Content-Length": str(MOST + 1)}, {"Content-Length": "5"}, {"Content-Length": "9" * 400}, {"Content-Length": "-1"}]
)
def test_too_much_is_refused_whatever_it_declares(headers: dict[str, str], app: BodyLimit) -> None:
    reply = put(app, b"x" * MOST, b"y", headers=headers)
    assert reply.status_code == 413
    assert (
        reply.json()["error"]["message"] == "the body is larger than 10,000 bytes; expected at most that: send smaller pictures, or fewer"
    )


def test_no_more_is_kept_than_allowed(app: BodyLimit) -> None:
    """An endless body is thrown away for a while, and then the answer is sent."""
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            taken += 1000
            yield b"x" * 1000

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=HOME) as client:
            return await client.post("/v1/jobs", content=endless())

    assert asyncio.run(ask()).status_code == 413
    assert taken <= MOST * (body_limit.DISCARDED_BODIES + 2)


def test_slow_bodies_are_cut_off() -> None:
    reply = put(BodyLimit(echo, most_bytes=MOST, body_s=0.3), *[b"x"] * 20, pause_s=0.1)
    assert reply.status_code == 408
    assert reply.json()["error"]["code"] == "request_timeout"


def test_what_is_too_much_and_slow_is_answered_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_limit, "DISCARDED_S", 0.2)
    reply = put(BodyLimit(echo, most_bytes=5, body_s=60), b"x" * 6, *[b"x"] * 30, pause_s=0.05)
    assert reply.status_code == 413


def test_many_uploads_at_once_share_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_limit, "HELD_BODIES", 2)
    app, begun, all_begun = BodyLimit(echo, most_bytes=MOST), [], asyncio.Event()

    async def in_halves() -> AsyncIterator[bytes]:
        begun.append(True)
        if len(begun) == UPLOADS:
            all_begun.set()
        yield b"x" * (MOST // 2)
        await all_begun.wait()
        yield b"x" * (MOST // 2)

    async def ask() -> list[int]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=HOME) as client:
            replies = await asyncio.gather(*(client.post("/v1/jobs", content=in_halves()) for _ in range(UPLOADS)))
            later = await client.post("/v1/jobs", content=b"x" * MOST)
            return [reply.status_code for reply in (*replies, later)]

    found = asyncio.run(ask())
    assert set(found) == {200, 503}
    assert found[-1] == 200  # what was held is free again


def test_bodies_count_until_they_are_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_limit, "HELD_BODIES", 1)
    answering, go = asyncio.Event(), asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        answering.set()
        await go.wait()
        await echo(scope, receive, send)

    async def ask() -> list[int]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(BodyLimit(slow, most_bytes=MOST)), base_url=HOME) as client:
            first = asyncio.create_task(client.post("/v1/jobs", content=b"x" * MOST))
            await answering.wait()
            refused = await client.post("/v1/jobs", content=b"x")
            go.set()
            return [reply.status_code for reply in (refused, await first, await client.post("/v1/jobs", content=b"x" * MOST))]

    assert asyncio.run(ask()) == [503, 200, 200]


@pytest.mark.parametrize("path", ["/health", "/", "/page/main.js"])
def test_bodies_of_what_anybody_may_ask_are_not_read(path: str) -> None:
    """Clients without a token could fill the memory with them otherwise, and keep owners from uploading."""
    sent: list[Message] = []

    async def answered(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 405, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def receive() -> Message:
        raise AssertionError("the body was read")

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": path, "headers": [(b"content-length", b"19990000")]}
    asyncio.run(BodyLimit(answered, most_bytes=MOST)(scope, receive, send))
    assert sent[0]["status"] == 405


def test_a_body_is_given_away_once() -> None:
    body = Body(bytearray(b"abc"), 3)

    async def after() -> Message:
        return {"type": "http.disconnect"}

    async def read() -> list[Message]:
        receive = replay(body, after)
        return [await receive(), await receive()]

    assert asyncio.run(read()) == [{"type": "http.request", "body": b"abc", "more_body": False}, {"type": "http.disconnect"}]
    assert (body.content, body.size) == (bytearray(), 3)


@pytest.mark.parametrize("sign", [b",", b"&"])
def test_more_values_than_any_request_needs_are_not_read(sign: bytes) -> None:
    app, much = BodyLimit(echo, most_bytes=1_000_000), sign * (body_limit.MOST_VALUES + 1)
    reply = put(app, much, headers={"Content-Type": "application/json"})
    assert reply.status_code == 400
    assert "got more than 50,000 values" in reply.json()["error"]["message"]
    assert put(app, much).status_code == 400
    assert put(app, much[:9], much[9:-1], sign).status_code == 400
    assert put(app, much[1:]).status_code == 200
    assert put(app, much, headers={"Content-Type": "multipart/form-data; boundary=x"}).status_code == 200  # files may hold any bytes


def test_a_client_that_goes_away_while_it_sends_is_not_answered(app: BodyLimit) -> None:
    sent: list[Message] = []
    said: Iterator[Message] = iter(({"type": "http.request", "body": b"x", "more_body": True}, {"type": "http.disconnect"}))

    async def receive() -> Message:
        return next(said)

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/v1/jobs", "headers": [(b"content-length", b"9")]}
    asyncio.run(app(scope, receive, send))
    assert sent == []


def test_what_anybody_may_ask_is_answered_before_its_body_came() -> None:
    with listening(tokens=TOKENS) as address, socket.create_connection(("127.0.0.1", httpx.URL(address).port or 0), timeout=10) as client:
        client.sendall(b"POST /health HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 19990000\r\n\r\n" + b" " * 100_000)
        assert client.recv(100).startswith(b"HTTP/1.1 405")


def test_the_server_has_it_in_front() -> None:
    with serving(limits=Limits(body_bytes=MOST)) as rig:
        reply = rig.client.post("/v1/jobs", content=b" " * (MOST + 1), headers={"Content-Type": "application/json"})
        assert reply.status_code == 413
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
        assert rig.post()["state"] in ("queued", "running", "done")
