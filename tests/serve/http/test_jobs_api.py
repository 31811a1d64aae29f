"""Jobs: ordered, watched, fetched, cancelled, removed."""

import base64
import io
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from PIL import Image

from tests.serve.conditions import wait_until, wait_until_watched
from tests.serve.fakes import FakeBackend
from tests.serve.http.conftest import Rig, picture, serving, text_of

FULL: dict[str, Any] = {
    "model": "toyworld",
    "prompt": "a (red:1.2) cube",
    "negative_prompt": "blue",
    "weighting": True,
    "clip_skip": 1,
    "steps": 3,
    "guidance_scale": 4,
    "guidance_rescale": 0.5,
    "guidance_interval": [0, 0.8],
    "guidance_reuse": 2,
    "deep_cache": 1,
    "speed": "quality",
    "sampler": "dpm++ 2m karras",
    "seed": 2**63 - 10,
    "rng": "nv",
    "variation_seed": 5,
    "variation_strength": 0.25,
    "width": 72,
    "height": 64,
    "n": 2,
    "decoder": "vae",
    "tile": 0,
    "format": "webp",
    "quality": 80,
    "metadata": True,
    "previews": 2,
    "preview_decoder": "latent",
}


def test_an_order_with_everything_said(rig: Rig) -> None:
    job = rig.follow(rig.post(**FULL))
    assert job["state"] == "done", job
    assert (job["n"], job["width"], job["height"], job["step"], job["total_steps"]) == (2, 72, 64, 3, 3)
    assert job["seeds"] == [2**63 - 10] * 2  # which variations start from
    assert job["created"] <= job["started"] <= job["ended"]
    for index, image in enumerate(job["images"]):
        reply = rig.client.get(image["url"])
        assert reply.headers["content-type"] == "image/webp"
        with Image.open(io.BytesIO(reply.content)) as found:
            assert (found.format, found.size) == ("WEBP", (72, 64))
        said = image["parameters"]
        assert (image["index"], said["seed"], said["prompt"], said["negative_prompt"]) == (index, 2**63 - 10, FULL["prompt"], "blue")
        names = ("steps", "guidance_rescale", "guidance_reuse", "rng", "variation_strength", "width", "tile")
        assert {name: said[name] for name in names} == {name: FULL[name] for name in names}


def test_a_prompt_is_enough_and_the_seed_is_told(rig: Rig) -> None:
    reply = rig.client.post("/v1/jobs", json={"prompt": "a red cube"})
    job = reply.json()
    assert reply.status_code == 202
    assert reply.headers["Location"] == f"/v1/jobs/{job['id']}"
    assert job["state"] in ("queued", "running")
    assert job["model"] == "toyworld"
    found = rig.follow(job)
    assert found["images"][0]["parameters"]["seed"] == job["seeds"][0]
    assert rig.client.get(reply.headers["Location"]).json() == found
    assert rig.client.get("/v1/jobs").json()["data"][0]["id"] == job["id"]


def test_null_is_left_out(rig: Rig) -> None:
    optional = ("negative_prompt", "steps", "guidance_scale", "sampler", "seed", "width", "height", "strength", "paste", "expand", "tile")
    assert rig.follow(rig.post(**dict.fromkeys(optional)))["state"] == "done"


def test_pictures_come_as_base64_bare_or_in_a_data_url(rig: Rig) -> None:
    image, mask = text_of(picture()), "data:image/jpeg;base64," + text_of(picture(kind="JPEG"))
    job = rig.follow(rig.post(model="toyworld-inpainting", image=image, mask=mask, mask_blur=2.0, expand=[0, 0, 8, 0], invert=True))
    assert job["state"] == "done", job
    said = job["images"][0]["parameters"]
    assert said["image_sha256"] != said["mask_sha256"]
    assert (said["mask_blur"], said["expand"], said["invert"]) == (2.0, [0, 0, 8, 0], True)
    upscaled = rig.follow(rig.post(model="toyworld-upscaler", image=image, noise_level=5))
    assert (upscaled["width"], upscaled["height"]) == (256, 256)


