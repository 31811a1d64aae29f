"""Progress, interrupt and skip: of the caller's own jobs alone. A fake backend holds pictures unfinished."""

from __future__ import annotations

import base64
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from PIL import Image

from sd2rt.serve.a1111_options import Options
from sd2rt.serve.app import make_app
from sd2rt.serve.errors import ServeError
from sd2rt.serve.service import Service
from sd2rt.serve.settings import ServeSettings
from tests.serve.conditions import WAIT_S, wait_until
from tests.serve.fakes import FakeBackend
from tests.serve.pictures import png, read
from tests.serve.toyserver import serving

ALICE, BOB = ("alice", "a-secret-of-alice's"), ("bob", "a-secret-that-is-bob's")


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A server that paints one job at a time, as many steps of it as it is told to."""

    address: str
    service: Service
    backend: FakeBackend

    def client(self, owner: tuple[str, str] = ALICE) -> httpx.Client:
        """Return a client of an owner's, with Basic authentication as the web UI's clients have it."""
        return httpx.Client(base_url=f"{self.address}/sdapi/v1", auth=owner, timeout=WAIT_S)

    def paint(self, replies: dict[str, Any], name: str, owner: tuple[str, str] = ALICE) -> threading.Thread:
        """Ask for a picture in a thread of its own; the reply goes to `replies`."""

        def ask() -> None:
            with self.client(owner) as client:
                replies[name] = client.post("/txt2img", json={"prompt": f"a cube, {name}", "steps": 5, "seed": 3})

        thread = threading.Thread(target=ask)
        thread.start()
        return thread


def basic(owner: tuple[str, str]) -> str:
    """The header of an owner's Basic authentication."""
    return "Basic " + base64.b64encode(":".join(owner).encode()).decode()


@pytest.fixture
def held() -> Iterator[Held]:
    settings = ServeSettings(models=("toyworld",), batch=1, tokens=(ALICE, BOB))
    backend = FakeBackend(step_s=0.001)
    service = Service(settings, backend)
    with serving(lambda: make_app(service)) as address:
        yield Held(address=address, service=service, backend=backend)
        backend.release()


def test_nothing_to_do_is_no_progress(held: Held) -> None:
    with held.client() as client:
        progress = client.get("/progress").json()
        assert (progress["progress"], progress["eta_relative"], progress["current_image"], progress["textinfo"]) == (0.0, 0.0, None, None)
        assert progress["state"]["job_count"] == progress["state"]["sampling_steps"] == 0
        assert client.post("/interrupt").json() == {}
        assert client.post("/skip").json() is None


def test_progress_is_of_the_callers_own_job(held: Held) -> None:
    replies: dict[str, Any] = {}
    held.backend.hold(after=2)
    thread = held.paint(replies, "one")
    with held.client() as client, held.client(BOB) as other:
        wait_until(lambda: client.get("/progress").json()["state"]["sampling_step"] == 2)
        progress = client.get("/progress").json()
        assert progress["progress"] == pytest.approx(0.41)
        assert progress["eta_relative"] > 0
        assert read(progress["current_image"]).size == (8, 8)
        state = progress["state"]
        assert (state["sampling_step"], state["sampling_steps"], state["job_count"]) == (2, 5, 1)
        assert client.get("/progress?skip_current_image=true").json()["current_image"] is None
        assert other.get("/progress").json()["state"]["job_count"] == 0
    held.backend.release()
    thread.join(WAIT_S)
    assert replies["one"].status_code == 200


def test_interrupt_answers_with_what_there_is(held: Held) -> None:
    replies: dict[str, Any] = {}
    held.backend.hold(after=2)
    running = held.paint(replies, "running")
    wait_until(lambda: held.service.running == 1)
    waiting = held.paint(replies, "waiting")
    wait_until(lambda: held.service.queued == 1)
    with held.client(BOB) as other:
        assert other.post("/interrupt").json() == {}
        assert (held.service.running, held.service.queued) == (1, 1)
    with held.client() as client:
        wait_until(lambda: client.get("/progress").json()["state"]["sampling_step"] == 2)
        assert client.post("/interrupt").json() == {}
    for thread in (running, waiting):
        thread.join(WAIT_S)
    reply = replies["running"].json()
    assert read(reply["images"][0]).size == (8, 8)
    info = json.loads(reply["info"])
    assert (info["all_seeds"], info["notes"]) == ([3], ["interrupted: these are unfinished pictures"])
    assert (replies["waiting"].status_code, replies["waiting"].json()["images"]) == (200, [])


