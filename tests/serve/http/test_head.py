"""HEAD: answered as GET is, without the body."""

from __future__ import annotations

import httpx
import pytest

from tests.serve.conditions import WAIT_S
from tests.serve.fakes import FakeBackend
from tests.serve.http.conftest import TOKENS, Rig, bearer, listening, serving

READ = ("/", "/health", "/ready", "/metrics", "/openapi.json", "/v1/models", "/v1/models/toyworld", "/v1/jobs", "/sdapi/v1/options")


@pytest.mark.parametrize("path", [*READ, "/v1/models/none", "/nowhere"])
def test_head_is_get_without_the_body(path: str, rig: Rig) -> None:
    asked, got = rig.client.head(path), rig.client.get(path)
    assert (asked.status_code, asked.content) == (got.status_code, b"")
    assert asked.headers["content-type"] == got.headers["content-type"]
    assert path == "/metrics" or asked.headers["content-length"] == str(len(got.content))


def test_what_takes_no_get_takes_no_head(rig: Rig) -> None:
    reply = rig.client.head("/v1/images/generations")
    assert (reply.status_code, reply.headers["Allow"], reply.content) == (405, "POST", b"")
    assert rig.client.put("/v1/jobs").headers["Allow"] == "GET, HEAD, POST"


def test_head_is_counted_as_itself() -> None:
    with serving() as rig:
        rig.client.head("/v1/models")
        text = rig.client.get("/metrics").text
    assert 'sd2rt_http_requests_total{method="HEAD",route="/v1/models",status="200"} 1.0' in text


def test_head_needs_a_token_too(guarded: Rig) -> None:
    assert guarded.client.head("/v1/models").status_code == 401
    assert guarded.client.head("/v1/models", headers=bearer(TOKENS[0][1])).status_code == 200


def test_a_connection_stays_in_step_and_streams_are_not_waited_for() -> None:
    backend = FakeBackend()
    backend.hold()
    with listening(backend=backend) as url, httpx.Client(base_url=url, timeout=WAIT_S) as client:
        job = client.post("/v1/jobs", json={"prompt": "x", "steps": 2}).json()
        for path in ("/v1/models", f"/v1/jobs/{job['id']}/events", "/openapi.json"):
            assert (client.head(path).status_code, client.head(path).content) == (200, b"")
        assert client.get("/health").json() == {"status": "ok"}
        assert client.get(f"/v1/jobs/{job['id']}").json()["state"] in ("queued", "running")
        backend.release()
