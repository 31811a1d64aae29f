"""What a call brings along: which task it makes, which options it may have, and sizes, hashes and defaults of its pictures."""

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sd2rt.engine.errors import BundleError, InvalidArgument
from sd2rt.runtime.bundle import Bundle, read_bundle
from sd2rt.runtime.image_input import file_sha256
from sd2rt.runtime.options import Request
from sd2rt.runtime.request import resolve
from sd2rt.runtime.source import Source, first_step
from tests.runtime.bundles import write_bundle

PICTURE = np.zeros((24, 32, 3), np.uint8)
MASK = np.full((24, 32), 255, np.uint8)
TASKS = ("text-to-image", "inpainting", "depth-to-image", "upscaling")


def make_bundle(folder: Path, task: str) -> Bundle:
    def edit(document: dict[str, Any]) -> None:
        document.update(task=task)
        document.update({"latent_factor": 4, "max_noise_level": 350} if task == "upscaling" else {})
        if task == "depth-to-image":
            shutil.copytree(folder / "unet", folder / "depth_estimator")
            document["components"]["depth_estimator"] = document["components"]["unet"]

    return read_bundle(write_bundle(folder, edit))


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    return {task: make_bundle(tmp_path_factory.mktemp("bundles") / task, task) for task in TASKS}


