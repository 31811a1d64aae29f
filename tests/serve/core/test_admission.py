"""What an order may ask for, and that nothing large is decoded before that is known."""

from __future__ import annotations

import io
import shutil
import struct
import time
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sd2rt.engine.errors import InvalidArgument
from sd2rt.serve.admission import admit, check_limits
from sd2rt.serve.offers import Offer, name_models, read_offers
from sd2rt.serve.order import Order
from sd2rt.serve.resolve_order import upload_sizes
from sd2rt.serve.settings import Limits, ServeSettings
from tests.runtime.bundles import write_bundle

LIMITS = Limits()


@pytest.fixture(scope="module")
def offers() -> dict[str, Offer]:
    return read_offers(ServeSettings())


def test_offers_tell_which_models_estimate_depth(tmp_path: Path) -> None:
    def add_estimator(document: dict[str, Any]) -> None:
        shutil.copytree(tmp_path / "estimates" / "unet", tmp_path / "estimates" / "depth_estimator")
        document.update(task="depth-to-image")
        document["components"]["depth_estimator"] = document["components"]["unet"]

    write_bundle(tmp_path / "estimates", add_estimator)
    models = read_offers(ServeSettings(models=(str(tmp_path / "estimates"), "toyworld-depth", "toyworld")))
    assert {name: offer.model.estimates_depth for name, offer in models.items()} == {
        "estimates": True,
        "toyworld-depth": False,
        "toyworld": False,
    }


def png(width: int = 64, height: int = 64, mode: str = "RGB") -> bytes:
    stream = io.BytesIO()
    Image.new(mode, (width, height)).save(stream, "PNG")
    return stream.getvalue()


