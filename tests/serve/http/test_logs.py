"""One line of JSON for each thing that happens, and nothing in it that is nobody's business."""

import asyncio
import io
import json
import logging
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sd2rt.serve import logs
from sd2rt.serve.jobs import ServedJob
from sd2rt.serve.logs import JobLog, json_logs
from sd2rt.serve.metrics import Metrics
from sd2rt.serve.observers import Observers
from tests.serve.http.conftest import TOKENS, Rig, bearer, serving

SECRET = TOKENS[0][1]
Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lines]:
    """Log into a text, and read it."""
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    with json_logs(logging.DEBUG):
        yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_for_each_request(lines: Lines) -> None:
    with serving(tokens=TOKENS) as rig:
        reply = rig.client.get("/v1/jobs/job-1/images/0?secret=query", headers=bearer(SECRET))
    [line] = [line for line in lines() if line["event"] == "request"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
    assert line["level"] == "info"
    assert line["request_id"] == reply.headers["X-Request-ID"]
    assert (line["owner"], line["method"], line["path"], line["status"]) == ("ann", "GET", "/v1/jobs/job-1/images/0", 404)
    assert 0 <= line["ms"] < 10_000


def test_requests_name_their_jobs(lines: Lines) -> None:
    with serving() as rig:
        job = rig.follow(rig.post())
        rig.client.get(job["images"][0]["url"])
    requests = [line for line in lines() if line["event"] == "request"]
    assert {line["job"] for line in requests} == {job["id"]}


@pytest.mark.parametrize("given", ["abc", "A-1_b.2", "x" * 64])
def test_a_clients_own_id_is_kept_where_it_is_plain(given: str, rig: Rig) -> None:
    assert rig.client.get("/health", headers={"X-Request-ID": given}).headers["X-Request-ID"] == given


@pytest.mark.parametrize("given", ["", "x" * 65, "a b", "a\tb", '{"a":1}', "<script>", "é", "a;b", "a/b"])
def test_other_ids_are_replaced(given: str, rig: Rig) -> None:
    found = rig.client.get("/health", headers={"X-Request-ID": given.encode()}).headers["X-Request-ID"]  # type: ignore[dict-item]
    assert re.fullmatch(r"req-[0-9a-f]{16}", found)


def jobs_logged(rig: Rig, lines: Lines, prompts: bool) -> list[dict[str, Any]]:
    """Paint with a log, and return its lines of jobs."""
    rig.service._observer = rig.service._dispatcher._observer = Observers(Metrics(), JobLog(prompts=prompts))
    rig.follow(rig.post(prompt="a very private cube", negative_prompt="nothing public", n=2))
    rig.follow(rig.post(prompt="a private fail"))
    rig.client.post("/v1/jobs", json={"prompt": "private", "model": "none"})
    return lines()


def test_a_line_for_each_job_and_no_prompts(lines: Lines) -> None:
    with serving() as rig:
        found = jobs_logged(rig, lines, prompts=False)
    done, failed = (line for line in found if line["event"] == "job")
    assert {"owner": "local", "state": "done", "model": "toyworld", "images": 2, "width": 64, "steps": 2}.items() <= done.items()
    assert done["seconds"] >= done["waited_s"] >= 0
    assert (failed["level"], failed["status"], failed["state"]) == ("warning", 500, "failed")
    assert "asked to fail" in failed["error"]
    assert [line["reason"] for line in found if line["event"] == "order refused"] == ["unknown_model"]
    assert [line["images"] for line in found if line["event"] == "batch"] == [2, 1]
    assert "private" not in json.dumps(found)
    assert "public" not in json.dumps(found)


def test_prompts_where_they_are_wanted(lines: Lines) -> None:
    with serving() as rig:
        found = jobs_logged(rig, lines, prompts=True)
    done = next(line for line in found if line["event"] == "job")
    assert (done["prompt"], done["negative_prompt"]) == ("a very private cube", "nothing public")


def test_no_tokens_and_no_bodies(lines: Lines) -> None:
    with serving(tokens=TOKENS) as rig:
        for headers in (bearer(SECRET), bearer(SECRET + "wrong"), {"X-Request-ID": SECRET + " x"}):
            rig.client.post("/v1/jobs", json={"prompt": "private", "steps": 0}, headers=headers)
    text = json.dumps(lines())
    assert "request" in text
    for secret in (SECRET, "private", "Bearer"):
        assert secret not in text


def test_what_fails_is_logged_with_its_traceback(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(owner: str) -> tuple[ServedJob, ...]:
        raise RuntimeError("the reason")

    with serving() as rig:
        monkeypatch.setattr(rig.service, "jobs", fail)
        reply = rig.client.get("/v1/jobs")
    line = next(line for line in lines() if line["level"] == "error")
    assert line["request_id"] == reply.headers["X-Request-ID"]
    assert "the reason" in line["traceback"]


def test_a_callback_of_another_library_that_fails_is_a_line_too(lines: Lines) -> None:
    def fail() -> None:
        raise RuntimeError("the reason")

    async def call() -> None:
        asyncio.get_running_loop().call_soon(fail)
        await asyncio.sleep(0)

    asyncio.run(call())
    [line] = lines()
    assert (line["level"], line["event"].startswith("Exception in callback")) == ("error", True)
    assert "the reason" in line["traceback"]


def test_evictions_are_told_to_all() -> None:
    metrics = Metrics()
    Observers(metrics, JobLog()).evicted("toyworld")
    assert b'sd2rt_model_evictions_total{model="toyworld"} 1.0' in metrics.text()


def test_the_log_is_as_it_was_afterwards() -> None:
    logger = logging.getLogger(logs.OURS)
    before = (list(logger.handlers), logger.level, logger.propagate)
    with json_logs(logging.INFO):
        assert len(logger.handlers) == 1
    assert (list(logger.handlers), logger.level, logger.propagate) == before
