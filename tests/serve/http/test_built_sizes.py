"""What clients get for sizes and numbers of pictures, on a target whose engines are built for them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serve.built import TARGET, machine, record_engines, toyworld
from tests.serve.fakes import FakeBackend
from tests.serve.http.conftest import Rig, serving

SAID = (
    "width, height and n: got 128 x 64 pixels (width x height), 1 picture; expected what tensorrt engines are built for: "
    "64 x 64 to 96 x 96, 1 to 2 pictures; to change that, run `sd2rt build toyworld --target tensorrt --size 128x64 --batch 1..4`, "
    "or restart it with --build-engines"
)


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A server on a fake GPU, with engines for up to two pictures."""
    with machine(tmp_path_factory.mktemp("gpu")):
        record_engines(toyworld(), largest=96, batch=(1, 2))
        with serving(models=("toyworld",), target=TARGET, batch=4, queue=8) as found:
            yield found


def test_a_size_that_is_not_built_is_400_and_says_what_is(rig: Rig) -> None:
    reply = rig.client.post("/v1/jobs", json={"prompt": "a", "width": 128, "height": 64})
    assert (reply.status_code, reply.json()["error"]["message"]) == (400, SAID)
    assert reply.json()["error"]["type"] == "invalid_request_error"
    openai = rig.client.post("/v1/images/generations", json={"prompt": "a", "size": "128x64"})
    assert (openai.status_code, openai.json()["error"]["message"]) == (400, SAID)
    webui = rig.client.post("/sdapi/v1/txt2img", json={"prompt": "a", "width": 128, "height": 64, "steps": 2})
    assert (webui.status_code, SAID in webui.text) == (400, True)
    assert rig.backend.batches == []


def test_orders_that_engines_do_for_are_joined(rig: Rig) -> None:
    rig.backend.hold()
    jobs = [rig.post(seed=seed, width=96, height=96) for seed in range(5)]
    rig.backend.release()
    assert [rig.follow(job)["state"] for job in jobs] == ["done"] * 5
    assert max(map(len, rig.backend.batches)) == 2
    assert sum(map(len, rig.backend.batches)) == 5


def test_more_pictures_than_engines_take_are_one_job_of_several_runs(rig: Rig) -> None:
    job = rig.post(n=5)
    assert (job["n"], job["total_steps"]) == (5, 6)
    assert rig.follow(job)["state"] == "done"
    assert [job["id"]] in rig.backend.batches


def test_with_engines_built_on_demand_any_size_is_taken(tmp_path: Path) -> None:
    with machine(tmp_path), serving(FakeBackend(), models=("toyworld",), target=TARGET, engines="on demand") as rig:
        job = rig.follow(rig.post(width=128, height=64, n=2))
        assert (job["state"], job["width"]) == ("done", 128)
