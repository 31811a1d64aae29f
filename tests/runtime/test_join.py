"""Jobs joined into one batch: what may be, and that every image keeps what is its own."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sd2rt.runtime.join import join, join_key, split
from sd2rt.runtime.options import Request
from sd2rt.runtime.request import Job, resolve
from sd2rt.runtime.text_to_image import TextToImage
from tests.runtime.fakes import fake_pipeline

VARIED: dict[str, Any] = {"variation_seed": 4, "variation_strength": 0.25}


@pytest.fixture(scope="module")
def pipe(tmp_path_factory: pytest.TempPathFactory) -> TextToImage:
    return fake_pipeline(tmp_path_factory.mktemp("join") / "small")


def make(pipe: TextToImage, prompt: str | list[str] = "a", **options: Any) -> Job:
    return resolve(Request(prompt=prompt, **{"steps": 3, **options}), pipe.bundle)


@pytest.mark.parametrize(
    "other",
    [
        {"steps": 4},
        {"guidance_scale": 3.0},
        {"guidance_rescale": 0.5},
        {"guidance_interval": (0.0, 0.5)},
        {"guidance_reuse": 2},
        {"sampler": "euler a"},
        {"width": 80},
        {"rng": "nv"},
        {"weighting": False},
        {"clip_skip": 2},
        {"output": "latents"},
        VARIED,
    ],
)
def test_jobs_that_differ_in_more_than_words_and_seeds_are_not_joined(pipe: TextToImage, other: dict[str, Any]) -> None:
    assert join_key(make(pipe)) == join_key(make(pipe, "another", seed=9, negative_prompt="b", images_per_prompt=2))
    assert join_key(make(pipe)) != join_key(make(pipe, **other))


def test_jobs_with_latents_are_painted_by_themselves(pipe: TextToImage) -> None:
    size = pipe.bundle.native_size
    latents = np.zeros((1, pipe.bundle.latent_channels, size[0] // 8, size[1] // 8))
    assert join_key(make(pipe, latents=latents)) is None


def test_pictures_may_differ_but_not_what_is_done_with_them(pipe: TextToImage) -> None:
    red, blue = (Image.new("RGB", (64, 64), colour) for colour in ("red", "blue"))
    white, half = Image.new("L", (64, 64), 255), Image.linear_gradient("L").resize((64, 64))
    assert join_key(make(pipe, image=red)) == join_key(make(pipe, image=blue)) != join_key(make(pipe))
    assert join_key(make(pipe, image=red)) != join_key(make(pipe, image=red, strength=0.7))
    assert join_key(make(pipe, image=red)) != join_key(make(pipe, image=red.resize((80, 64))))
    assert join_key(make(pipe, image=red, mask=white)) == join_key(make(pipe, image=blue, mask=white))
    for other in ({"mask": half}, {"mask": white, "mask_blur": 1.0}, {"mask": white, "paste": True}, {}):
        assert join_key(make(pipe, image=red, mask=white)) != join_key(make(pipe, image=red, **other))


def test_every_image_keeps_its_picture(pipe: TextToImage, tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.png" for name in ("red", "green", "blue")]
    for path in paths:
        Image.new("RGB", (64, 64), path.stem).save(path)
    jobs = [make(pipe, image=paths[0], images_per_prompt=2), make(pipe, ["b", "c"], image=paths[1:])]
    source = join(jobs).source
    assert source is not None
    assert source.images is not None
    assert source.images[:, 0, 0].tolist() == [[255, 0, 0], [255, 0, 0], [0, 128, 0], [0, 0, 255]]
    alone = [sha for job in jobs if job.source is not None for sha in job.source.image_sha256]
    assert source.image_sha256 == (alone[0], *alone)


def test_variations_are_joined_when_they_are_as_strong(pipe: TextToImage) -> None:
    jobs = [make(pipe, **VARIED), make(pipe, **VARIED, seed=7, images_per_prompt=2)]
    assert join_key(jobs[0]) == join_key(jobs[1]) != join_key(make(pipe, **{**VARIED, "variation_strength": 0.5}))
    joined = join(jobs)
    assert joined.variation is not None
    assert (joined.seeds, joined.variation.seeds) == ((0, 7, 7), (4, 4, 5))


@pytest.mark.parametrize("options", [{}, {"sampler": "euler a"}, VARIED, {"guidance_scale": 1.0}])
def test_every_image_of_a_joined_job_is_the_one_painted_alone(pipe: TextToImage, options: dict[str, Any]) -> None:
    jobs = [
        make(pipe, "a", seed=5, **options),
        make(pipe, ["b BREAK c", "d"], negative_prompt=["x", "y"], seed=1, **options),
        make(pipe, "e", images_per_prompt=2, output="pil", **options),
    ]
    *_, last = pipe.paint(join(jobs))
    for job, part in zip(jobs, split(last.result(), jobs), strict=True):
        *_, alone = pipe.paint(job)
        expected = alone.result()
        assert (part.seeds, part.parameters) == (expected.seeds, expected.parameters)
        assert all(np.array_equal(*map(np.asarray, pair)) for pair in zip(part.images, expected.images, strict=True))


def test_one_job_is_itself(pipe: TextToImage, tmp_path: Path) -> None:
    job = make(pipe)
    assert join([job]) is job
