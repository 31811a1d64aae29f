"""`sd2rt inpaint` on the embedded text-to-image model, which blends: what the mask keeps and what it gives up."""

import hashlib
import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.conftest import MODEL, Command
from tests.cli.pictures import SIZE, box_mask

QUICK = ("--model", MODEL, "--steps", "4", "--seed", "7", "--quiet")
WHITE = np.asarray(box_mask(SIZE)) > 0


def pixels(name: str) -> np.ndarray:
    with Image.open(name) as image:
        return np.asarray(image).astype(np.float32)


def changes(name: str) -> np.ndarray:
    """Return by how much each pixel of a picture differs from rgb.png, [H, W]."""
    difference: np.ndarray = np.abs(pixels(name) - pixels("rgb.png")).max(axis=2)
    return difference


@pytest.mark.parametrize("invert", [False, True])
def test_paste_keeps_the_rest_exactly(invert: bool, sd2rt: Command, pictures: list[str]) -> None:
    """The mask is of another size than the picture."""
    options = ("--mask", "mask.png", "--paste", *(("--invert",) if invert else ()))
    assert sd2rt("inpaint", "a red cube", "--image", "rgb.png", *options, "--out", "a.png", *QUICK).out == "a.png\n"
    painted = ~WHITE if invert else WHITE
    assert changes("a.png")[~painted].max() == 0
    assert changes("a.png")[painted].mean() > 5


def test_without_paste_the_rest_comes_through_the_autoencoder(sd2rt: Command, pictures: list[str]) -> None:
    assert sd2rt("inpaint", "", "--image", "rgb.png", "--mask", "mask.png", "--out", "a.png", *QUICK).code == 0
    assert changes("a.png")[~WHITE].max() > 0
    assert changes("a.png")[~WHITE].mean() < changes("a.png")[WHITE].mean()


@pytest.mark.parametrize(("paste", "kept"), [((), True), (("--paste",), True), (("--no-paste",), False)])
def test_expand_paints_around_the_picture(paste: tuple[str, ...], kept: bool, sd2rt: Command, pictures: list[str]) -> None:
    asked = ("inpaint", "a red cube", "--image", "rgb.png", "--expand", "16,0,8,24", *paste, "--out", "a.png")
    assert sd2rt(*asked, *QUICK).code == 0
    wide = pixels("a.png")
    assert wide.shape == (48 + 24, 64 + 24, 3)
    middle = wide[:40, 16 + 8 : 16 + 64 - 8]  # what the mask's overlap, a cell of toyworld's latents, leaves of the picture
    assert (np.abs(middle - pixels("rgb.png")[:40, 8:-8]).max() == 0) == kept


@pytest.mark.parametrize(
    ("options", "size", "corner"), [(("--expand", "5,0,0,0"), (66, 43), (5, 0)), (("--mask", "mask.png", "--paste"), (61, 43), (0, 0))]
)
def test_odd_sizes_are_kept_where_pixels_are(
    options: tuple[str, ...], size: tuple[int, int], corner: tuple[int, int], sd2rt: Command, pictures: list[str]
) -> None:
    with Image.open("odd.webp") as image:
        image.convert("RGB").save("odd.png")
    found = sd2rt("inpaint", "a red cube", "--image", "odd.png", *options, "--out", "a.png", "--json", *QUICK)
    assert (json.loads(found.out)["images"][0]["width"], json.loads(found.out)["images"][0]["height"]) == size
    painted = pixels("a.png")
    assert painted.shape == (size[1], size[0], 3)
    kept = painted[corner[1] : corner[1] + 43, corner[0] : corner[0] + 61]
    untouched = slice(13, 30) if "--expand" in options else slice(0, 28)
    np.testing.assert_array_equal(kept[:, untouched], pixels("odd.png")[:, untouched])


def test_a_blurred_mask_is_pasted_softly(sd2rt: Command, pictures: list[str]) -> None:
    asked = ("inpaint", "a red cube", "--image", "rgb.png", "--mask", "mask.png", "--paste")
    assert sd2rt(*asked, "--out", "hard.png", *QUICK).code == 0
    assert sd2rt(*asked[:-1], "--mask-blur", "3", "--out", "soft.png", *QUICK).code == 0
    far = np.zeros(WHITE.shape, bool)
    far[:, :16] = True  # the mask begins at 32, the blur reaches four times as far as its radius
    assert changes("soft.png")[far].max() == 0
    assert changes("soft.png")[12:36, 24:32].max() > 0 == changes("hard.png")[12:36, 24:32].max()


