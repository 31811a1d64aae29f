"""Errors name the fields that clients sent: also those of jobs that failed while they were painted, or as they were streamed."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any, cast

import pytest

from sd2rt.engine.errors import InvalidArgument
from sd2rt.runtime.samplers_names import parse_sampler
from sd2rt.serve.client_names import in_clients_words
from sd2rt.serve.handlers import problem_of, renamed
from sd2rt.serve.job_events import describe
from sd2rt.serve.job_view import error_view
from sd2rt.serve.openai_replies import Shown
from sd2rt.serve.openai_stream import image_events
from sd2rt.serve.order import Failed
from sd2rt.serve.waiting import NotPainted

NO_JOB = cast("Any", SimpleNamespace())  # a failure is told without looking at its job
FAILED = Failed(message="images_per_prompt: got 9", status=400)


@pytest.mark.parametrize(
    ("path", "message", "told"),
    [
        ("/v1/images/generations", "images_per_prompt: got '9'; more: none", "n: got '9'; more: none"),
        ("/v1/images/edits", "width: got 65", "size: width: got 65"),
        ("/v1/images/edits", "width and height: got 8 x 8", "size: got 8 x 8"),
        ("/v1/images/edits", "strength: got 2", "strength: got 2"),
        ("/v1/jobs", "images_per_prompt: got '9'", "n: got '9'"),
        ("/v1/jobs", "width: got 65", "width: got 65"),
        ("/v1/jobs", "mask blur: got 2000", "mask_blur: got 2000"),
        ("/sdapi/v1/txt2img", "guidance_scale: got 'x'", "cfg_scale: got 'x'"),
        ("/sdapi/v1/txt2img", "image: got none", "image: got none"),
        ("/sdapi/v1/img2img", "image: got 4 bytes", "init_images: got 4 bytes"),
        ("/sdapi/v1/img2img", "strength: got 2", "denoising_strength: got 2"),
        ("/sdapi/v1/extra-single-image", "image: got 4 bytes", "image: got 4 bytes"),
        ("/v1/jobs", "the queue is full", "the queue is full"),
    ],
)
def test_fields_have_their_clients_names(path: str, message: str, told: str) -> None:
    assert in_clients_words(path, message) == told


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/images/generations"])
def test_a_sampler_that_is_not_known_is_a_wrong_field(path: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse_sampler("nope")
    problem = renamed(problem_of(caught.value), path)
    assert problem.param == "sampler"
    assert problem.message.startswith("sampler: unknown sampler 'nope'")


def test_what_fails_while_it_is_painted_is_told_alike() -> None:
    problem = renamed(problem_of(NotPainted(FAILED.message, FAILED.status)), "/v1/images/generations")
    assert (problem.status, problem.message, problem.param) == (400, "n: got 9", "n")
    assert renamed(problem_of(NotPainted("steps: got 9", 400)), "/v1/images/generations").param == "steps"
    assert renamed(problem_of(NotPainted("job: memory ran out", 500)), "/v1/images/generations").param is None


def test_what_fails_is_told_alike_in_events_and_views() -> None:
    assert describe(NO_JOB, FAILED) == ("failed", {"message": "n: got 9", "status": 400})
    assert error_view(FAILED).message == "n: got 9"
    (event,) = asyncio.run(cast("Any", image_events(NO_JOB, FAILED, "image_generation", Shown(created=0, size="8x8"))))
    data = json.loads(event.decode().split("data: ", 1)[1])
    assert data["error"]["message"] == "n: got 9"
