"""The OpenAPI document, complete: what guards and error handlers answer is in it for every operation, and tokens where they are needed."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from sd2rt.serve.public import is_public
from sd2rt.serve.replies import A1111_PATHS, A1111ErrorReply, ErrorReply

REF = "#/components/schemas/{model}"
DESCRIPTION = "Pictures by Stable Diffusion 2: jobs, the images API of OpenAI, and that of the web UI. Every error has a reason and a code."
REASONS = {
    400: "A value is wrong: the message names it, with what was got and expected.",
    401: "No token that is known here.",
    403: "The Host is none of this server's, or a page of another site asks.",
    404: "No such job, or no such model.",
    408: "The body came too slowly.",
    409: "The job was cancelled meanwhile.",
    413: "The body is too large.",
    415: "The body is of another type.",
    429: "The queue is full; Retry-After says when to ask again.",
    500: "The engine failed.",
    503: "The server is stopping, or not ready; Retry-After says when to ask again.",
}
RETRY = {"Retry-After": {"description": "Seconds.", "required": True, "schema": {"type": "integer", "minimum": 1}}}
SCHEMES = {"bearer": {"type": "http", "scheme": "bearer"}, "basic": {"type": "http", "scheme": "basic"}}


class Application(FastAPI):
    """FastAPI, with a document that says what the guards answer too; `secured` tells whether tokens are asked for."""

    secured = False

    def openapi(self) -> dict[str, Any]:
        """Return the document, made once."""
        if not self.openapi_schema:
            complete(super().openapi(), secured=self.secured)
        assert self.openapi_schema is not None  # FastAPI keeps it
        return self.openapi_schema


def complete(document: dict[str, Any], *, secured: bool) -> None:
    """Add to a document of FastAPI's what it does not know."""
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):  # such are answered as all others are
        schemas.pop(name, None)
    for model in (ErrorReply, A1111ErrorReply):
        schema = model.model_json_schema(ref_template=REF)
        schemas |= schema.pop("$defs", {})
        schemas[model.__name__] = schema
    if secured:
        components["securitySchemes"] = SCHEMES
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            complete_operation(operation, path, method)
            if secured and not is_public(path):
                operation["security"] = [{name: []} for name in SCHEMES]


def complete_operation(operation: dict[str, Any], path: str, method: str) -> None:
    """Add to one operation the errors that it may answer; those that it names itself stay as they are."""
    replies = operation.setdefault("responses", {})
    replies.pop("422", None)
    model = A1111ErrorReply if path.startswith(A1111_PATHS) else ErrorReply
    for status in sorted(statuses(operation, path, method)):
        reply = {
            "description": REASONS[status],
            "content": {"application/json": {"schema": {"$ref": REF.format(model=model.__name__)}}},
        }
        replies.setdefault(str(status), reply | ({"headers": RETRY} if status in (429, 503) else {}))


def statuses(operation: dict[str, Any], path: str, method: str) -> set[int]:
    """Return the error statuses that one operation may answer."""
    found = {403, 500} | (set() if is_public(path) else {401})
    found |= {400, 408, 413, 503}  # a body may come with any request
    if "{" in path:
        found.add(404)
    if "requestBody" in operation:
        found |= {404, 409, 415, 429}
    elif method == "post":
        found.add(404)
    return found