def test_who_hangs_up_while_it_is_painted_is_answered_nothing(held: Held, caplog: pytest.LogCaptureFixture) -> None:
    held.backend.hold(after=2)

    def statuses() -> list[int]:
        fields = [getattr(record, "fields", {}) for record in caplog.records]
        return [found["status"] for found in fields if found.get("path") == "/sdapi/v1/txt2img"]

    with caplog.at_level("INFO", "sd2rt.serve.requests"):
        connection = socket.create_connection(("127.0.0.1", int(held.address.rpartition(":")[2])))
        with held.client() as client:  # for its headers
            request = client.build_request(
                "POST", "/txt2img", json={"prompt": "a cube", "steps": 5}, headers={"Authorization": basic(ALICE)}
            )
        head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
        connection.sendall(f"POST /sdapi/v1/txt2img HTTP/1.1\r\n{head}\r\n".encode() + request.read())
        wait_until(lambda: held.service.running)
        connection.close()
        wait_until(lambda: held.service.jobs("alice")[0].unwanted)
        held.backend.release()
        wait_until(statuses)
    assert statuses() == [499]


def test_an_interrupted_part_of_a_picture_is_the_whole_picture(held: Held) -> None:
    replies: dict[str, httpx.Response] = {}
    mask = Image.new("L", (64, 64))
    mask.paste(255, (8, 8, 24, 24))
    sent = [base64.b64encode(png(image)).decode() for image in (Image.new("RGB", (64, 64), (9, 9, 9)), mask)]
    body = {"prompt": "a cube", "steps": 5, "seed": 3, "init_images": sent[:1], "mask": sent[1], "mask_blur": 0}

    def ask() -> None:
        with held.client() as client:
            replies["part"] = client.post("/img2img", json=body)

    held.backend.hold(after=2)
    thread = threading.Thread(target=ask)
    thread.start()
    with held.client() as client:
        wait_until(lambda: client.get("/progress").json()["current_image"] is not None)
        client.post("/interrupt")
    thread.join(WAIT_S)
    picture = read(replies["part"].json()["images"][0])
    assert (picture.size, picture.info) == ((64, 64), {})
    assert picture.getpixel((60, 60)) == (9, 9, 9)
    assert picture.getpixel((10, 10)) != (9, 9, 9)


def test_options_before_the_models_are_known_are_asked_for_again() -> None:
    with pytest.raises(ServeError, match="not ready yet"):
        Options().view("alice", ())


def test_skip_gives_up_the_one_that_is_painted(held: Held) -> None:
    replies: dict[str, Any] = {}
    held.backend.hold()
    first = held.paint(replies, "first")
    wait_until(lambda: held.service.running == 1)
    second = held.paint(replies, "second")
    wait_until(lambda: held.service.queued == 1)
    with held.client() as client:
        client.post("/skip")
        first.join(WAIT_S)
        held.backend.release()
        second.join(WAIT_S)
    assert replies["first"].json()["images"] == []
    assert len(replies["second"].json()["images"]) == 1


def test_jobs_of_other_apis_are_left_alone(held: Held) -> None:
    held.backend.hold()
    with held.client() as client:
        job = client.post(f"{held.address}/v1/jobs", json={"prompt": "a cube"}).json()
        client.post("/interrupt")
        assert client.get("/progress").json()["state"]["job_count"] == 0
        assert client.get(f"{held.address}/v1/jobs/{job['id']}").json()["state"] in ("queued", "running")
        held.backend.release()


def test_errors_of_the_engine_stay_errors(held: Held) -> None:
    replies: dict[str, Any] = {}
    held.paint(replies, "fail").join(WAIT_S)
    assert replies["fail"].status_code == 500
    assert "images" not in replies["fail"].json()


def test_without_a_token_nothing_is_told(held: Held) -> None:
    with httpx.Client(base_url=f"{held.address}/sdapi/v1") as client:
        assert client.get("/progress").status_code == 401
        assert client.get("/options", auth=("anybody", BOB[1])).status_code == 200
