"""A server as users start it, in processes of its own, and the requests of its clients. Knows no figure."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

TOKENS = {f"client-{number}": f"benchmark-secret-{number}" for number in range(4)}
CLIENTS = tuple(TOKENS)
READY_S, REPLY_S, END_S = 120.0, 120.0, 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer: its status, its headers in lower case, and its body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Read the body as JSON."""
        return json.loads(self.body)


class Client:
    """One connection, kept open, of one owner. Not for several threads at once."""

    def __init__(self, server: Server, owner: str = CLIENTS[0]) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=REPLY_S)
        self._headers = {"Authorization": f"Bearer {TOKENS[owner]}"}

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None, form: bytes | None = None, kind: str = "") -> Reply:
        """Send a request, with JSON or a form of type `kind`, and read the whole answer."""
        content = form if body is None else json.dumps(body).encode()
        headers = self._headers | ({} if content is None else {"Content-Type": kind or "application/json"})
        self._connection.request(method, path, content, headers)
        reply = self._connection.getresponse()
        return Reply(status=reply.status, headers={name.lower(): value for name, value in reply.getheaders()}, body=reply.read())

    def begin(self, path: str, body: Mapping[str, Any]) -> None:
        """Send a request whose answer is not waited for; `close` hangs up."""
        self._connection.request("POST", path, json.dumps(body).encode(), self._headers | {"Content-Type": "application/json"})

    def paint(self, order: Mapping[str, Any]) -> bytes:
        """Have one picture painted by OpenAI's API. Raises RuntimeError for any other answer."""
        reply = self.ask("POST", "/v1/images/generations", order)
        if reply.status != 200:
            raise RuntimeError(f"got status {reply.status}: {reply.body[:200]!r}")
        return base64.b64decode(reply.json()["data"][0]["b64_json"])

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


class Server:
    """`sd2rt serve` on a free port. Its log is dropped."""

    def __init__(self, process: subprocess.Popen[str], port: int, pid: int) -> None:
        self.port = port
        self.pid = pid
        self._process = process

    @property
    def workers(self) -> tuple[int, ...]:
        """The ids of its worker processes."""
        tasks = Path(f"/proc/{self.pid}/task")
        return tuple(int(pid) for task in tasks.iterdir() for pid in (task / "children").read_text().split())

    def resident_bytes(self) -> int:
        """Return what the server and its workers have in memory together."""
        pages = [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in (self.pid, *self.workers)]
        return sum(pages) * os.sysconf("SC_PAGE_SIZE")

    def stop(self) -> int:
        """End it as a service manager does; return its exit code."""
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise


@contextlib.contextmanager
def serving(*options: str) -> Iterator[Server]:
    """Start `sd2rt serve` with these options, and stop it whatever happens."""
    with TemporaryDirectory() as folder:
        tokens = Path(folder) / "tokens"
        tokens.touch(mode=0o600)
        tokens.write_text("".join(f"{name}:{secret}\n" for name, secret in TOKENS.items()))
        command = [str(Path(sys.executable).with_name("sd2rt")), "serve", "--port", "0", "--json", "--token-file", str(tokens), *options]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        watch = threading.Timer(READY_S, process.kill)
        watch.start()
        assert process.stdout is not None
        line = process.stdout.readline()
        watch.cancel()
    if not line:
        raise RuntimeError(f"{' '.join(command)} exited with {process.wait()} before it was ready")
    said = json.loads(line)
    server = Server(process, int(said["url"].rsplit(":", 1)[1]), said["pid"])
    try:
        yield server
    finally:
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.stop()


def form_of(fields: Mapping[str, str], files: Sequence[tuple[str, bytes]]) -> tuple[bytes, str]:
    """Return a multipart form of fields and PNG files, and its content type."""
    boundary = "sd2rt-benchmark-boundary"
    parts = [f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode() for name, value in fields.items()]
    for name, content in files:
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{name}.png"\r\nContent-Type: image/png\r\n\r\n'
        parts.append(head.encode() + content + b"\r\n")
    return b"".join([*parts, f"--{boundary}--\r\n".encode()]), f"multipart/form-data; boundary={boundary}"
