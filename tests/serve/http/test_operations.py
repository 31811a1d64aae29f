"""What those who run the server see."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from sd2rt.serve.metrics import Metrics
from sd2rt.serve.service import Service
from tests.serve.fakes import FakeBackend
from tests.serve.http.conftest import Rig, serving


def numbers(rig: Rig) -> dict[tuple[str, ...], float]:
    """What /metrics says, by name and the values of its labels."""
    reply = rig.client.get("/metrics")
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(reply.text)
        for sample in family.samples
    }


def test_the_process_lives_and_is_ready(rig: Rig) -> None:
    for path in ("/health", "/ready"):
        reply = rig.client.get(path)
        assert (reply.status_code, reply.json()) == (200, {"status": "ok"})
        assert rig.client.head(path).status_code == 200


@pytest.mark.parametrize(("name", "value", "words"), [("ready", False, "no model is open yet"), ("stopping", True, "is stopping")])
def test_it_lives_and_is_not_ready(name: str, value: bool, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as rig:
        monkeypatch.setattr(Service if name == "ready" else rig.service, name, value)
        reply = rig.client.get("/ready")
        assert (reply.status_code, reply.headers["Retry-After"]) == (503, "1")
        assert words in reply.json()["error"]["message"]
        assert rig.client.get("/health").status_code == 200


def test_what_happened_is_counted() -> None:
    with serving(queue=1, batch=4) as rig:
        rig.follow(rig.post(n=3, steps=2))
        rig.follow(rig.post(prompt="please fail"))
        assert rig.client.post("/v1/jobs", json={"prompt": "x", "sampler": "no such"}).status_code == 400
        assert rig.client.post("/v1/jobs", json={"prompt": "x", "model": "none"}).status_code == 404
        rig.client.get("/nowhere/at/all")
        rig.client.get("/openapi.json")
        found = numbers(rig)
    assert found["sd2rt_jobs_submitted_total", "toyworld"] == 2
    assert found["sd2rt_jobs_ended_total", "toyworld", "done"] == found["sd2rt_jobs_ended_total", "toyworld", "failed"] == 1
    assert found["sd2rt_images_total", "toyworld"] == 3
    assert found["sd2rt_refusals_total", "invalid"] == found["sd2rt_refusals_total", "unknown_model"] == 1
    assert (found["sd2rt_batch_images_count",], found["sd2rt_batch_images_sum",], found["sd2rt_batch_jobs_sum",]) == (2, 4, 2)
    for stage, count in {"waiting": 2, "text": 1, "steps": 1, "decode": 1, "total": 1}.items():
        assert found["sd2rt_stage_seconds_count", stage] == count, stage
    assert (found["sd2rt_jobs_queued",], found["sd2rt_jobs_running",]) == (0, 0)
    assert found["sd2rt_http_requests_total", "POST", "/v1/jobs", "202"] == 2
    assert found["sd2rt_http_requests_total", "POST", "/v1/jobs", "400"] == 1
    assert found["sd2rt_http_requests_total", "GET", "unmatched", "404"] == 1
    assert found["sd2rt_http_requests_total", "GET", "/openapi.json", "200"] == 1
    assert not [key for key in found if "nowhere" in str(key) or any("job-" in part for part in key)]


def test_the_queue_is_counted_as_it_is() -> None:
    backend = FakeBackend()
    backend.hold()
    with serving(backend, batch=1) as rig:
        for _ in range(3):
            rig.post()
        found = numbers(rig)
        backend.release()
    assert (found["sd2rt_jobs_queued",], found["sd2rt_jobs_running",]) == (2, 1)


def test_workers_that_are_lost_are_counted() -> None:
    with serving() as rig:
        job = rig.follow(rig.post(prompt="poison"))
        assert (job["state"], job["error"]["status"]) == ("failed", 503)
        assert numbers(rig)["sd2rt_workers_lost_total",] == 3


def test_evictions_methods_that_were_made_up_and_clients_that_left() -> None:
    metrics = Metrics()
    metrics.evicted("toyworld")
    metrics.answered("BREW", "unmatched", 405)
    metrics.answered("GET", "/v1/jobs", 0)
    text = metrics.text().decode()
    assert 'sd2rt_model_evictions_total{model="toyworld"} 1.0' in text
    assert 'sd2rt_http_requests_total{method="other",route="unmatched",status="405"} 1.0' in text
    assert 'sd2rt_http_requests_total{method="GET",route="/v1/jobs",status="0"} 1.0' in text


def test_no_page_that_loads_scripts_from_elsewhere(rig: Rig) -> None:
    for path in ("/docs", "/redoc", "/docs/oauth2-redirect"):
        assert rig.client.get(path).status_code == 404
