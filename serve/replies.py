"""What a client reads when something is refused or failed: OpenAI's shape under /v1, the web UI's under /sdapi. Knows no exception."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel
from starlette.responses import JSONResponse, Response

A1111_PATHS = "/sdapi/"
TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
PATH = re.compile(r"(?<![\w.:/])(?:[A-Za-z]:)?[\\/](?:[^\s\\/:;,'\"()]+[\\/])+[^\s:;,'\"()]*")


class ErrorDetail(BaseModel):
    """What was wrong: `param` is the field, where it is one; `code` a word for programs."""

    message: str
    type: str
    param: str | None
    code: str


class ErrorReply(BaseModel):
    """An error as OpenAI's API words it."""

    error: ErrorDetail


class A1111ErrorReply(BaseModel):
    """An error as the web UI's API words it."""

    error: str
    detail: str
    body: str
    errors: str


class AsciiJSON(JSONResponse):
    """JSON in plain ASCII: whatever a client sent, also halves of surrogate pairs, can be said back to it."""

    def render(self, content: Any) -> bytes:
        """Encode; floats that are not finite are a mistake of ours."""
        return json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode("ascii")


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Why a request comes to nothing, without anything secret: no path of this machine, no token, no traceback."""

    status: int
    message: str
    code: str
    param: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


def answer(path: str, problem: Problem) -> Response:
    """Word a problem as the API that `path` belongs to does."""
    headers = dict(problem.headers)
    if path.startswith(A1111_PATHS):
        said = A1111ErrorReply(error=problem.code, detail=problem.message, body="", errors=problem.message)
        return AsciiJSON(said.model_dump(), problem.status, headers)
    kind = TYPES.get(problem.status, "server_error" if problem.status >= 500 else "invalid_request_error")
    detail = ErrorDetail(message=problem.message, type=kind, param=problem.param, code=problem.code)
    return AsciiJSON(ErrorReply(error=detail).model_dump(), problem.status, headers)


def without_paths(message: str) -> str:
    """Leave of every path of this machine in a message its last name."""
    return PATH.sub(lambda found: re.split(r"[\\/]", found.group().rstrip("\\/"))[-1], message)
