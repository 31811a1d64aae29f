"""Sizes of `extra-single-image`, and what resizing leaves of a file's texts."""

from __future__ import annotations

import io

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from sd2rt.engine.errors import InvalidArgument
from sd2rt.serve.a1111_bodies import Extras
from sd2rt.serve.a1111_png_info import read_png_info
from sd2rt.serve.a1111_replies import PngInfoReply
from sd2rt.serve.a1111_upscale import Target, check_extras, find_target, resize_alone, resize_painted
from sd2rt.serve.offers import read_offers
from sd2rt.serve.settings import ServeSettings
from tests.serve.pictures import picture, png

MODELS = tuple(offer.model for offer in read_offers(ServeSettings(models=("toyworld", "toyworld-upscaler"))).values())


@pytest.mark.parametrize(
    ("fields", "size", "cut"),
    [
        ({}, (128, 64), (128, 64)),
        ({"upscaling_resize": 1.5}, (96, 48), (96, 48)),
        ({"upscaling_resize": 0.001}, (1, 1), (1, 1)),
        ({"resize_mode": 1, "upscaling_resize_w": 100, "upscaling_resize_h": 100}, (200, 100), (100, 100)),
        ({"resize_mode": 1, "upscaling_resize_w": 99, "upscaling_resize_h": 7}, (99, 50), (99, 7)),
        ({"resize_mode": 1, "upscaling_resize_w": 100, "upscaling_resize_h": 100, "upscaling_crop": False}, (200, 100), (200, 100)),
    ],
)
def test_targets(fields: dict[str, object], size: tuple[int, int], cut: tuple[int, int]) -> None:
    body = Extras.model_validate({"image": "", **fields})
    assert find_target(body, (64, 32), 100_000) == Target(size=size, cut=cut)


def test_too_large_a_target_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="upscaling_resize: got 1,024 x 1,024"):
        find_target(Extras(image="", upscaling_resize=16), (64, 64), 1_000_000)


@pytest.mark.parametrize(("upscaler", "size"), [("None", (64, 64)), ("Lanczos", (128, 128)), ("Nearest", (128, 128))])
def test_without_a_model(upscaler: str, size: tuple[int, int]) -> None:
    enlarged = Image.open(io.BytesIO(resize_alone(png(picture()), Extras(image="", upscaler_1=upscaler), 100_000)))
    assert (enlarged.size, enlarged.mode) == (size, "RGB")
    if upscaler == "Nearest":
        assert enlarged.getcolors() == [(count * 4, colour) for count, colour in picture().getcolors() or []]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"upscaler_1": "R-ESRGAN 4x+"}, "upscaler_1: got 'R-ESRGAN 4x.'; expected one of None, Lanczos, Nearest, toyworld-upscaler"),
        ({"upscaler_1": "toyworld"}, "upscaler_1"),
        ({"upscaler_2": "Lanczos", "extras_upscaler_2_visibility": 0.5}, "upscaler_2"),
        ({"gfpgan_visibility": 1}, "gfpgan_visibility"),
        ({"codeformer_visibility": 0.1}, "codeformer_visibility"),
    ],
)
def test_what_cannot_be_done_is_refused(fields: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        check_extras(Extras.model_validate({"image": "", **fields}), MODELS)
    check_extras(Extras(image="", upscaler_1="toyworld-upscaler", upscaler_2="Lanczos"), MODELS)


def test_a_resized_picture_keeps_the_web_uis_text_alone() -> None:
    chunks = PngInfo()
    chunks.add_text("parameters", "a cube\nSteps: 4, Seed: 1, Size: 16x16")
    chunks.add_text("sd2rt", "{}")
    stream = io.BytesIO()
    picture().save(stream, "PNG", pnginfo=chunks)
    painted = stream.getvalue()
    assert resize_painted(painted, Target(size=(64, 64), cut=(64, 64))) == painted
    smaller = resize_painted(painted, Target(size=(32, 32), cut=(32, 16)))
    image = Image.open(io.BytesIO(smaller))
    assert (image.size, set(image.info)) == ((32, 16), {"parameters"})
    info = read_png_info(smaller, 10_000)
    assert info.parameters["Postprocess size"] == "32x16"
    assert (info.parameters["Prompt"], info.parameters["Size-1"], info.parameters["Size-2"]) == ("a cube", "16", "16")


def test_png_info_of_a_picture_that_says_nothing() -> None:
    assert read_png_info(png(picture()), 10_000) == PngInfoReply(info="", items={}, parameters={})


def test_png_info_refuses() -> None:
    with pytest.raises(InvalidArgument, match="image: got 64 x 64 pixels; expected at most 4,095"):
        read_png_info(png(picture()), 4095)
    with pytest.raises(InvalidArgument, match="image: got a damaged file"):
        read_png_info(png(picture())[:-60], 10_000)