def source(bundle: Bundle, **options: Any) -> Source:
    found = resolve(Request(prompt="a", **options), bundle).source
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("model", "options", "task"),
    [
        ("text-to-image", {}, "text-to-image"),
        ("text-to-image", {"image": PICTURE}, "image-to-image"),
        ("text-to-image", {"image": PICTURE, "mask": MASK}, "inpainting"),
        ("text-to-image", {"image": PICTURE, "expand": (8, 0, 0, 0)}, "inpainting"),
        ("inpainting", {"image": PICTURE, "mask": MASK}, "inpainting"),
        ("depth-to-image", {"image": PICTURE}, "depth-to-image"),
        ("depth-to-image", {"depth": MASK}, "depth-to-image"),
        ("upscaling", {"image": PICTURE}, "upscaling"),
    ],
)
def test_what_is_given_makes_the_task(bundles: dict[str, Bundle], model: str, options: dict[str, Any], task: str) -> None:
    assert resolve(Request(prompt="a", **options), bundles[model]).task == task


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("text-to-image", {"mask": MASK}, "image: got none; expected a picture, as there is mask$"),
        ("text-to-image", {"expand": (8, 0, 0, 0)}, "image: got none; expected a picture, as there is expand$"),
        ("text-to-image", {"strength": 0.5}, "image: got none; expected a picture, as there is strength$"),
        ("text-to-image", {"image": PICTURE, "depth": MASK}, "depth: small is a model for text-to-image, which takes image, mask"),
        ("text-to-image", {"image": PICTURE, "invert": True}, "mask: got none for invert; expected a picture that is white"),
        ("text-to-image", {"image": PICTURE, "mask_blur": 4}, "mask: got none for mask_blur"),
        ("text-to-image", {"image": PICTURE, "paste": True}, "mask: got none for paste"),
        ("inpainting", {"mask": MASK}, "image: got none; expected a picture, as small is for inpainting"),
        ("inpainting", {"image": PICTURE}, "mask: got none; expected a picture that is white where to paint, or expand"),
        ("depth-to-image", {}, "image: got neither a picture nor depth"),
        ("depth-to-image", {"image": PICTURE, "invert": True}, "invert: small is a model for depth-to-image, which takes image, depth"),
        ("depth-to-image", {"depth": MASK, "strength": 0.5}, "strength: got 0.5 without a picture"),
        ("depth-to-image", {"depth": MASK, "strength": "much"}, "strength: got 'much'; expected a finite number from 0 to 1"),
        ("upscaling", {}, "image: got none; expected a picture, as small is for upscaling"),
        ("upscaling", {"image": PICTURE, "mask_blur": 4}, "mask_blur: small is a model for upscaling"),
        ("upscaling", {"image": PICTURE, "width": 128}, "width and height: an upscaler paints 4 times the picture's size"),
        ("upscaling", {"image": PICTURE, "noise_level": 351}, "noise_level: got '351'; expected an integer from 0 to 350"),
        ("upscaling", {"image": PICTURE, "noise_level": 2.5}, "noise_level: got '2.5'"),
        ("upscaling", {"image": np.zeros((1, 2049, 3), np.uint8)}, "image: got 2,049 x 1 pixels .*; expected at most 2,048 a side"),
        ("text-to-image", {"image": np.zeros((1, 8200, 3), np.uint8)}, "image: got 8,200 x 1 pixels .*; expected at most 8,192 a side"),
        ("depth-to-image", {"depth": np.zeros((1, 8200), np.uint8)}, "depth: got 8,200 x 1 pixels .*; expected at most 8,192 a side"),
        ("text-to-image", {"image": [PICTURE, PICTURE]}, "image: got 2 pictures for 1 prompts"),
        ("text-to-image", {"image": []}, "image: got 0 pictures for 1 prompts"),
    ],
)
def test_what_does_not_fit_is_named(bundles: dict[str, Bundle], model: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        resolve(Request(prompt="a", **options), bundles[model])


@pytest.mark.parametrize(
    "expand", [(8, 0, 0), (8, 0, 0, 0, 0), 8, "8,8,8,8", (8.0, 0, 0, 0), (8, 0, 0, "0"), (8, 0, 0, None), (True, 0, 0, 0), (-8, 0, 0, 0)]
)
def test_expand_is_four_integers(bundles: dict[str, Bundle], expand: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"expand: got .*; expected (four integers|an integer at least 0)"):
        source(bundles["inpainting"], image=PICTURE, expand=expand)
    assert source(bundles["inpainting"], image=PICTURE, expand=[np.int64(8), 0, 0, 0]).expand == (8, 0, 0, 0)


@pytest.mark.parametrize("blur", [-1, 257, float("nan"), "much", None])
def test_mask_blur_is_a_radius(bundles: dict[str, Bundle], blur: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"mask_blur: got .*; expected a finite number from 0 to 256"):
        source(bundles["inpainting"], image=PICTURE, mask=MASK, mask_blur=blur)


@pytest.mark.parametrize(("paste", "alone", "expanded"), [(None, False, True), (True, True, True), (False, False, False)])
def test_only_what_is_expanded_is_pasted_unless_asked(bundles: dict[str, Bundle], paste: bool | None, alone: bool, expanded: bool) -> None:
    for model in ("inpainting", "text-to-image"):
        assert (source(bundles[model], image=PICTURE, mask=MASK, paste=paste).paste is not None) is alone
        assert (source(bundles[model], image=PICTURE, expand=(8, 0, 0, 0), paste=paste).paste is not None) is expanded


def test_a_blurred_mask_is_pasted(bundles: dict[str, Bundle]) -> None:
    blurred = {"image": PICTURE, "mask": MASK, "mask_blur": 2.0}
    found = source(bundles["inpainting"], **blurred)
    assert found.paste is found.mask is not None
    assert source(bundles["text-to-image"], **blurred).paste is not None
    assert source(bundles["text-to-image"], **blurred, paste=False).paste is None  # it blends the latents by the blurred mask
    with pytest.raises(InvalidArgument, match=r"mask_blur: small sees masks of zeros and ones, .*; leave it out, or paste$"):
        source(bundles["inpainting"], **blurred, paste=False)


@pytest.mark.parametrize(
    ("options", "size", "crop"),
    [
        ({"mask": MASK, "paste": True}, (24, 40), (21, 35)),
        ({"mask": MASK}, (16, 32), None),
        ({"mask": MASK, "paste": True, "width": 64}, (40, 64), None),
        ({"expand": (5, 0, 0, 0)}, (24, 40), (21, 40)),
        ({"expand": (5, 0, 0, 0), "paste": False}, (24, 40), (21, 40)),
        ({"expand": (5, 3, 0, 0)}, (24, 40), None),
    ],
)
def test_what_is_pasted_or_expanded_is_padded_and_cut_back(
    bundles: dict[str, Bundle], options: dict[str, Any], size: tuple[int, int], crop: tuple[int, int] | None
) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (21, 35, 3), dtype=np.uint8)
    found = source(bundles["inpainting"], image=picture, **options)
    assert ((found.height, found.width), found.crop, found.result_size) == (size, crop, crop or size)
    assert found.images is not None
    assert found.mask is not None
    assert found.images.shape == (1, *size, 3)
    assert found.mask.shape == size
    left, top, *_ = options.get("expand", (0, 0))
    unresized = "paste" in options or "expand" in options
    if unresized and "width" not in options:
        np.testing.assert_array_equal(found.images[0, top : top + 21, left : left + 35], picture)


def test_a_large_picture_may_be_scaled_down(bundles: dict[str, Bundle]) -> None:
    found = source(bundles["text-to-image"], image=np.zeros((8, 8200, 3), np.uint8), width=64, height=8)
    assert (found.width, found.height) == (64, 8)


def test_hashes_are_those_of_files(bundles: dict[str, Bundle], tmp_path: Path) -> None:
    files = [tmp_path / "a.png", tmp_path / "b.png"]
    for level, file in enumerate(files):
        Image.new("L", (32, 24), 200 + level).save(file)
    hashes = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    job = resolve(Request(prompt=["a", "b", "c"], image=[files[0], PICTURE, str(files[1])], mask=files[1]), bundles["text-to-image"])
    assert job.source is not None
    assert job.source.image_sha256 == (hashes[0], None, hashes[1])
    assert job.source.mask_sha256 == hashes[1]
    assert source(bundles["depth-to-image"], image=PICTURE, depth=files[0]).depth_sha256 == hashes[0]
    assert source(bundles["depth-to-image"], depth=files[0]).depth_sha256 == hashes[0]
    assert source(bundles["upscaling"], image=files[0]).image_sha256 == (hashes[0],)


