"""What the official client raises where the server is full, stopping, failing, or wants a token; and what hanging up does."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass

import openai
import pytest

from sd2rt.serve.app import make_app
from sd2rt.serve.service import Service
from sd2rt.serve.settings import ServeSettings
from tests.serve.conditions import WAIT_S, wait_until
from tests.serve.fakes import FakeBackend
from tests.serve.toyserver import serving

SECRET, OTHER = "a-secret-of-alice's", "a-secret-that-is-bob's"


@dataclass(frozen=True, slots=True, kw_only=True)
class Slow:
    """A server that holds its pictures until it is told to go on, and room for one job to wait."""

    address: str
    service: Service
    backend: FakeBackend

    def client(self, secret: str = SECRET) -> openai.OpenAI:
        """Return a client of one of the tokens."""
        return openai.OpenAI(base_url=f"{self.address}/v1", api_key=secret, max_retries=0, timeout=WAIT_S)


@pytest.fixture
def slow() -> Iterator[Slow]:
    settings = ServeSettings(models=("toyworld",), queue=1, batch=1, tokens=(("alice", SECRET), ("bob", OTHER)))
    backend = FakeBackend(step_s=0.001)
    service = Service(settings, backend)
    with serving(lambda: make_app(service)) as address:
        yield Slow(address=address, service=service, backend=backend)
        backend.release()


def test_a_wrong_token_is_an_authentication_error(slow: Slow) -> None:
    for attempt in (lambda: slow.client("wrong").models.list(), lambda: slow.client("wrong").images.generate(prompt="a cube")):
        with pytest.raises(openai.AuthenticationError, match="token"):
            attempt()
    assert len(slow.client().models.list().data) == 1


def test_a_full_queue_is_a_rate_limit_error(slow: Slow) -> None:
    slow.backend.hold()
    threads = [threading.Thread(target=lambda: slow.client().images.generate(prompt="a cube")) for _ in range(2)]
    threads[0].start()
    wait_until(lambda: slow.service.running == 1)
    threads[1].start()
    wait_until(lambda: slow.service.queued == 1)
    with pytest.raises(openai.RateLimitError) as caught:
        slow.client(OTHER).images.generate(prompt="a cube")
    assert int(caught.value.response.headers["retry-after"]) >= 1
    assert caught.value.code == "queue_full"
    with pytest.raises(openai.RateLimitError):
        slow.client(OTHER).images.generate(prompt="a cube", stream=True)
    slow.backend.release()
    for thread in threads:
        thread.join(WAIT_S)
        assert not thread.is_alive()


def test_a_failing_engine_is_a_server_error(slow: Slow) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        slow.client().images.generate(prompt="fail")
    assert caught.value.status_code == 500


def test_a_failure_ends_a_stream_as_an_error(slow: Slow) -> None:
    stream = slow.client().images.generate(prompt="fail", stream=True, partial_images=1)
    events = iter(stream)
    assert next(events).type == "image_generation.partial_image"
    with pytest.raises(openai.APIError, match="asked to fail"):
        next(events)


def test_cancelling_ends_a_stream_as_an_error(slow: Slow) -> None:
    slow.backend.hold()
    stream = slow.client().images.generate(prompt="a cube", stream=True)
    wait_until(lambda: slow.service.running == 1)
    job = slow.service.jobs("alice")[0]
    slow.client().delete(f"/jobs/{job.id}", cast_to=object)
    with pytest.raises(openai.APIError, match="cancelled"):
        list(stream)


def test_the_client_does_not_ask_again_for_what_was_cancelled(slow: Slow) -> None:
    slow.backend.hold()
    caught: list[Exception] = []

    def ask() -> None:
        try:
            slow.client().with_options(max_retries=2).images.generate(prompt="a cube")
        except openai.APIError as error:
            caught.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    wait_until(lambda: slow.service.running == 1)
    slow.client().delete(f"/jobs/{slow.service.jobs('alice')[0].id}", cast_to=object)
    slow.backend.release()
    thread.join(30)
    assert not thread.is_alive()
    assert [type(error) for error in caught] == [openai.ConflictError]
    assert len(slow.service.jobs("alice")) == 1


@pytest.mark.parametrize("stream", [False, True])
def test_hanging_up_gives_the_job_up(slow: Slow, stream: bool) -> None:
    def taken() -> bool:
        with pytest.raises(openai.APITimeoutError):
            slow.client().with_options(timeout=0.5).images.generate(prompt="a cube")
        return len(slow.service.jobs("alice")) > 0

    slow.backend.hold()
    if stream:
        slow.client().images.generate(prompt="a cube", stream=True).close()
    else:
        wait_until(taken)  # a busy server may not have read the first request when it is given up
    wait_until(lambda: {job.state for job in slow.service.jobs("alice")} == {"cancelled"})
