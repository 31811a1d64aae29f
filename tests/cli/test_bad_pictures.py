"""Verbs that begin from pictures: wrong use gets one line and exit code 2, before an engine is built, and leaves no file behind."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sd2rt.engine import targets
from tests.cli.conftest import MODEL, Command, assert_refused
from tests.cli.pictures import colours
from tests.runtime.bundles import write_bundle

pytestmark = pytest.mark.usefixtures("unused_cache")

IMAGE = ("--image", "rgb.png")
VERBS = {
    "img2img": ("text-to-image", ("img2img", "a red cube")),
    "inpaint": ("inpainting", ("inpaint", "a red cube", "--mask", "mask.png")),
    "depth2img": ("depth-to-image", ("depth2img", "a red cube")),
    "upscale": ("upscaling", ("upscale",)),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Bundles without engines, by task: checks have to come first, or they fail otherwise."""

    def write(task: str) -> str:
        folder = tmp_path_factory.mktemp("model") / task

        def edit(document: dict[str, Any]) -> None:
            document.update(name=f"for-{task}", task=task)
            document.update({"latent_factor": 4, "max_noise_level": 350} if task == "upscaling" else {})
            if task == "depth-to-image":
                shutil.copytree(folder / "unet", folder / "depth_estimator")
                document["components"]["depth_estimator"] = document["components"]["unet"]

        return str(write_bundle(folder, edit))

    return {task: write(task) for task, _ in VERBS.values()}


def assert_verb_refused(sd2rt: Command, verb: str, models: dict[str, str], options: tuple[str, ...], words: str, folder: Path) -> None:
    """Run a verb on a model of its kind, and check that it is refused and that no file came or went."""
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    task, arguments = VERBS[verb]
    assert_refused(sd2rt(*arguments, "--model", models[task], "--steps", "4", "--quiet", *options), 2, words)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--image", "absent.png"), "image: cannot open absent.png (No such file or directory)"),
        (("--image", "."), "image: cannot open . (Is a directory)"),
        (("--image", ""), "image: cannot open"),
        (("--image", "text.png"), "image: cannot read text.png (cannot identify image file"),
        ((*IMAGE, "--image", "gray.png"), "'--image': got 2 files; expected one"),
        ((*IMAGE, "--image", "rgb.png"), "'--image': got 2 files; expected one"),
        ((*IMAGE, "--image"), "requires an argument"),
        ((*IMAGE, "--out", "gray.png"), "--force"),
        ((*IMAGE, "--out", "red.gif"), "ends in one of .png"),
        ((*IMAGE, "--steps", "0"), "steps: got '0'"),
        ((*IMAGE, "--sampler", "warp"), "unknown sampler 'warp'"),
        ((*IMAGE, "--seed", "-1"), "seed"),
        ((*IMAGE, "--tile", "8"), "tile: got 8 pixels"),
        ((*IMAGE, "--target", "abacus"), "expected auto or one of"),
    ],
)
def test_every_verb(
    verb: str, options: tuple[str, ...], words: str, sd2rt: Command, models: dict[str, str], pictures: list[str], tmp_path: Path
) -> None:
    assert_verb_refused(sd2rt, verb, models, options, words, tmp_path)


@pytest.mark.parametrize("verb", ["img2img", "inpaint", "upscale"])
def test_a_picture_is_needed(verb: str, sd2rt: Command, models: dict[str, str], pictures: list[str], tmp_path: Path) -> None:
    assert_verb_refused(sd2rt, verb, models, (), "Missing option '--image'", tmp_path)


