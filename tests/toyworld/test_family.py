"""The embedded models of the other tasks: what they paint of a few held-out scenes, judged; and how much room all of them take."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sd2rt.engine.errors import InvalidArgument
from sd2rt.runtime import load
from sd2rt.runtime.bundle import read_bundle
from sd2rt.runtime.models import embedded_models, find_model
from sd2rt.runtime.options import Request
from sd2rt.runtime.request import resolve
from sd2rt.runtime.text_to_image import TextToImage
from sd2rt.toyworld.evaluate_tasks import (
    enlargements,
    exchanges,
    gain_over_bicubic_db,
    judge_exchange,
    judge_recolouring,
    recolourings,
)

pytest.importorskip("onnxruntime", reason="the cpu target needs onnxruntime")
MOST_BYTES = 40_000_000
Open = Callable[[str], TextToImage]


@pytest.fixture(scope="module")
def open_model() -> Open:
    """Opens models on the CPU."""
    return lambda name: load(name, target="cpu", threads=1)


def test_all_of_toyworld_is_small() -> None:
    package = Path(find_model("toyworld")).parent
    files = [path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert 25_000_000 < sum(path.stat().st_size for path in files) <= MOST_BYTES


def test_the_family_stores_what_it_shares_once() -> None:
    bundles = [read_bundle(path) for path in embedded_models().values()]
    assert [bundle.task for bundle in bundles] == ["text-to-image", "inpainting", "depth-to-image", "upscaling"]
    assert len({bundle.component("text_encoder").files.onnx for bundle in bundles}) == 1
    for name in ("vae_encoder", "vae_decoder"):  # the upscaler's is another
        assert len({bundle.component(name).files.onnx for bundle in bundles[:3]}) == 1
    assert len({bundle.component("unet").files.onnx for bundle in bundles}) == len(bundles)
    assert len({bundle.files["tokenizer/tokenizer.json"].path for bundle in bundles}) == 1
    assert len({bundle.sha256 for bundle in bundles}) == len(bundles)


def test_inpainting_exchanges_a_solid_and_leaves_the_rest(open_model: Open) -> None:
    cases = exchanges(16, seed=1)
    with open_model("toyworld-inpainting") as pipe:
        pictures = [np.asarray(pipe(c.caption, image=c.image, mask=c.mask, seed=k, paste=False).images[0]) for k, c in enumerate(cases)]
        pasted = np.asarray(pipe(cases[0].caption, image=cases[0].image, mask=cases[0].mask, paste=True).images[0])
    verdicts = [judge_exchange(case, picture) for case, picture in zip(cases, pictures, strict=True)]
    assert sum(verdict.passed for verdict in verdicts) >= 15
    assert np.mean([verdict.outside_db for verdict in verdicts]) > 34
    assert judge_exchange(cases[0], pasted).outside_db == 99
    assert judge_exchange(cases[0], pasted).passed


def test_depth_keeps_the_silhouette_and_takes_new_colours(open_model: Open) -> None:
    cases = recolourings(16, seed=1)
    with open_model("toyworld-depth") as pipe:
        pictures = [np.asarray(pipe(c.caption, image=c.image, depth=c.depth, seed=k).images[0]) for k, c in enumerate(cases)]
        alone = np.asarray(pipe(cases[0].caption, depth=cases[0].depth).images[0])
    verdicts = [judge_recolouring(case, picture) for case, picture in zip(cases, pictures, strict=True)]
    assert sum(verdict.colours_right for verdict in verdicts) >= 15
    assert np.mean([verdict.overlap for verdict in verdicts]) > 0.9
    assert judge_recolouring(cases[0], alone).overlap > 0.8


def test_upscaling_beats_bicubic(open_model: Open) -> None:
    cases = enlargements(6, seed=1)
    with open_model("toyworld-upscaler") as pipe:
        pictures = [np.asarray(pipe("", image=case.small, seed=k).images[0]) for k, case in enumerate(cases)]
    gains = [gain_over_bicubic_db(case, picture) for case, picture in zip(cases, pictures, strict=True)]
    assert np.mean(gains) >= 2
    assert min(gains) > 0


def test_without_an_estimator_depth_must_be_given() -> None:
    bundle = read_bundle(find_model("toyworld-depth"))
    with pytest.raises(InvalidArgument, match=r"depth: got none, and toyworld-depth cannot estimate it; give a depth map"):
        resolve(Request(prompt="a red cube", image=np.zeros((64, 64, 3), np.uint8)), bundle)