def rotated_mask() -> bytes:
    """A JPEG that lies on its side, and says so."""
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    stream = BytesIO()
    box_mask(SIZE).transpose(Image.Transpose.ROTATE_90).save(stream, "JPEG", exif=exif, quality=100)
    return stream.getvalue()


MASKS: dict[str, Callable[[], Image.Image | bytes]] = {
    "rgba.png": lambda: box_mask(SIZE).convert("RGBA"),
    "see-through.png": lambda: Image.merge("LA", (Image.new("L", SIZE, 90), box_mask(SIZE))),
    "16-bit.png": lambda: Image.fromarray(np.asarray(box_mask(SIZE)).astype(np.uint16) * 257),
    "bits.png": lambda: box_mask(SIZE).convert("1"),
    "palette.gif": lambda: box_mask(SIZE).convert("P"),
    "cmyk.tiff": lambda: box_mask(SIZE).convert("RGB").convert("CMYK"),
    "floats.tiff": lambda: box_mask(SIZE).convert("F").point(lambda gray: gray * (1 / 255) + 0),
    "grays.png": lambda: box_mask(SIZE).point(lambda gray: 130 if gray else 120),
    "rotated.jpg": rotated_mask,
    "large.png": lambda: box_mask((SIZE[0] * 100, SIZE[1] * 100)).convert("1"),
}


@pytest.mark.parametrize("name", MASKS)
def test_masks_of_every_kind_mean_the_same(name: str, sd2rt: Command, pictures: list[str], tmp_path: Path) -> None:
    made = MASKS[name]()
    Path(f"m-{name}").write_bytes(made) if isinstance(made, bytes) else made.save(f"m-{name}")
    box_mask(SIZE).save("m.png")
    results = []
    for mask in ("m.png", f"m-{name}"):
        asked = ("inpaint", "a red cube", "--image", "rgb.png", "--mask", mask, "--paste", "--out", "a.png", "--force")
        assert sd2rt(*asked, *QUICK).code == 0
        results.append(pixels("a.png"))
    np.testing.assert_array_equal(*results)


def test_parameters(sd2rt: Command, pictures: list[str]) -> None:
    options = ("--mask", "mask.png", "--mask-blur", "2.5", "--invert", "--expand", "0,0,16,0", "--strength", "0.75", "--out", "a.png")
    assert sd2rt("inpaint", "a red cube", "--image", "rgb.png", *options, *QUICK).code == 0
    with Image.open("a.png") as image:
        assert "Denoising strength: 0.75, Mask blur: 2.5, Seed: 7, Size: 80x48" in image.info["parameters"]
        ours = json.loads(image.info["sd2rt"])
    assert (ours["task"], ours["mask_blur"], ours["invert"], ours["paste"], ours["expand"]) == (
        "inpainting",
        2.5,
        True,
        True,
        [0, 0, 16, 0],
    )
    assert ours["mask_sha256"] == hashlib.sha256(Path("mask.png").read_bytes()).hexdigest()


def test_what_is_pasted_is_scaled_down_too_and_told(sd2rt: Command) -> None:
    Image.new("RGB", (400, 300), (200, 30, 30)).save("large.png")
    box_mask().save("mask.png")
    asked = ("inpaint", "a red cube", "--image", "large.png", "--mask", "mask.png", "--out", "a.png")
    found = sd2rt(*asked, "--paste", *QUICK[:-1])
    assert "got 400 x 300 pixels, scaled down to 144 x 104, what is kept too; --width or --height asks for another size\n" in found.err
    assert (pixels("a.png")[:, :72] == (200, 30, 30)).all()
    assert "scaled down to 144 x 104; --width" in sd2rt(*asked, "--force", *QUICK[:-1]).err
    assert "scaled down" not in sd2rt(*asked, "--force", "--height", "104", *QUICK[:-1]).err