@pytest.mark.parametrize("verb", ["img2img", "inpaint", "depth2img"])
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--strength", "0"), "strength: got 0, which leaves none of 4 steps; expected at least 0.25"),
        (("--strength", "0.2"), "strength: got 0.2, which leaves none of 4 steps"),
        (("--strength", "1.5"), "strength: got '1.5'; expected a finite number from 0 to 1"),
        (("--strength", "-1"), "strength: got '-1.0'"),
        (("--strength", "nan"), "strength: got 'nan'"),
        (("--strength", "much"), "'much' is not a valid float"),
        (("--width", "100"), "width: got 100; expected a multiple of 8 up to 8192; nearest: 96 or 104"),
        (("--height", "0"), "height: got '0'"),
        (("--width", "8200"), "width: got 8200"),
    ],
)
def test_strength_and_size(
    verb: str, options: tuple[str, ...], words: str, sd2rt: Command, models: dict[str, str], pictures: list[str], tmp_path: Path
) -> None:
    assert_verb_refused(sd2rt, verb, models, (*IMAGE, *options), words, tmp_path)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--mask", "gray.png"), "'--mask': got 2 files; expected one"),
        (("--mask-blur", "-1"), "mask_blur: got '-1.0'; expected a finite number from 0 to 256"),
        (("--mask-blur", "1000"), "mask_blur: got '1000.0'"),
        (("--mask-blur", "4", "--no-paste"), "mask_blur: for-inpainting sees masks of zeros and ones"),
        (("--expand", "a,b"), "--expand: got 'a,b'; expected LEFT,TOP,RIGHT,BOTTOM in whole pixels, such as 0,0,64,0"),
        (("--expand", "8,8,8"), "--expand: got '8,8,8'"),
        (("--expand", "8,8,8,8,8"), "--expand: got '8,8,8,8,8'"),
        (("--expand", "1.5,0,0,0"), "--expand: got '1.5,0,0,0'"),
        (("--expand", ""), "--expand: got ''"),
        (("--expand", "0,0,0,0"), "expand: got left 0"),
        (("--expand", "-8,0,0,0"), "expand: got '-8'; expected an integer at least 0"),
        (("--expand", "999999999999,0,0,0"), "expand: got 1,000,000,000,063 x 48 pixels"),
    ],
)
def test_masks(options: tuple[str, ...], words: str, sd2rt: Command, models: dict[str, str], pictures: list[str], tmp_path: Path) -> None:
    assert_verb_refused(sd2rt, "inpaint", models, (*IMAGE, *options), words, tmp_path)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "--mask: got none; expected a picture that is white where to paint, or --expand"),
        (("--invert", "--paste"), "--mask: got none"),
        (("--mask", "absent.png"), "mask: cannot open absent.png"),
        (("--mask", "text.png"), "mask: cannot read text.png"),
        (("--mask", "black.png"), "mask: got nothing to paint; expected white where to paint"),
        (("--invert", "--expand", "8,0,0,0"), "invert: got no mask to invert"),
    ],
)
@pytest.mark.parametrize("task", ["inpainting", "text-to-image"])
def test_a_mask_that_says_where_is_needed(
    task: str, options: tuple[str, ...], words: str, sd2rt: Command, models: dict[str, str], pictures: list[str], tmp_path: Path
) -> None:
    Image.new("L", (8, 8)).save("black.png")
    assert_refused(sd2rt("inpaint", "a red cube", *IMAGE, "--model", models[task], *options), 2, words)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "image: got neither a picture nor depth"),
        ((*IMAGE, "--depth", "absent.png"), "depth: cannot open absent.png"),
        ((*IMAGE, "--depth", "text.png"), "depth: cannot read text.png"),
        ((*IMAGE, "--depth", "rgb.png"), "depth: got a colour image; expected a depth map in grays"),
        ((*IMAGE, "--depth", "gray.png", "--depth", "16-bit.png"), "'--depth': got 2 files"),
        (("--depth", "gray.png", "--strength", "0.5"), "strength: got 0.5 without a picture"),
        ((*IMAGE, "--save-depth", "gray.png"), "it exists"),
        ((*IMAGE, "--save-depth", "depth.jpg"), "ends in .png"),
        ((*IMAGE, "--save-depth", "absent/depth.png"), "there is no folder absent"),
        ((*IMAGE, "--save-depth", "new.png", "--out", "./new.png"), "--save-depth: got new.png, where --out puts a picture"),
    ],
)
def test_depth(options: tuple[str, ...], words: str, sd2rt: Command, models: dict[str, str], pictures: list[str], tmp_path: Path) -> None:
    assert_verb_refused(sd2rt, "depth2img", models, options, words, tmp_path)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--noise-level", "-1"), "noise_level: got '-1'; expected an integer from 0 to 350"),
        (("--noise-level", "351"), "noise_level: got '351'; expected an integer from 0 to 350"),
        (("--noise-level", "much"), "'much' is not a valid integer"),
        (("--width", "64"), "No such option"),
        (("--strength", "1"), "No such option"),
        (("a prompt", "another"), "unexpected extra argument"),
    ],
)
def test_upscaling(
    options: tuple[str, ...], words: str, sd2rt: Command, models: dict[str, str], pictures: list[str], tmp_path: Path
) -> None:
    assert_verb_refused(sd2rt, "upscale", models, (*IMAGE, *options), words, tmp_path)


