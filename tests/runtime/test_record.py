"""What pictures remember of the job that they come from."""

from pathlib import Path

import numpy as np
import pytest

from sd2rt.runtime.bundle import Bundle, read_bundle
from sd2rt.runtime.options import Request
from sd2rt.runtime.record import record
from sd2rt.runtime.request import resolve
from tests.runtime.bundles import write_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return read_bundle(write_bundle(tmp_path_factory.mktemp("record") / "small"))


def test_each_picture_has_its_own(bundle: Bundle, tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (16, 8)).save(tmp_path / "a.png")
    request = Request(
        prompt=["a", "b"], image=[np.zeros((8, 16, 3), np.uint8), tmp_path / "a.png"], images_per_prompt=2, seed=5, strength=0.5
    )
    pictures = record(resolve(request, bundle), bundle, "cpu", 6)
    assert [(picture.prompt, picture.seed, picture.image_sha256 is None) for picture in pictures] == [
        ("a", 5, True),
        ("a", 6, True),
        ("b", 7, False),
        ("b", 8, False),
    ]
    assert {(picture.task, picture.strength, picture.width, picture.height, picture.target) for picture in pictures} == {
        ("image-to-image", 0.5, 16, 8, "cpu")
    }


def test_words_alone(bundle: Bundle) -> None:
    (picture,) = record(resolve(Request(prompt="a", width=64, height=64), bundle), bundle, "cpu", 6)
    assert (picture.task, picture.strength, picture.noise_level, picture.image_sha256) == ("text-to-image", None, None, None)
    assert (picture.mask_blur, picture.invert, picture.paste, picture.expand, picture.upscaler) == (0.0, False, False, None, None)


@pytest.mark.parametrize(("tile", "kept"), [(None, 768), (128, 128), (0, 0)])
def test_tiles_that_a_large_picture_was_painted_in(bundle: Bundle, tile: int | None, kept: int) -> None:
    (picture,) = record(resolve(Request(prompt="a", width=1024, height=1024, tile=tile), bundle), bundle, "cpu", 6)
    assert picture.tile == kept
    again = resolve(Request(prompt="a", width=1024, height=1024, tile=picture.tile), bundle)
    assert again.tiles == resolve(Request(prompt="a", width=1024, height=1024, tile=tile), bundle).tiles


def test_tiles_that_a_picture_was_upscaled_in(tmp_path: Path) -> None:
    upscaler = read_bundle(write_bundle(tmp_path / "up", lambda document: document.update(task="upscaling", max_noise_level=350)))
    job = resolve(Request(prompt="a", image=np.zeros((72, 64, 3), np.uint8)), upscaler)
    (picture,) = record(job, upscaler, "cpu", 6)
    assert (picture.width, picture.height, picture.tile) == (512, 576, 512)


def test_masks(bundle: Bundle) -> None:
    mask = np.array([[0, 255]], np.uint8)
    request = Request(prompt="a", image=np.zeros((8, 16, 3), np.uint8), mask=mask, mask_blur=2, invert=True, expand=(0, 0, 8, 0))
    (picture,) = record(resolve(request, bundle), bundle, "cpu", 6)
    assert (picture.task, picture.mask_blur, picture.invert, picture.paste, picture.expand) == ("inpainting", 2.0, True, True, (0, 0, 8, 0))
    assert picture.mask_sha256 is None


def test_what_was_left_out(bundle: Bundle) -> None:
    asked = {"guidance_interval": (0.2, 0.8), "guidance_reuse": 2, "deep_cache": 3}
    job = resolve(Request(prompt="a", steps=10, **asked), bundle)  # type: ignore[arg-type]
    (picture,) = record(job, bundle, "cpu", 7, "f32")
    assert (picture.guidance_interval, picture.guidance_reuse, picture.deep_cache, picture.unet_rows) == ((0.2, 0.8), 2, 3, 7)
    assert picture.precision == "f32"


def test_what_was_asked_for_and_changed_nothing_is_left_out(bundle: Bundle) -> None:
    asked = {"guidance_interval": (0.1, 0.9), "guidance_reuse": 2, "deep_cache": 3, "guidance_scale": 1.0, "steps": 2}
    (picture,) = record(resolve(Request(prompt="a", **asked), bundle), bundle, "cpu", 2)  # type: ignore[arg-type]
    assert (picture.guidance_interval, picture.guidance_reuse, picture.deep_cache) == ((0.0, 1.0), 1, 1)
    assert picture.precision == "auto"
