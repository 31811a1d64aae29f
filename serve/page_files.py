"""The page at `/`: a fixed list of files, read once, sent with an ETag. They tell nothing about the server and need no token."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files

from fastapi import APIRouter, Request, Response

from sd2rt.serve.service import Service

FOLDER = files("sd2rt.serve") / "page"
INDEX = "index.html"
SCRIPT = "text/javascript; charset=utf-8"
TYPES = {
    INDEX: "text/html; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "controls.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
    "main.js": SCRIPT,
    "api.js": SCRIPT,
    "door.js": SCRIPT,
    "elements.js": SCRIPT,
    "form.js": SCRIPT,
    "gallery.js": SCRIPT,
    "job.js": SCRIPT,
    "mask.js": SCRIPT,
    "memory.js": SCRIPT,
    "models.js": SCRIPT,
    "notices.js": SCRIPT,
    "painting.js": SCRIPT,
    "picture.js": SCRIPT,
    "result.js": SCRIPT,
    "source.js": SCRIPT,
    "store.js": SCRIPT,
    "strokes.js": SCRIPT,
    "viewer.js": SCRIPT,
}
PATHS = ("/", *(f"/page/{name}" for name in TYPES if name != INDEX))
"""All that this router answers."""
POLICY = "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


@dataclass(frozen=True, slots=True, kw_only=True)
class PageFile:
    """A file as it is sent, with its content type and ETag."""

    content: bytes
    content_type: str
    etag: str


def read_files() -> dict[str, PageFile]:
    """Read the page's files, by the paths of `PATHS`."""
    read = {}
    for path, (name, content_type) in zip(PATHS, TYPES.items(), strict=True):
        content = (FOLDER / name).read_bytes()
        read[path] = PageFile(content=content, content_type=content_type, etag=f'"{hashlib.sha256(content).hexdigest()[:32]}"')
    return read


def answer(file: PageFile, wanted: str) -> Response:
    """Answer with a file, or with 304 where `wanted`, the request's If-None-Match, has its ETag already."""
    headers = {
        "ETag": file.etag,
        "Cache-Control": "no-cache",
        "Content-Security-Policy": POLICY,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "same-origin",
    }
    known = {tag.strip().removeprefix("W/") for tag in wanted.split(",")}
    if file.etag in known:
        return Response(status_code=304, headers=headers)
    return Response(file.content, media_type=file.content_type, headers=headers)


def make_router(service: Service) -> APIRouter:
    """Return the routes of the page, which are the same for every service."""
    router = APIRouter(include_in_schema=False)
    read = read_files()

    def send(request: Request) -> Response:
        return answer(read[request.scope["route"].path], request.headers.get("if-none-match", ""))

    for path in PATHS:
        router.add_api_route(path, send, methods=["GET", "HEAD"])
    return router
