"""A small server that answers as the Hugging Face hub does, with the faults that networks have.

    with serve({"me/model": {"unet/config.json": b"{}"}}) as hub: ...      # hub.url, hub.asked (method and path), hub.sent (bytes of files)

Files that end in .safetensors, .onnx or .bin are "large" (LFS): the listing tells their SHA-256, and they are sent after a redirect.
`cut` files break off after so many bytes, once per entry; `wrong` files are sent with one byte changed; a repository in `gated` is
closed; `listed` has what the listing says otherwise of a file; with `token`, requests that do not carry it get 401; with `whole`,
ranges are ignored. The second half of large files is sent when `go_on` is set.
"""

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = (".safetensors", ".onnx", ".bin", ".onnx_data")


@dataclass(slots=True, kw_only=True)
class Hub:
    """What is served and how, and what was asked for."""

    repositories: Mapping[str, Mapping[str, bytes]]
    url: str = ""
    commit: str = COMMIT
    cut: dict[str, list[int]] = field(default_factory=dict)
    wrong: set[str] = field(default_factory=set)
    gated: set[str] = field(default_factory=set)
    listed: dict[str, dict[str, object]] = field(default_factory=dict)
    token: str | None = None
    whole: bool = False
    down: bool = False
    go_on: threading.Event | None = None
    asked: list[str] = field(default_factory=list)
    ranges: list[str | None] = field(default_factory=list)
    sent: int = 0
    tokens_at_cdn: list[str] = field(default_factory=list)

    def fetched(self) -> list[str]:
        """Return the names of the files whose content was asked for."""
        return sorted(
            {line.split("/resolve/")[1].split("/", 1)[1] for line in self.asked if line.startswith("GET") and "/resolve/" in line}
        )


def git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@contextmanager
def serve(repositories: Mapping[str, Mapping[str, bytes]]) -> Iterator[Hub]:
    """Serve on a free port of this machine until the block ends."""
    hub = Hub(repositories=repositories)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Answers", (_Answers,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


class _Answers(http.server.BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _answer(self) -> None:
        hub, path = self.hub, unquote(urlsplit(self.path).path)
        hub.asked.append(f"{self.command} {path}")
        if hub.down:
            return self._send(503, b"")
        if path.startswith("/cdn/"):
            return self._content(path.removeprefix("/cdn/"))
        parts = path.removeprefix("/api/models").strip("/").split("/")
        repo = "/".join(parts[:2])
        if hub.token is not None and self.headers.get("Authorization") != f"Bearer {hub.token}":
            return self._send(401, b"", {"X-Error-Message": "Invalid credentials in Authorization header"})
        if repo in hub.gated:
            return self._send(403, b"", {"X-Error-Code": "GatedRepo"})
        if repo not in hub.repositories:
            return self._send(404, b"", {"X-Error-Code": "RepoNotFound"})
        if path.startswith("/api/") and "tree" in parts:
            return self._json([_entry(name, content) | hub.listed.get(name, {}) for name, content in hub.repositories[repo].items()])
        if path.startswith("/api/"):
            return self._json(
                {"id": repo, "modelId": repo, "sha": hub.commit, "siblings": [], "tags": [], "downloads": 0, "private": False}
            )
        return self._resolve(repo, "/".join(parts[4:]))

    def _resolve(self, repo: str, name: str) -> None:
        content = self.hub.repositories[repo].get(name)
        common = {"X-Repo-Commit": self.hub.commit}
        if content is None:
            return self._send(404, b"", {**common, "X-Error-Code": "EntryNotFound"})
        if not name.endswith(LARGE):
            sent = content[::-1] if name in self.hub.wrong else content
            return self._send(200, sent, {**common, "ETag": f'"{git_hash(content)}"'})
        linked = {"X-Linked-Etag": f'"{sha256(content)}"', "X-Linked-Size": str(len(content))}
        return self._send(302, b"", {**common, **linked, "Location": f"http://localhost:{urlsplit(self.hub.url).port}/cdn/{repo}/{name}"})

    def _content(self, path: str) -> None:
        """Send a large file, or the range that is asked for, or what a fault leaves of it."""
        hub = self.hub
        owner, model, name = path.split("/", 2)
        content = hub.repositories[f"{owner}/{model}"][name]
        if name in hub.wrong:
            content = bytes([content[0] ^ 1]) + content[1:]
        if "Authorization" in self.headers:
            hub.tokens_at_cdn.append(name)
        asked = None if hub.whole else self.headers.get("Range")
        hub.ranges.append(asked)
        start = int(asked.removeprefix("bytes=").split("-")[0]) if asked else 0
        body = content[start:]
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(body)))
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        cuts = hub.cut.get(name, [])
        if cuts:
            body = body[: cuts.pop(0)]
            self.close_connection = True
        if hub.go_on is not None:
            self.wfile.write(body[: len(body) // 2])
            hub.go_on.wait(60)
            body = body[len(body) // 2 :]
        self.wfile.write(body)
        hub.sent += len(body)

    def _json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


def _entry(name: str, content: bytes) -> dict[str, object]:
    entry: dict[str, object] = {"type": "file", "path": name, "size": len(content), "oid": git_hash(content)}
    if name.endswith(LARGE):
        entry["lfs"] = {"oid": sha256(content), "size": len(content), "pointerSize": 130}
    return entry
