"""Errors to replies, in the words of each API."""

import json

import pytest
from fastapi import HTTPException

from sd2rt.engine.errors import BundleError, EngineError, InvalidArgument
from sd2rt.serve.errors import QueueFull, ServeError, Stopping, UnknownJob, UnknownModel, WorkerLost
from sd2rt.serve.handlers import problem_of, shown
from sd2rt.serve.replies import Problem, answer, without_paths
from sd2rt.serve.waiting import NotPainted


@pytest.mark.parametrize(
    ("error", "status", "code", "headers"),
    [
        (InvalidArgument("steps: got 0; expected more"), 400, "invalid_value", {}),
        (UnknownModel("model: got x"), 404, "model_not_found", {}),
        (UnknownJob("job: got x"), 404, "job_not_found", {}),
        (QueueFull("full", 7), 429, "queue_full", {"Retry-After": "7"}),
        (QueueFull("full", 0), 429, "queue_full", {"Retry-After": "1"}),
        (Stopping("stopping"), 503, "unavailable", {"Retry-After": "1"}),
        (WorkerLost("lost"), 503, "unavailable", {"Retry-After": "1"}),
        (ServeError("not ready"), 503, "unavailable", {"Retry-After": "1"}),
        (NotPainted("lost", 503), 503, "service_unavailable", {"Retry-After": "1"}),
        (NotPainted("cancelled", 409), 409, "conflict", {"X-Should-Retry": "false"}),
        (NotPainted("bad", 400), 400, "bad_request", {}),
        (NotPainted("gone", 499), 499, "client_closed_request", {}),
        (NotPainted("odd", 599), 599, "error", {}),
        (EngineError("engine of /opt/x/y failed"), 500, "engine_failed", {}),
        (BundleError("/home/me/sd21: damaged"), 500, "engine_failed", {}),
        (HTTPException(418, "short and stout"), 418, "i'm_a_teapot", {}),
        (HTTPException(405, "Method Not Allowed", {"Allow": "GET"}), 405, "method_not_allowed", {"Allow": "GET"}),
    ],
    ids=str,
)
def test_each_error_has_its_status(error: Exception, status: int, code: str, headers: dict[str, str]) -> None:
    problem = problem_of(error)
    assert (problem.status, problem.code, dict(problem.headers)) == (status, code, headers)
    assert "/home" not in problem.message
    assert "/opt" not in problem.message


@pytest.mark.parametrize(("message", "param"), [("steps: got 0", "steps"), ("the queue: full", None), ("nothing", None)])
def test_the_field_is_told(message: str, param: str | None) -> None:
    assert problem_of(InvalidArgument(message)).param == param


@pytest.mark.parametrize(
    ("message", "left"),
    [
        ("/home/me/models/sd21: damaged", "sd21: damaged"),
        ("cannot read /etc/x/secret.txt (gone)", "cannot read secret.txt (gone)"),
        ("C:\\Users\\me\\x.png is none", "x.png is none"),
        ("'/tmp/sd2rt-1/a' and /b/c/", "'a' and c"),
        ("1/2 of 3/4, image/png, and/or", "1/2 of 3/4, image/png, and/or"),
        ("https://example.com/a/b", "https://example.com/a/b"),
        ("expected / or /x", "expected / or /x"),
    ],
)
def test_no_paths_are_told(message: str, left: str) -> None:
    assert without_paths(message) == left


def test_the_web_uis_api_has_words_of_its_own() -> None:
    problem = Problem(status=404, message="no such model", code="model_not_found", headers={"X-A": "b"})
    reply = answer("/sdapi/v1/txt2img", problem)
    assert json.loads(reply.body) == {"error": "model_not_found", "detail": "no such model", "body": "", "errors": "no such model"}
    assert (reply.status_code, reply.headers["x-a"]) == (404, "b")
    assert json.loads(answer("/v1/x", problem).body)["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("value", "text"), [({"a": 1}, "an object"), ([1], "a list"), (b"x", "bytes"), ("x" * 200, "'" + "x" * 76 + "..."), (None, "None")]
)
def test_values_are_shown_shortly(value: object, text: str) -> None:
    assert shown(value) == text