def claimed(width: int, height: int) -> bytes:
    """A PNG that says how large it is, and holds nothing."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    checked = struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))
    return b"\x89PNG\r\n\x1a\n" + checked + struct.pack(">I", 9) + b"IDAT" + b"x" * 9


def order(model: str = "toyworld", pictures: dict[str, bytes] | None = None, **options: Any) -> Order:
    return Order(model=model, options={"prompt": "a", **options}, pictures=pictures or {})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"nonsense": 1}, "nonsense: got it, but there is no such option"),
        ({"latents": []}, "latents: got it, but"),
        ({"output": "numpy"}, "output: got it, but"),
        ({"image": "/etc/passwd"}, "image: got it, but"),
        ({"prompt": []}, "prompt: got"),
        ({"prompt": 5}, "prompt: got"),
        ({"prompt": "a" * 8193}, "prompt: got 8,193 characters"),
        ({"negative_prompt": "a" * 8193}, "negative_prompt: got 8,193 characters"),
        ({"images_per_prompt": 9}, "images_per_prompt: got '9'; expected an integer from 1 to 8"),
        ({"images_per_prompt": 3, "prompt": ["a", "b", "c"]}, "got 9 pictures of 3 prompts; expected at most 8"),
        ({"steps": 151}, "steps: got '151'; expected an integer from 1 to 150"),
        ({"steps": "20"}, "steps: got '20'"),
        ({"width": 136, "height": 128}, "width and height: got 136 x 128 pixels"),
        ({"width": 8192}, "width and height: got 8,192 x"),
    ],
)
def test_orders_beyond_a_limit_are_refused(offers: dict[str, Offer], options: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidArgument, match=said.replace("(", "\\(")):
        check_limits(order(**options), offers["toyworld"].bundle, LIMITS)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"previews": 151}, "previews: got '151'"),
        ({"quality": 0}, "quality: got '0'"),
        ({"format": "gif"}, "format: got 'gif'; expected one of png, jpeg, webp"),
        ({"pictures": {"secret": b""}}, "secret: got it, but"),
        ({"pictures": {"image": b"GIF89a"}}, "image: got 6 bytes that are no picture; expected a file of PNG, JPEG, WEBP"),
        ({"pictures": {"image": claimed(20_000, 20_000)}}, "image: got a picture of more pixels than any"),
        ({"pictures": {"image": claimed(4097, 4097)}}, "expected at most 16,777,216 of them, such as 4,096 x 4,096"),
        ({"pictures": {"image": claimed(60_000, 60_000)}}, "image: got"),
    ],
)
def test_files_beyond_a_limit_are_refused(offers: dict[str, Offer], changed: dict[str, Any], said: str) -> None:
    began = time.thread_time()
    with pytest.raises(InvalidArgument, match=said):
        check_limits(replace(order(), **changed), offers["toyworld"].bundle, LIMITS)
    assert time.thread_time() - began < 1.0


@pytest.mark.parametrize(
    ("model", "pictures", "options", "said"),
    [
        ("toyworld", {"image": png()}, {"width": 256}, "width and height: got 256 x 256"),
        ("toyworld", {"image": png()}, {"expand": [5000, 0, 0, 5000]}, "expand: got 5,064 x 5,064 pixels"),
        ("toyworld-upscaler", {"image": png(300, 256)}, {}, "image: got 300 x 256 pixels .*; expected at most 65,536 of them, such as 256"),
    ],
)
def test_what_would_be_painted_too_large_is_refused(
    offers: dict[str, Offer], model: str, pictures: dict[str, bytes], options: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidArgument, match=said):
        check_limits(order(model, pictures, **options), offers[model].bundle, LIMITS)


def test_shorter_prompts_may_be_asked_for(offers: dict[str, Offer]) -> None:
    for options in ({"prompt": "a" * 11}, {"negative_prompt": ["a" * 11]}):
        with pytest.raises(InvalidArgument, match="prompt: got 11 characters; expected at most 10"):
            check_limits(order(**options), offers["toyworld"].bundle, Limits(prompt_characters=10))


def test_lower_limits_count_for_a_pictures_own_size(offers: dict[str, Offer]) -> None:
    large = order(pictures={"image": png(128, 128)}, seed=1)
    assert admit(large, offers["toyworld"], LIMITS).width == 128
    with pytest.raises(InvalidArgument, match="width and height: got 128 x 128"):
        admit(large, offers["toyworld"], Limits(native_squares=1.0))


def test_what_is_admitted_says_what_it_comes_to(offers: dict[str, Offer]) -> None:
    admitted = admit(order(images_per_prompt=2, variation_strength=0.5, steps=6), offers["toyworld"], LIMITS)
    assert admitted.seeds[0] == admitted.seeds[1] == admitted.order.options["seed"]
    assert admitted.order.options["variation_seed"] != admitted.order.options["seed"]
    assert (admitted.width, admitted.height, admitted.steps, admitted.total_steps) == (64, 64, 6, 6)
    masked = admit(order(pictures={"image": png(60, 50)}, strength=0.5, steps=6, expand=[8, 0, 0, 0]), offers["toyworld"], LIMITS)
    assert (masked.width, masked.height, masked.total_steps) == (68, 50, 3)
    assert masked.key is not None


def test_seeds_that_are_said_stay(offers: dict[str, Offer]) -> None:
    assert admit(order(seed=0), offers["toyworld"], LIMITS).seeds == (0,)
    drawn = {admit(order(), offers["toyworld"], LIMITS).seeds for _ in range(4)}
    assert len(drawn) == 4


def test_keys_are_a_models_own(offers: dict[str, Offer]) -> None:
    one, other = (admit(order(seed=seed), offers["toyworld"], LIMITS) for seed in (1, 2))
    renamed = admit(replace(order(), model="other"), offers["toyworld"], LIMITS)
    assert one.key == other.key != renamed.key


def test_damaged_files_are_refused_and_told_of_without_an_address(offers: dict[str, Offer]) -> None:
    with pytest.raises(InvalidArgument, match="image: got a damaged file") as refused:
        admit(order(pictures={"image": png()[:60]}), offers["toyworld"], LIMITS)
    assert "0x" not in str(refused.value)


def test_prompts_too_long_for_a_jpeg_are_told_before_painting(offers: dict[str, Offer]) -> None:
    long = replace(order(prompt="\U0001f534" * 8192, negative_prompt="\U0001f534" * 8192), format="jpeg")
    with pytest.raises(InvalidArgument, match="too long for a JPEG"):
        admit(long, offers["toyworld"], LIMITS)
    assert admit(replace(long, metadata=False), offers["toyworld"], LIMITS).seeds


def test_sizes_are_those_of_upright_pictures() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    files = {}
    for name in ("jpeg", "png", "webp"):
        stream = io.BytesIO()
        Image.new("RGB", (40, 30)).save(stream, name, exif=exif)
        files[name] = stream.getvalue()
    assert set(upload_sizes(files).values()) == {(40, 30)}
    assert upload_sizes({"image": png(40, 30)}) == {"image": (30, 40)}


def test_names_are_no_paths() -> None:
    models = {"toyworld": "toyworld", "sd21": "/data/models/sd21/", "y": "x/y.json"}
    assert name_models(list(models.values())) == models
    with pytest.raises(InvalidArgument, match="both called 'sd21'"):
        name_models(["a/sd21", "b/sd21"])
    with pytest.raises(InvalidArgument, match="got none"):
        name_models([])
