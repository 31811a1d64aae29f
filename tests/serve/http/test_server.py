"""A server on a real socket: addresses, clients that misbehave and clients that leave."""

import socket
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from http.client import HTTPConnection
from urllib.parse import urlsplit

import httpx
import pytest

from sd2rt.serve import patience
from sd2rt.serve.errors import ServeError
from sd2rt.serve.server import bind, url_of
from tests.serve.conditions import WAIT_S, wait_until
from tests.serve.http.conftest import listening


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with listening() as found:
        yield found


def say(url: str, text: bytes) -> bytes:
    """Send bytes as they are, and return what is answered until the connection is closed."""
    place = urlsplit(url)
    with socket.create_connection((str(place.hostname), int(place.port or 0)), timeout=WAIT_S) as connection:
        connection.sendall(text)
        answered = b""
        with suppress(ConnectionResetError):
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
        b"GET / HTTP/9.9\r\nConnection: close\r\n\r\n",
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
        wait_until(lambda: client.get(f"/v1/jobs/{job['id']}").json()["state"] not in ("queued", "running"))
        assert client.get(f"/v1/jobs/{job['id']}").json()["state"] == "done"


def parts_taken(url: str, *parts: bytes) -> int:
    """Send parts with pauses until the connection is closed, and return how many were sent by then."""
    place = urlsplit(url)
    with socket.create_connection((str(place.hostname), int(place.port or 0)), timeout=WAIT_S) as connection:
        for sent, part in enumerate(parts):
            try:
                connection.sendall(part)
            except ConnectionError:
                return sent
            time.sleep(0.1)
        with suppress(ConnectionError):
            while connection.recv(65536):  # raises TimeoutError where it stays open
                pass
        return len(parts)


def test_a_connection_that_does_not_come_to_the_point_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "HEADERS_S", 0.5)
    ask = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with listening() as url:
        for parts in ((), (b"GET /health HT",), (ask, b"GET /he")):
            assert parts_taken(url, *parts) == len(parts)
        assert parts_taken(url, b"GET /health HTTP/1.1\r\n", *[b"X: y\r\n"] * 500) < 100  # what comes bit by bit gains no time


def test_a_connection_that_asks_again_in_time_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "HEADERS_S", 0.5)
    with listening() as url:
        connection = HTTPConnection(urlsplit(url).netloc, timeout=WAIT_S)  # raises where the server closes it
        with closing(connection):
            for _ in range(3):
                connection.request("GET", "/health")
                assert connection.getresponse().read() == b'{"status":"ok"}'
                time.sleep(0.3)
