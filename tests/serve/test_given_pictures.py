"""Pictures that clients send, opened and changed at the edge."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from sd2rt.engine.errors import InvalidArgument
from sd2rt.serve.given_pictures import open_given, paint_where_transparent, write_again
from tests.serve.pictures import picture, png, transparent_mask, white_mask


def test_transparent_becomes_white() -> None:
    assert paint_where_transparent(png(transparent_mask()), 10_000) == png(white_mask())


def test_half_transparent_becomes_gray_and_palettes_count() -> None:
    half = Image.new("RGBA", (2, 1), (9, 9, 9, 255))
    half.putpixel((1, 0), (9, 9, 9, 55))
    assert list(Image.open(io.BytesIO(paint_where_transparent(png(half), 2))).tobytes()) == [0, 200]
    palette = Image.new("P", (2, 1), 0)
    palette.putpalette([9, 9, 9, 8, 8, 8])
    palette.putpixel((1, 0), 1)
    stream = io.BytesIO()
    palette.save(stream, "PNG", transparency=1)
    assert list(Image.open(io.BytesIO(paint_where_transparent(stream.getvalue(), 2))).tobytes()) == [0, 255]


@pytest.mark.parametrize("mask", [white_mask(), picture(), picture().convert("RGBA")])
def test_a_mask_that_is_nowhere_transparent_is_refused(mask: Image.Image) -> None:
    with pytest.raises(InvalidArgument, match="nowhere transparent"):
        paint_where_transparent(png(mask), 10_000)


def test_too_many_pixels_are_refused_before_they_are_decoded() -> None:
    with pytest.raises(InvalidArgument, match=r"mask: got 64 x 64 pixels .*expected at most 4,095"):
        open_given("mask", png(white_mask())[:100], 4095)


def test_damaged_and_other_files_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="image: got a damaged file"):
        open_given("image", png(picture())[:-60], 10_000)
    stream = io.BytesIO()
    picture().save(stream, "GIF")
    with pytest.raises(InvalidArgument, match="no picture"):
        open_given("image", stream.getvalue(), 10_000)


def test_our_own_files_in_other_formats() -> None:
    assert write_again(b"as it is", "png", 90) == b"as it is"
    assert Image.open(io.BytesIO(write_again(png(picture()), "jpeg", 50))).format == "JPEG"
    assert Image.open(io.BytesIO(write_again(png(picture()), "webp", 50))).format == "WEBP"
