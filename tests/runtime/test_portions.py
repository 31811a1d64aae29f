"""A job in portions comes to the pictures that it comes to as a whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sd2rt.runtime.bundle import read_bundle
from sd2rt.runtime.models import find_model
from sd2rt.runtime.options import Request
from sd2rt.runtime.portions import merge_results, paint_in_portions, split_job
from sd2rt.runtime.request import Job, resolve
from sd2rt.runtime.text_to_image import TextToImage
from tests.runtime.fakes import fake_pipeline

PICTURES = [np.full((64, 64, 3), value, np.uint8) for value in (10, 20, 30)]


@pytest.fixture
def pipe(tmp_path: Path) -> TextToImage:
    return fake_pipeline(tmp_path / "bundle")


def job(pipe: TextToImage, **options: Any) -> Job:
    return resolve(Request(**{"prompt": "a", "steps": 3, "seed": 7, **options}), pipe.bundle)


def arrays(images: Any) -> list[Any]:
    return [np.asarray(image) for image in images]


@pytest.mark.parametrize(("most", "sizes"), [(0, [5]), (5, [5]), (9, [5]), (2, [2, 2, 1]), (1, [1] * 5)])
def test_pictures_are_those_of_the_whole(pipe: TextToImage, most: int, sizes: list[int]) -> None:
    whole = job(pipe, images_per_prompt=5, variation_seed=3, variation_strength=0.5)
    *_, expected = pipe.paint(whole)
    assert [len(part.seeds) for part in split_job(whole, most)] == sizes
    states = list(paint_in_portions(pipe, whole, most))
    assert [(state.index, state.total) for state in states] == [(index, 3 * len(sizes)) for index in range(3 * len(sizes))]
    result, wanted = states[-1].result(), expected.result()
    np.testing.assert_array_equal(arrays(result.images), arrays(wanted.images))
    assert (result.seeds, result.parameters) == (wanted.seeds, wanted.parameters)
    assert len(result.timings["steps"]) == 3 * len(sizes)


def test_previews_show_what_was_begun(pipe: TextToImage) -> None:
    shown = [len(state.preview()) for state in paint_in_portions(pipe, job(pipe, images_per_prompt=3), 2)]
    assert shown == [2, 2, 2, 3, 3, 3]


def test_leaving_early_ends_the_run(pipe: TextToImage) -> None:
    states = paint_in_portions(pipe, job(pipe, images_per_prompt=2), 1)
    assert next(states).index == 0
    states.close()  # type: ignore[attr-defined]
    assert len(list(pipe.paint(job(pipe)))) == 3


def test_every_picture_takes_what_is_its_own(pipe: TextToImage) -> None:
    whole = job(pipe, prompt=["a", "b", "c"], negative_prompt=["x", "y", "z"], latents=np.arange(3 * 4 * 64).reshape(3, 4, 8, 8))
    first, second = split_job(whole, 2)
    assert (first.prompts, first.negative_prompts, first.seeds) == (("a", "b"), ("x", "y"), (7, 8))
    assert (second.prompts, second.negative_prompts, second.seeds) == (("c",), ("z",), (9,))
    assert second.latents is not None
    assert second.latents[0, 0, 0, 0] == 2 * 4 * 64


def test_given_pictures_go_with_their_prompts() -> None:
    bundle = read_bundle(find_model("toyworld"))
    given: dict[str, Any] = {"prompt": ["a", "b", "c"], "images_per_prompt": 2, "strength": 0.5}
    parts = split_job(resolve(Request(**given, image=PICTURES), bundle), 4)
    assert [part.source.images[:, 0, 0, 0].tolist() for part in parts if part.source] == [[10, 10, 20, 20], [30, 30]]  # type: ignore[index]
    assert [len(part.source.image_sha256) for part in parts if part.source] == [4, 2]
    one = split_job(resolve(Request(**given, image=PICTURES[0]), bundle), 4)
    assert [len(part.source.images) for part in one if part.source] == [1, 1]  # type: ignore[arg-type]


def test_ends_that_were_cut_are_told_once(pipe: TextToImage) -> None:
    *_, last = pipe.paint(job(pipe))
    result = last.result()
    assert merge_results([result]) is result
    assert merge_results([result, result]).cut == result.cut