@pytest.mark.parametrize(
    ("verb", "size", "words"),
    [
        ("img2img", (8200, 1), "image: got 8,200 x 1 pixels (width x height); expected at most 8,192 a side: scale it down, or give width"),
        ("depth2img", (1, 8200), "image: got 1 x 8,200 pixels (width x height); expected at most 8,192 a side"),
        ("upscale", (2049, 8), "image: got 2,049 x 8 pixels (width x height); expected at most 2,048 a side to upscale"),
        (
            "img2img",
            (10001, 10000),
            "image: got 10,001 x 10,000 pixels (width x height); expected at least 1 and at most 100,000,000 pixels",
        ),
    ],
)
def test_pictures_that_are_too_large(
    verb: str, size: tuple[int, int], words: str, sd2rt: Command, models: dict[str, str], tmp_path: Path
) -> None:
    Image.new("1", size).save("large.png")
    assert_verb_refused(sd2rt, verb, models, ("--image", "large.png"), words, tmp_path)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("upscale", *IMAGE, "--model", MODEL), "--model: got toyworld, a model for text-to-image; expected one for upscaling"),
        (("depth2img", "a", *IMAGE, "--model", MODEL), "expected one for depth-to-image (`sd2rt generate` takes this one)"),
        (
            ("generate", "a", "--model", "{upscaling}"),
            "a model for upscaling; expected one for text-to-image (`sd2rt upscale` takes this one)",
        ),
        (("img2img", "a", *IMAGE, "--model", "{inpainting}"), "a model for inpainting; expected one for text-to-image"),
        (
            ("inpaint", "a", *IMAGE, "--mask", "mask.png", "--model", "{depth-to-image}"),
            "expected one for inpainting or text-to-image (`sd2rt depth2img`",
        ),
        (("generate", "a", "--model", "{text-to-image}", "--upscale"), "--upscale: got no upscaler for"),
        (("generate", "a", "--model", MODEL, "--upscaler", MODEL), "--upscaler: got toyworld, a model for text-to-image"),
        (("generate", "a", "--model", MODEL, "--upscaler", "{upscaling}", "--width", "2056"), "image: got 2,056 x 64 pixels"),
        (("generate", "a", "--model", MODEL, "--tile", "8"), "tile: got 8 pixels"),
    ],
)
def test_models_of_another_kind(
    arguments: tuple[str, ...], words: str, sd2rt: Command, models: dict[str, str], pictures: list[str], tmp_path: Path
) -> None:
    assert_refused(sd2rt(*(argument.format_map(models) for argument in arguments)), 2, words)
    assert sorted(path.name for path in tmp_path.iterdir()) == pictures


@pytest.mark.parametrize("verb", ["generate", "img2img", "depth2img"])
def test_an_empty_prompt(verb: str, sd2rt: Command, tmp_path: Path) -> None:
    colours().save("rgb.png")
    assert_refused(sd2rt(verb, " ", *(() if verb == "generate" else IMAGE)), 2, "PROMPT: got an empty text")


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--out", "out.gif"), 2, "expected a name that ends in one of .png"),
        (("--target", "abacus"), 2, "target: got 'abacus'"),
        (("--target", "tensorrt"), 1, "target tensorrt: no"),
    ],
)
def test_what_needs_no_picture_is_checked_before_one_is_read(
    verb: str,
    options: tuple[str, ...],
    code: int,
    words: str,
    sd2rt: Command,
    models: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(targets, "_obstacle", lambda name, building: "no such GPU")
    task, command = VERBS[verb]
    assert_refused(sd2rt(*command, "--image", "missing.png", "--model", models[task], *options), code, words)