def test_files_carry_their_parameters_unless_not_wanted(rig: Rig) -> None:
    for metadata in (True, False):
        job = rig.follow(rig.post(metadata=metadata, seed=7))
        with Image.open(io.BytesIO(rig.client.get(job["images"][0]["url"]).content)) as found:
            assert ("sd2rt" in found.info, "parameters" in found.info) == (metadata, metadata)


@pytest.fixture
def held() -> Iterator[Rig]:
    """A server that begins batches, and takes no step until it is released."""
    backend = FakeBackend()
    backend.hold()
    with serving(backend, queue=2, batch=1) as rig:
        yield rig
        backend.release()


def test_what_waits_has_a_place(held: Rig) -> None:
    first, second, third = (held.post() for _ in range(3))
    states = [held.client.get(f"/v1/jobs/{job['id']}").json() for job in (first, second, third)]
    assert [(job["state"], job["position"]) for job in states] == [("running", 0), ("queued", 1), ("queued", 2)]
    held.backend.release()
    assert {held.follow(job)["state"] for job in (first, second, third)} == {"done"}


def test_a_full_queue_says_when_to_come_back(held: Rig) -> None:
    for _ in range(3):
        held.post()
    reply = held.client.post("/v1/jobs", json={"prompt": "x"})
    assert reply.status_code == 429
    assert int(reply.headers["Retry-After"]) >= 1
    assert reply.json()["error"]["type"] == "rate_limit_error"
    assert reply.json()["error"]["code"] == "queue_full"


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/v1/jobs", {"image": "?" * 15_000_000}),
        ("/sdapi/v1/img2img", {"init_images": ["?" * 15_000_000]}),
        ("/v1/images/edits", {"image": b"?" * 15_000_000, "mask": b"?"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_full_queue_is_told_before_a_picture_is_looked_at(path: str, fields: dict[str, Any], held: Rig) -> None:
    client, refusals = held.client, 'sd2rt_refusals_total{reason="queue_full"}'
    while held.service.queued < 2:
        held.post()
    before = client.get("/metrics").text
    if path.endswith("edits"):
        reply = client.post(path, data={"prompt": "x"}, files={name: ("x.png", content) for name, content in fields.items()})
    else:
        reply = client.post(path, json={"prompt": "x", **fields})
    assert reply.status_code == 429, reply.text[:300]
    assert int(reply.headers["Retry-After"]) >= 1
    assert refusals in client.get("/metrics").text != before


def test_the_list_has_a_limit(held: Rig) -> None:
    ids = [held.post()["id"] for _ in range(2)][::-1]
    assert [job["id"] for job in held.client.get("/v1/jobs").json()["data"]] == ids
    assert [job["id"] for job in held.client.get("/v1/jobs?limit=1").json()["data"]] == ids[:1]
    for limit in (0, 201, "x"):
        assert held.client.get(f"/v1/jobs?limit={limit}").status_code == 400


def test_cancelling(held: Rig) -> None:
    running, waiting = held.post(), held.post()
    for job in (waiting, running):
        assert held.client.delete(f"/v1/jobs/{job['id']}").status_code == 200
        found = held.follow(job)
        assert (found["state"], found["images"], found["error"]) == ("cancelled", [], None)


def test_what_has_ended_is_removed(rig: Rig) -> None:
    job = rig.follow(rig.post())
    removed = rig.client.delete(f"/v1/jobs/{job['id']}")
    assert (removed.status_code, removed.json()) == (200, job)
    for path in (f"/v1/jobs/{job['id']}", job["images"][0]["url"]):
        assert rig.client.get(path).status_code == 404
    assert rig.client.delete(f"/v1/jobs/{job['id']}").status_code == 404
    assert job["id"] not in [other["id"] for other in rig.client.get("/v1/jobs").json()["data"]]


def test_what_fails_says_why(rig: Rig) -> None:
    job = rig.follow(rig.post(prompt="please fail"))
    assert (job["state"], job["error"]["status"], job["images"]) == ("failed", 500, [])
    assert "asked to fail" in job["error"]["message"]
    assert rig.client.get(f"/v1/jobs/{job['id']}/images/0").status_code == 404
    [event] = events(rig, job)
    assert (event[0], event[1]["status"]) == ("failed", 500)


def events(rig: Rig, job: Any) -> list[tuple[str, Any]]:
    """Follow a job to its end."""
    with rig.client.stream("GET", f"/v1/jobs/{job['id']}/events") as reply:
        assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
        text = reply.read().decode()
    assert text.endswith("\n\n")
    blocks = [block.split("\n") for block in text.removesuffix("\n\n").split("\n\n")]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in blocks]


def test_events_tell_the_whole_story() -> None:
    backend = FakeBackend()
    backend.hold()

    def go() -> None:
        wait_until_watched(rig.service)
        backend.release()

    with serving(backend) as rig:
        job = rig.post(steps=4, previews=2, n=2)
        threading.Thread(target=go).start()
        said = events(rig, job)
        names = [name for name, _ in said]
        assert names[-1] == "done"
        assert [name for name in names if name != "preview"] == ["started", "step", "step", "step", "step", "done"]
        assert said[0][1] == {"total_steps": 4, "rows": 2}
        assert [content["step"] for name, content in said if name == "step"] == [1, 2, 3, 4]
        previews = [content for name, content in said if name == "preview"]
        assert [content["index"] for content in previews] == [0, 1]
        for content in previews:
            assert [base64.b64decode(image)[:4] for image in content["images"]] == [b"\x89PNG"] * 2
        assert said[-1][1]["images"] == rig.follow(job)["images"]
        assert events(rig, job) == said[-1:]  # once it has ended, its end


def test_an_unfinished_picture(held: Rig) -> None:
    job = held.post(steps=2, previews=2)
    assert held.client.get(f"/v1/jobs/{job['id']}/preview").status_code == 404
    held.backend.release()
    held.follow(job)
    reply = held.client.get(f"/v1/jobs/{job['id']}/preview")
    assert (reply.status_code, reply.headers["content-type"], reply.content[:4]) == (200, "image/png", b"\x89PNG")
    assert held.client.get(f"/v1/jobs/{job['id']}/preview?index=1").status_code == 404


def test_a_picture_of_another_index(rig: Rig) -> None:
    job = rig.follow(rig.post())
    assert rig.client.get(f"/v1/jobs/{job['id']}/images/1").status_code == 404
    for index in ("-1", "x", "9" * 30, "1.5"):
        assert rig.client.get(f"/v1/jobs/{job['id']}/images/{index}").status_code == 400, index


def test_a_running_jobs_pace() -> None:
    backend = FakeBackend()
    backend.hold(after=2)
    with serving(backend) as rig:
        began = time.time()
        job = rig.post(steps=20)
        wait_until(lambda: rig.service.find(job["id"], "local").step == 2)
        found = rig.client.get(f"/v1/jobs/{job['id']}").json()
        assert 0 <= found["eta_s"] <= (time.time() - began) / 2 * 18 + 0.001  # each of the others as long as each of the two
        backend.release()


def test_results_expire() -> None:
    with serving(results_s=0.01) as rig:
        job = rig.post(steps=1)
        wait_until(lambda: rig.client.get(f"/v1/jobs/{job['id']}").status_code == 404)
        assert rig.client.get(f"/v1/jobs/{job['id']}").json()["error"]["code"] == "job_not_found"


def test_a_server_that_is_not_ready_takes_nothing() -> None:
    with serving() as rig:
        offers, rig.service._offers = rig.service._offers, {}
        for path in ("/v1/jobs", "/v1/images/generations", "/sdapi/v1/txt2img"):
            assert rig.client.post(path, json={"prompt": "x"}).status_code == 503, path
        rig.service._offers = offers
        assert rig.client.post("/v1/jobs", json={"prompt": "x", "steps": 1}).status_code == 202