def test_a_file_that_is_gone_at_the_second_look() -> None:
    with pytest.raises(InvalidArgument, match=r"image: cannot read absent\.png a second time \(No such file or directory\)"):
        file_sha256("image", "absent.png")
    assert file_sha256("image", PICTURE) is None


def test_an_upscaler_says_how_much_noise_it_knows(bundles: dict[str, Bundle], tmp_path: Path) -> None:
    assert {task: bundle.max_noise_level for task, bundle in bundles.items()} == {**dict.fromkeys(TASKS), "upscaling": 350}
    with pytest.raises(BundleError, match="max_noise_level: got nothing, expected an integer of at least 0"):
        read_bundle(write_bundle(tmp_path / "old", lambda document: document.update(task="upscaling")))


def test_a_bundle_may_have_defaults_of_its_own(tmp_path: Path) -> None:
    def edit(document: dict[str, Any]) -> None:
        document.update(task="upscaling", latent_factor=4, max_noise_level=350)
        document["defaults"]["noise_level"] = 5

    upscaler = read_bundle(write_bundle(tmp_path / "upscaler", edit))
    assert source(upscaler, image=PICTURE).noise_level == 5
    assert source(upscaler, image=PICTURE, noise_level=0).noise_level == 0
    painter = read_bundle(write_bundle(tmp_path / "painter", lambda document: document["defaults"].update(strength=0.5)))
    assert source(painter, image=PICTURE).strength == 0.5
    assert source(painter, image=PICTURE, strength=0.7).strength == 0.7
    assert source(painter, image=PICTURE, mask=MASK).strength == 1  # which is not image to image
    inpainter = make_bundle(tmp_path / "inpainter", "inpainting")
    inpainter = replace(inpainter, defaults=replace(inpainter.defaults, strength=0.5))
    assert source(inpainter, image=PICTURE, mask=MASK).strength == 0.5
    assert source(inpainter, image=PICTURE, mask=MASK, strength=1).strength == 1


@pytest.mark.parametrize("model", ["text-to-image", "inpainting"])
def test_a_mask_that_the_model_would_not_see_is_refused(bundles: dict[str, Bundle], model: str) -> None:
    thin = np.zeros((24, 32), np.uint8)
    thin[9:16] = 255  # between the rows 8 and 16, which are those that the latents take
    lost = np.zeros((2400, 3200), np.uint8)
    lost[1000, 1000] = 255  # gone at the picture's own size
    for mask in (thin, lost):
        with pytest.raises(InvalidArgument, match=r"mask: got strokes thinner than 8 pixels of the picture to paint; widen them$"):
            source(bundles[model], image=PICTURE, mask=mask)
    thin[8] = 255
    assert source(bundles[model], image=PICTURE, mask=thin).mask is not None


def test_a_mask_that_is_blurred_away_is_refused_where_its_grays_do_not_count(bundles: dict[str, Bundle]) -> None:
    small = np.zeros((24, 32), np.uint8)
    small[8:10, 8:10] = 255
    with pytest.raises(InvalidArgument, match="widen them, or blur it less"):
        source(bundles["inpainting"], image=PICTURE, mask=small, mask_blur=8)
    assert source(bundles["text-to-image"], image=PICTURE, mask=small, mask_blur=8).mask_blur == 8


@pytest.mark.parametrize(
    ("steps", "strength", "hint"),
    [
        (3, 0.333, "3 steps; expected at least 0.334"),
        (4, 0.0, "4 steps; expected at least 0.25"),
        (1, 0.8, "1 steps; raise steps to at least 2, or strength to 1"),
        (1, 0.25, "1 steps; raise steps to at least 4, or strength to 1"),
        (1, 1 / 49, "1 steps; raise steps to at least 50, or strength to 1"),
        (1, 0.5, "1 steps; raise steps to at least 2, or strength to 1"),
        (1, 0.0, "1 steps; expected at least 1"),
    ],
)
def test_what_the_hint_says_is_enough(steps: int, strength: float, hint: str) -> None:
    with pytest.raises(InvalidArgument, match=f"strength: got {strength:g}, which leaves none of {hint}$"):
        first_step(steps, strength)


def test_the_least_strength_is_rounded_up() -> None:
    for steps in range(1, 1001):
        with pytest.raises(InvalidArgument) as caught:
            first_step(steps, 0.0)
        assert first_step(steps, float(str(caught.value).split()[-1])) < steps
