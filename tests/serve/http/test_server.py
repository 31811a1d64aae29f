"""A server on a real socket: addresses, clients that misbehave and clients that leave."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import urlsplit

import httpx
import pytest

from sd2rt.serve import patience
from sd2rt.serve.errors import ServeError
from sd2rt.serve.server import bind, url_of
from tests.serve.http.conftest import listening


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with listening() as found:
        yield found


def say(url: str, text: bytes) -> bytes:
    """Send bytes as they are, and return what is answered until the connection is closed, or nothing comes for a second."""
    place = urlsplit(url)
    with socket.create_connection((str(place.hostname), int(place.port or 0)), timeout=1) as connection:
        connection.sendall(text)
        answered = b""
        with suppress(TimeoutError, ConnectionResetError):
            while part := connection.recv(65536):
                answered += part
        return answered


def test_a_port_that_is_taken() -> None:
    with bind("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            ServeError, match=f"cannot listen on 127.0.0.1, port {port}: Address already in use; another --port may be free"
        ):
            bind("127.0.0.1", port)


def test_replies_leave_at_once() -> None:
    with bind("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()), listener.accept()[0] as accepted:
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid", "300.1.1.1"])
def test_an_address_that_is_none_of_this_machines(host: str) -> None:
    with pytest.raises(ServeError, match=f"cannot listen on {host}"):
        bind(host, 0)


@pytest.mark.parametrize(
    ("host", "shown"), [("127.0.0.1", "http://127.0.0.1:"), ("0.0.0.0", "http://127.0.0.1:"), ("::1", "http://[::1]:")]
)
def test_the_address_to_open(host: str, shown: str) -> None:
    with bind(host, 0) as listener:
        assert url_of(listener) == f"{shown}{listener.getsockname()[1]}"


def test_what_is_no_http_is_refused_and_the_server_lives(url: str) -> None:
    host = urlsplit(url).netloc.encode()
    for text in (
        b"\x00" * 1000 + b"\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /health HTTP/1.1\r\n\r\n",  # no Host
        b"POST /v1/jobs HTTP/1.1\r\nHost: " + host + b"\r\nContent-Length: 5\r\nContent-Length: 7\r\n\r\n12345",
        b"POST /v1/jobs HTTP/1.1\r\nHost: " + host + b"\r\nContent-Length: -1\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: " + host + b"\r\nX: " + b"y" * 1_000_000 + b"\r\n\r\n",
        b"POST /v1/jobs HTTP/1.1\r\nHost: " + host + b"\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ):
        assert b" 4" in (answered := say(url, text))[:13] or not answered  # one that is cut off may lose the answer
    assert httpx.get(f"{url}/health").status_code == 200


def test_a_length_that_lies_ends_the_connection(url: str) -> None:
    """More than was declared is no second request, and nothing hangs."""
    host = urlsplit(url).netloc.encode()
    head = (
        b"POST /v1/jobs HTTP/1.1\r\nHost: " + host + b"\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n"
    )
    answered = say(url, head + b"{}" + b"GET /v1/jobs HTTP/1.1\r\nHost: evil\r\n\r\n")
    assert answered.count(b"HTTP/1.1 ") == 1
    assert b" 400 " in answered[:20]


def test_a_client_of_events_that_leaves_changes_nothing(url: str) -> None:
    with httpx.Client(base_url=url) as client:
        job = client.post("/v1/jobs", json={"prompt": "x", "steps": 50}).json()
        with client.stream("GET", f"/v1/jobs/{job['id']}/events") as reply:
            next(reply.iter_lines())
        for _ in range(200):
            found = client.get(f"/v1/jobs/{job['id']}").json()
            if found["state"] == "done":
                break
            time.sleep(0.02)
        assert found["state"] == "done", json.dumps(found)


def closed_after_s(url: str, *parts: bytes) -> float:
    """Send parts with pauses, and return how long it takes until the connection is closed."""
    place, begun = urlsplit(url), time.monotonic()
    with socket.create_connection((str(place.hostname), int(place.port or 0)), timeout=5) as connection:
        with suppress(ConnectionError):
            for part in parts:
                connection.sendall(part)
                time.sleep(0.1)
            while connection.recv(65536):
                pass
        return time.monotonic() - begun


def test_a_connection_that_does_not_come_to_the_point_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "HEADERS_S", 0.5)
    ask = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with listening() as url:
        for parts in ((), (b"GET /health HT",), [b"X: y\r\n"] * 20, (ask, b"GET /he")):
            assert closed_after_s(url, *parts) < 3
        with httpx.Client(base_url=url) as client:
            for _ in range(3):  # one that asks again in time stays
                assert client.get("/health").status_code == 200
                time.sleep(0.3)
