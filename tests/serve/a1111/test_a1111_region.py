"""Which part of a picture "only masked" paints, and how it is put back."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw

from sd2rt.engine.errors import InvalidArgument
from sd2rt.serve.a1111_region import Around, Region, cut_region
from sd2rt.serve.order import Finished
from tests.serve.pictures import png

MOST = 1_000_000
WIDE, HIGH = 400, 200


def cut(mask_box: tuple[int, int, int, int], size: tuple[int, int] = (64, 64), padding: int = 0, blur: float = 0.0) -> Region:
    """Cut a part of a wide gray picture, around a mask that is white in a box of which all sides belong to it."""
    mask = Image.new("L", (WIDE, HIGH))
    ImageDraw.Draw(mask).rectangle(mask_box, fill=255)
    around = Around(size=size, padding=padding, blur=blur, invert=False)
    return cut_region(png(Image.new("RGB", (WIDE, HIGH), (90, 90, 90))), png(mask), around, MOST)


@pytest.mark.parametrize(
    ("mask_box", "asked", "box"),
    [
        ((100, 50, 149, 99), {}, (100, 50, 150, 100)),
        ((100, 50, 149, 99), {"padding": 10}, (90, 40, 160, 110)),
        ((100, 50, 149, 99), {"padding": 4, "blur": 2.0}, (90, 40, 160, 110)),
        ((100, 50, 149, 59), {}, (100, 30, 150, 80)),  # as high as it is wide
        ((100, 50, 109, 99), {"size": (128, 64)}, (55, 50, 155, 100)),  # twice as wide as high
        ((0, 0, 9, 49), {}, (0, 0, 50, 50)),  # at the edge it grows inwards
        ((390, 150, 399, 199), {}, (350, 150, 400, 200)),
        ((0, 90, 399, 109), {}, (0, 0, 400, 200)),  # no more than there is
        ((0, 0, 399, 199), {"padding": 50}, (0, 0, 400, 200)),
    ],
)
def test_parts(mask_box: tuple[int, int, int, int], asked: dict[str, object], box: tuple[int, int, int, int]) -> None:
    assert cut(mask_box, **asked).box == box  # type: ignore[arg-type]


def test_an_order_carries_the_part() -> None:
    region = cut((100, 50, 149, 59))
    files = {name: Image.open(io.BytesIO(content)) for name, content in region.pictures().items()}
    assert (files["image"].size, files["image"].mode, files["mask"].mode) == ((50, 50), "RGB", "L")
    assert files["mask"].getbbox() == (0, 20, 50, 30)


def test_only_what_is_masked_is_put_back() -> None:
    region = cut((100, 50, 149, 59))
    painted = png(Image.new("RGB", (64, 64), (255, 0, 0)))
    back = region.put_back(Finished(pictures=(painted,), parameters=({},), timings={})).pictures[0]
    pixels = np.asarray(Image.open(io.BytesIO(back)))
    red = (pixels == (255, 0, 0)).all(axis=2)
    assert red[50:60, 100:150].all()
    assert red.sum() == 500
    assert (pixels[~red] == 90).all()


def test_black_may_be_painted_and_masks_of_other_sizes_are_fitted() -> None:
    mask = Image.new("L", (40, 20), 255)
    ImageDraw.Draw(mask).rectangle((10, 5, 14, 9), fill=0)
    around = Around(size=(64, 64), padding=0, blur=0.0, invert=True)
    left, top, right, bottom = cut_region(png(Image.new("RGB", (WIDE, HIGH))), png(mask), around, MOST).box
    assert (left, top, right, bottom) == pytest.approx((100, 50, 150, 100), abs=3)


def test_nothing_to_paint_and_a_blur_that_is_none_are_refused() -> None:
    nothing = png(Image.new("L", (WIDE, HIGH)))
    with pytest.raises(InvalidArgument, match="mask: got nothing to paint"):
        cut_region(nothing, nothing, Around(size=(64, 64), padding=0, blur=0.0, invert=False), MOST)
    with pytest.raises(InvalidArgument, match="mask_blur: got -1"):
        cut((0, 0, 9, 9), blur=-1.0)
    with pytest.raises(InvalidArgument, match="mask_blur: got nan"):
        cut((0, 0, 9, 9), blur=float("nan"))
