"""From exceptions to replies: each error has one status, and one message that says what was got, what was expected and what to do."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match

from sd2rt.engine.errors import InvalidArgument, Sd2rtError
from sd2rt.serve.client_names import in_clients_words
from sd2rt.serve.errors import QueueFull, ServeError, UnknownJob, UnknownModel
from sd2rt.serve.replies import Problem, answer, without_paths
from sd2rt.serve.waiting import CONFLICT, NotPainted

LOG = logging.getLogger("sd2rt.serve.errors")
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
MOST_MISTAKES = 5  # of one request are told
HTTP_MESSAGES = {
    400: "body: got what cannot be read, or is nested too deeply; expected a JSON object, or a form's parts",
    404: "there is nothing at this path; /openapi.json lists what there is",
    405: "got a method that this path does not take; the Allow header names those that it does",
}
OTHERS_WORDS = ("Not Found", "Method Not Allowed")  # Starlette's; what it says with status 400 is all about bodies
FORM_MESSAGES = {
    "Missing boundary": "body: got a form without its boundary; expected the Content-Type that curl -F and libraries set by themselves",
    "Too many files": "body: got too many files; expected a picture, and a mask or none",
    "Too many fields": "body: got too many fields; expected those that /openapi.json names",
    "Part exceeded": "body: got a field of more than 1 MiB; expected texts that are shorter, and pictures as files (-F image=@photo.png)",
}  # how Starlette's words begin, and ours
PLACES = ("body", "query", "path", "header")  # where FastAPI found a value


def add_handlers(app: FastAPI) -> None:
    """Have the application answer all errors that are foreseen."""

    async def refuse(request: Request, error: Exception) -> Response:
        problem = problem_of(error)
        if isinstance(error, InvalidArgument | NotPainted):
            problem = renamed(problem, request.url.path)
        if problem.status == 405:
            problem = replace(problem, headers={"Allow": ", ".join(methods_of(request))})
        return answer(request.url.path, problem)

    for kind in (InvalidArgument, ServeError, Sd2rtError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, refuse)


def methods_of(request: Request) -> list[str]:
    """Return all methods that a request's path takes; Starlette's own answer names those of one route."""
    routes, scope = request.app.routes, {name: value for name, value in request.scope.items() if name != "route"}
    asked = {method: "GET" if method == "HEAD" else method for method in METHODS}  # as `head` has it
    return [name for name in METHODS if any(route.matches({**scope, "method": asked[name]})[0] is Match.FULL for route in routes)]


def renamed(problem: Problem, path: str) -> Problem:
    """Return a problem that the runtime found in the words of the API of `path`, and the field that it is about by its name there."""
    message = in_clients_words(path, problem.message)
    return problem if message == problem.message else replace(problem, message=message, param=field_of(message))


def problem_of(error: Exception) -> Problem:
    """Return what a client is told of an error. Of what is our own fault that is little; the log says all."""
    if isinstance(error, RequestValidationError):
        return problem_of_mistakes(error.errors())
    if isinstance(error, HTTPException):
        message = http_message(error.status_code, str(error.detail))
        return Problem(status=error.status_code, message=message, code=code_of(error.status_code), headers=dict(error.headers or {}))
    message = without_paths(str(error))
    if isinstance(error, UnknownModel):
        return Problem(status=404, message=message, code="model_not_found", param="model")
    if isinstance(error, UnknownJob):
        return Problem(status=404, message=message, code="job_not_found")
    if isinstance(error, InvalidArgument):
        return Problem(status=400, message=message, code="invalid_value", param=field_of(message))
    if isinstance(error, NotPainted):
        param = field_of(message) if error.status == 400 else None
        return Problem(status=error.status, message=message, code=code_of(error.status), param=param, headers=retrying(error, error.status))
    if isinstance(error, ServeError):
        status, code = (429, "queue_full") if isinstance(error, QueueFull) else (503, "unavailable")
        return Problem(status=status, message=message, code=code, headers=retrying(error, status))
    LOG.error("%s: %s", type(error).__name__, error)
    return Problem(status=500, message="the engine failed; the server's log says why", code="engine_failed")


def http_message(status: int, said: str) -> str:
    """Word what Starlette or a route says of a request: our words where they are not."""
    if status == 400:
        return next((ours for begin, ours in FORM_MESSAGES.items() if said.startswith(begin)), HTTP_MESSAGES[400])
    return HTTP_MESSAGES[status] if said in OTHERS_WORDS else said


def retrying(error: ServeError, status: int) -> Mapping[str, str]:
    """Return the header that says when to ask again, where that may help, or not to: OpenAI's client asks again after 409 otherwise."""
    if status == CONFLICT:
        return {"X-Should-Retry": "false"}
    return {"Retry-After": str(max(1, error.retry_after_s))} if status in (429, 503) else {}


def problem_of_mistakes(mistakes: Sequence[Any]) -> Problem:
    """Word what FastAPI found wrong in a request: the field, what was got and what was expected."""
    said = [mistake_text(mistake) for mistake in mistakes[:MOST_MISTAKES]]
    more = len(mistakes) - len(said)
    message = "; ".join(said) + (f"; and {more} more" if more > 0 else "")
    return Problem(status=400, message=message, code="invalid_value", param=place(mistakes[0]) if mistakes else None)


def mistake_text(mistake: Mapping[str, Any]) -> str:
    """Word one mistake."""
    name, kind, said = place(mistake) or "body", mistake["type"], str(mistake["msg"])
    if kind == "json_invalid":
        return f"body: got no JSON ({mistake.get('ctx', {}).get('error', said)}); expected a JSON object"
    if kind == "missing":
        return f"{name}: got nothing; expected a value"
    if kind == "extra_forbidden":
        return f"{name}: got a field that is not known here; leave it out, or mend its name"
    if "Expected UploadFile" in said:
        return f"{name}: got text; expected a file (curl: -F {name}=@photo.png)"
    if kind == "string_too_long":
        return f"{name}: got {len(mistake['input']):,} characters; expected at most {mistake['ctx']['max_length']:,}"
    return f"{name}: got {shown(mistake.get('input'))}; expected {said.removeprefix('Input should be ')}"


def shown(value: Any) -> str:
    """Show a value of a client's, shortly: no prompt and no picture is said back at length."""
    if isinstance(value, UploadFile):
        return "a file"
    if isinstance(value, Mapping | list | tuple | bytes):
        return {"dict": "an object", "bytes": "bytes"}.get(type(value).__name__, "a list")
    text = repr(value[:80] if isinstance(value, str) else value)
    return text if len(text) <= 80 else text[:77] + "..."


def place(mistake: Mapping[str, Any]) -> str | None:
    """Return the name of the field that a mistake is in, its parts joined by dots."""
    if mistake["type"] == "json_invalid":
        return None
    parts = [str(part)[:80] for part in mistake.get("loc", ()) if part not in PLACES]
    if "Expected UploadFile" in str(mistake["msg"]):
        parts = parts[:1]  # of a list of files, the field alone
    return ".".join(parts) or None


def field_of(message: str) -> str | None:
    """Return the field that one of sd2rt's own messages begins with, as in "steps: got 0; ..."."""
    name, colon, _ = message.partition(": ")
    return name if colon and name.isidentifier() else None


def code_of(status: int) -> str:
    """Return a status in a word: method_not_allowed of 405."""
    try:
        return HTTPStatus(status).phrase.lower().replace(" ", "_")
    except ValueError:
        return "client_closed_request" if status == 499 else "error"
