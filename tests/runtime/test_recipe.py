"""Recipes: what has to be given again, what is checked, and what depends on the bundle."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from sd2rt.engine.errors import InvalidArgument
from sd2rt.runtime.bundle import Bundle, read_bundle
from sd2rt.runtime.picture_file import save_picture
from sd2rt.runtime.recipe import ORDER_NOTE, Recipe, check_pictures, read_recipe
from tests.runtime.bundles import write_bundle
from tests.runtime.records import PARAMETERS

PICTURE = Image.new("RGB", (16, 8))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return read_bundle(write_bundle(tmp_path_factory.mktemp("recipe") / "small"))


def of_text(tmp_path: Path, pairs: str) -> Recipe:
    chunks = PngInfo()
    chunks.add_text("parameters", f"a fox\nSteps: 3, Sampler: Euler, Seed: 1, Size: 64x64, {pairs}")
    PICTURE.save(tmp_path / "a.png", pnginfo=chunks)
    return read_recipe(tmp_path / "a.png")


def of_record(tmp_path: Path, **changes: Any) -> Recipe:
    save_picture(PICTURE, tmp_path / "b.png", replace(PARAMETERS, **changes), force=True)
    return read_recipe(tmp_path / "b.png")


A, B, C = "a" * 64, "b" * 64, "c" * 64


@pytest.mark.parametrize(
    ("changes", "needed"),
    [
        ({}, {}),
        ({"task": "image-to-image", "strength": 0.5, "image_sha256": A}, {"image": A}),
        ({"task": "image-to-image", "strength": 0.5}, {"image": None}),
        ({"task": "upscaling", "noise_level": 0, "image_sha256": A}, {"image": A}),
        ({"task": "inpainting", "strength": 1.0, "image_sha256": A, "mask_sha256": B}, {"image": A, "mask": B}),
        ({"task": "inpainting", "strength": 1.0, "image_sha256": A}, {"image": A, "mask": None}),
        ({"task": "inpainting", "strength": 1.0, "image_sha256": A, "expand": (1, 0, 0, 0)}, {"image": A}),
        (
            {"task": "inpainting", "strength": 1.0, "image_sha256": A, "mask_sha256": B, "expand": (1, 0, 0, 0)},
            {"image": A, "mask": B},
        ),
        ({"task": "depth-to-image", "strength": 0.5, "image_sha256": A}, {"image": A}),
        ({"task": "depth-to-image", "strength": 0.5, "image_sha256": A, "depth_sha256": C}, {"image": A, "depth": C}),
        ({"task": "depth-to-image", "depth_sha256": C}, {"depth": C}),
        ({"task": "depth-to-image"}, {"depth": None}),
    ],
)
def test_what_has_to_be_given_again(changes: dict[str, Any], needed: dict[str, str | None], tmp_path: Path) -> None:
    assert of_record(tmp_path, **changes).needed == needed


def test_a_record_names_its_model_and_target(tmp_path: Path) -> None:
    recipe = of_record(tmp_path, precision="f32")
    assert (recipe.model, recipe.model_hash, recipe.target, recipe.precision) == ("toyworld", PARAMETERS.bundle_sha256, "cpu", "f32")
    assert recipe.facts()["seed"] == 7


@pytest.mark.parametrize(
    ("pairs", "task", "needed"),
    [
        ("CFG scale: 3", "text-to-image", {}),
        ("Denoising strength: 0.5", "image-to-image", {"image": None}),
        ("Denoising strength: 0.5, Mask blur: 4", "inpainting", {"image": None, "mask": None}),
        ("Noise level: 20", "upscaling", {"image": None}),
    ],
)
def test_texts_tell_their_tasks(pairs: str, task: str, needed: dict[str, None], tmp_path: Path, bundle: Bundle) -> None:
    recipe = of_text(tmp_path, pairs)
    assert (recipe.task, recipe.needed, recipe.target, recipe.precision) == (task, needed, "", "auto")
    options, notes = recipe.options(bundle)
    assert notes == ()
    assert ("width" in options) == (task != "upscaling")
    assert (ORDER_NOTE in recipe.notes) == ("strength" in options)
    assert options.get("paste") == (True if task == "inpainting" else None)
    assert recipe.facts()["task"] == task


def test_what_the_web_ui_does_otherwise_is_not_told_of_a_text_by_sd2rt(tmp_path: Path) -> None:
    pairs = "Denoising strength: 0.5, Version: "
    assert [of_text(tmp_path, f"{pairs}{version}").notes for version in ("v1.9.4", "sd2rt 0.1.0")] == [(ORDER_NOTE,), ()]


def test_clip_skip_counts_with_sd1s_text_encoder_alone(tmp_path: Path, bundle: Bundle) -> None:
    recipe = of_text(tmp_path, "Clip skip: 2")
    options, notes = recipe.options(bundle)
    assert "clip_skip" not in options
    assert notes == ("Clip skip: 2 is left out, as the web UI does with models other than SD1's",)
    unet = bundle.component("unet")
    inputs = tuple(
        replace(tensor, shape=(*tensor.shape[:-1], 768)) if tensor.name == "encoder_hidden_states" else tensor for tensor in unet.inputs
    )
    sd1 = replace(bundle, components={**bundle.components, "unet": replace(unet, inputs=inputs)})
    options, notes = recipe.options(sd1)
    assert (options["clip_skip"], notes) == (2, ())


def test_clip_skip_in_our_own_text_holds_for_any_model(tmp_path: Path, bundle: Bundle) -> None:
    options, notes = of_text(tmp_path, "Clip skip: 2, Version: sd2rt 0.3.0").options(bundle)
    assert (options["clip_skip"], notes) == (2, ())
    assert "clip_skip" not in of_text(tmp_path, "Clip skip: 2, Version: v1.10.1").options(bundle)[0]


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_pictures_given_are_checked(tmp_path: Path) -> None:
    scene, other = tmp_path / "scene.png", tmp_path / "other.png"
    PICTURE.save(scene)
    Image.new("RGB", (8, 8)).save(other)
    recipe = of_record(tmp_path, task="image-to-image", strength=0.5, image_sha256=digest(scene))
    assert check_pictures(recipe, {"image": str(scene), "mask": None, "depth": None}) == ()
    for given, words in (
        ({"image": None}, f"--image: got none; the picture was made from one of SHA-256 {digest(scene)[:12]}: give it again"),
        ({"image": str(other)}, f"--image: got {other}, of SHA-256 {digest(other)[:12]}; the picture was made from one of SHA-256"),
        ({"image": str(tmp_path / "absent.png")}, "cannot read"),
        ({"image": str(scene), "mask": "m.png"}, "--mask: got m.png; the picture was made without one, leave it out"),
    ):
        with pytest.raises(InvalidArgument) as caught:
            check_pictures(recipe, given)
        assert words in str(caught.value)


def test_pictures_whose_hash_is_not_recorded_are_taken_with_a_note(tmp_path: Path) -> None:
    recipe = of_text(tmp_path, "Denoising strength: 0.5")
    (note,) = check_pictures(recipe, {"image": "any.png"})
    assert note == "--image: whether any.png is the file that was used cannot be told, since its SHA-256 is not recorded"
    with pytest.raises(InvalidArgument, match="--image: got none; the picture was made from one: give it again"):
        check_pictures(recipe, {"image": None})


def test_sizes_that_a_traced_unet_cannot_paint_are_not_asked_for(tmp_path: Path, bundle: Bundle) -> None:
    recipe = of_record(tmp_path, width=576, height=600)
    options, _ = recipe.options(replace(bundle, traced_multiple=64))
    assert ("height" in options, options["width"]) == (False, 576)
    assert recipe.options(bundle)[0]["height"] == 600
