"""From requests of the web UI's clients to orders: no server, no model."""

from __future__ import annotations

import base64
import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from sd2rt.engine.errors import InvalidArgument
from sd2rt.runtime.samplers_names import parse_sampler
from sd2rt.serve.a1111_bodies import ImageToImage, Overrides, TextToImage
from sd2rt.serve.a1111_models import find_model, list_models, list_upscalers
from sd2rt.serve.a1111_orders import image_order, text_order
from sd2rt.serve.a1111_resize import crop, fill
from sd2rt.serve.a1111_samplers import list_samplers, list_schedules, read_sampler, web_ui_name
from sd2rt.serve.errors import UnknownModel
from sd2rt.serve.offers import read_offers
from sd2rt.serve.settings import ServeSettings
from tests.serve.pictures import black_mask, picture, png, text, white_mask

MODELS = tuple(offer.model for offer in read_offers(ServeSettings()).values())
NOTHING = Overrides()
MOST = 100_000


def test_an_empty_request_leaves_all_to_the_model() -> None:
    asked = text_order(TextToImage(), NOTHING, MODELS)
    assert asked.order.model == "toyworld"
    assert asked.order.options == {"prompt": "", "negative_prompt": "", "images_per_prompt": 1, "rng": "torch"}
    assert asked.notes == ()


def test_every_field_arrives() -> None:
    body = TextToImage.model_validate(
        {
            "prompt": "a cube",
            "negative_prompt": "red",
            "seed": 5,
            "subseed": 9,
            "subseed_strength": 0.25,
            "steps": 6,
            "cfg_scale": 3.5,
            "width": 101,
            "height": 64,
            "sampler_name": "DPM++ 2M",
            "scheduler": "Karras",
            "batch_size": 2,
            "n_iter": 3,
            "override_settings": {"sd_model_checkpoint": "toyworld-depth", "CLIP_stop_at_last_layers": 2, "randn_source": "NV", "eta": 1},
            "save_images": True,
            "restore_faces": True,
            "tiling": True,
            "s_churn": 0.5,
            "no_such_field": {"ignored": True},
        }
    )
    asked = text_order(body, NOTHING, MODELS)
    assert asked.order.model == "toyworld-depth"
    assert asked.order.options == {
        "prompt": "a cube",
        "negative_prompt": "red",
        "images_per_prompt": 6,
        "rng": "nv",
        "steps": 6,
        "guidance_scale": 3.5,
        "sampler": "dpm++ 2m karras",
        "seed": 5,
        "variation_seed": 9,
        "variation_strength": 0.25,
        "clip_skip": 2,
        "width": 96,
        "height": 64,
    }
    assert asked.notes == ("restore_faces: not done by this server", "tiling: not done by this server")


def test_numbers_may_be_strings_and_flags_numbers() -> None:
    body = TextToImage.model_validate({"steps": "6", "width": 64.0, "cfg_scale": "3.5", "tiling": 1})
    assert (body.steps, body.width, body.cfg_scale, body.tiling) == (6, 64, 3.5, True)


def test_minus_one_is_a_random_seed() -> None:
    options = text_order(TextToImage(seed=-1, subseed=-1, subseed_strength=0.5), NOTHING, MODELS).order.options
    assert "seed" not in options
    assert "variation_seed" not in options
    assert options["variation_strength"] == 0.5


def test_null_means_left_out() -> None:
    for kind, order in ((TextToImage, text_order), (ImageToImage, lambda *given: image_order(*given, MOST))):
        sent = {"init_images": [text(picture())]}
        nothing = dict.fromkeys(name for name in kind.model_fields if name != "init_images")
        assert order(kind(**nothing, **sent), NOTHING, MODELS) == order(kind(**sent), NOTHING, MODELS)


def test_only_masked_is_a_part_at_the_models_size() -> None:
    body = ImageToImage(init_images=[text(picture().resize((256, 128)))], mask=text(white_mask()), mask_blur=0)
    asked = image_order(body, NOTHING, MODELS, MOST)
    assert asked.region is not None
    assert asked.order.options | {"width": 64, "height": 64} == asked.order.options
    assert not {"mask_blur", "invert", "paste"} & set(asked.order.options)
    assert asked.notes == ()
    part = Image.open(io.BytesIO(asked.order.pictures["image"]))
    left, top, right, bottom = asked.region.box
    assert part.size == (right - left, bottom - top) == (128, 128)


def test_a_clients_options_count_unless_the_request_says_otherwise() -> None:
    options = Overrides(sd_model_checkpoint="toyworld-depth", CLIP_stop_at_last_layers=2, randn_source="GPU")
    order = text_order(TextToImage(), options, MODELS).order
    assert (order.model, order.options["clip_skip"], order.options["rng"]) == ("toyworld-depth", 2, "nv")
    said = Overrides(sd_model_checkpoint="toyworld", CLIP_stop_at_last_layers=1, randn_source="CPU")
    order = text_order(TextToImage(override_settings=said), options, MODELS).order
    assert (order.model, order.options["rng"]) == ("toyworld", "torch")
    assert "clip_skip" not in order.options


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"enable_hr": True}, "enable_hr: got true"),
        ({"script_name": "x/y/z plot"}, "script_name: got 'x/y/z plot'"),
        ({"alwayson_scripts": {"ControlNet": {"args": [{"enabled": True}]}}}, "alwayson_scripts: got 'ControlNet'"),
        ({"alwayson_scripts": {"ADetailer": [True]}}, "alwayson_scripts: got 'ADetailer'"),
        ({"width": -8, "height": -100}, "width: got -8; expected at least 1"),
        ({"height": 0}, "height: got 0; expected at least 1"),
        ({"sampler_name": "Restart"}, "sampler_name: unknown sampler"),
        ({"scheduler": "SGM Uniform"}, "scheduler: got 'sgm uniform'"),
        ({"override_settings": {"randn_source": "dice"}}, "randn_source: got 'dice'"),
        ({"override_settings": {"sd_model_checkpoint": "v1-5"}}, "sd_model_checkpoint: got 'v1-5'"),
    ],
)
def test_what_cannot_be_done_is_refused(fields: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        text_order(TextToImage.model_validate(fields), NOTHING, MODELS)


def test_scripts_that_are_off_are_accepted() -> None:
    scripts = {"ADetailer": {"args": [False]}, "ControlNet": {"args": []}, "Dynamic Thresholding": {}, "Other": {"args": {"on": False}}}
    scripts["Forge"] = {"args": [{"enabled": False, "weight": 1.0}]}
    assert text_order(TextToImage(alwayson_scripts=scripts), NOTHING, MODELS) == text_order(TextToImage(), NOTHING, MODELS)


def test_img2img_without_a_mask() -> None:
    body = ImageToImage(init_images=[text(picture())], prompt="x", width=64, height=96)
    asked = image_order(body, NOTHING, MODELS, MOST)
    assert (asked.order.model, asked.notes) == ("toyworld", ())
    assert asked.order.options["strength"] == 0.75
    assert (asked.order.options["width"], asked.order.options["height"]) == (64, 96)
    assert dict(asked.order.pictures) == {"image": png(picture())}
    assert not {"mask_blur", "invert", "paste"} & set(asked.order.options)


@pytest.mark.parametrize(
    ("asked", "steps", "strength"),
    [
        (0, 15, 0.067),
        (0.05, 15, 0.067),
        (0.07, 15, 0.07),
        (0.02, None, 0.04),
        (0.5, 1, 1.0),
        (1, 1, 1),
        (2, 15, 2),
        (-0.1, 15, -0.1),
        (0, 0, 0),
        (0, -3, 0),
        (0.5, 10**400, 0.5),
    ],
)
def test_a_strength_too_small_for_one_step_is_raised(asked: float, steps: int | None, strength: float) -> None:
    """What no step count or strength may be is left as it is, and refused later."""
    model = replace(MODELS[0], steps=25)
    body = ImageToImage(init_images=[text(picture())], denoising_strength=asked, steps=steps)
    assert image_order(body, NOTHING, (model,), MOST).order.options["strength"] == strength


def test_img2img_with_a_mask() -> None:
    picture_url = f"data:image/png;base64,{text(picture())}"
    body = ImageToImage(init_images=[picture_url], mask=text(black_mask()), inpainting_mask_invert=1, inpainting_fill=0)
    body = body.model_copy(update={"inpaint_full_res": False})
    asked = image_order(body, NOTHING, MODELS, MOST)
    assert asked.order.model == "toyworld-inpainting"
    assert asked.order.options | {"mask_blur": 4.0, "invert": True, "paste": True, "strength": 0.75} == asked.order.options
    assert dict(asked.order.pictures) == {"image": png(picture()), "mask": png(black_mask())}
    assert (asked.notes, asked.region) == (("inpainting_fill: not done by this server",), None)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "init_images: got 0 pictures"),
        ({"init_images": [text(picture())] * 2}, "init_images: got 2 pictures"),
        ({"init_images": ["http://127.0.0.1/x.png"]}, "init_images: got an address"),
        ({"init_images": ["%%%"]}, "init_images: got what is no base64"),
        ({"init_images": [text(picture())], "mask": "https://x/y"}, "mask: got an address"),
        ({"init_images": [text(picture())], "width": 64, "height": 96, "resize_mode": 3}, "resize_mode: got 3"),
        ({"init_images": [text(picture())], "width": 10**9, "height": 10**9, "resize_mode": 1}, "width and height: got 1,000,000,000"),
        ({"init_images": [base64.b64encode(b"none").decode()], "width": 64, "height": 96, "resize_mode": 1}, "image: got 4 bytes"),
    ],
)
def test_bad_img2img(fields: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        image_order(ImageToImage.model_validate(fields), NOTHING, MODELS, MOST)


@pytest.mark.parametrize("mode", [1, 2])
def test_cropping_and_filling_change_pictures_of_another_shape_alone(mode: int) -> None:
    body = ImageToImage(init_images=[text(picture())], mask=text(white_mask()), resize_mode=mode, width=128, height=128)
    body = body.model_copy(update={"inpaint_full_res": False})
    assert image_order(body, NOTHING, MODELS, MOST).order.pictures["image"] == png(picture())
    wide = image_order(body.model_copy(update={"height": 64}), NOTHING, MODELS, MOST).order.pictures
    assert [Image.open(io.BytesIO(wide[name])).size for name in ("image", "mask")] == [(128, 64)] * 2


def test_cropping_covers_and_filling_goes_on() -> None:
    stripes = (
        Image.fromarray(np.repeat(np.array([[10], [200]], np.uint8), 2, axis=1)).convert("RGB").resize((8, 8), Image.Resampling.NEAREST)
    )
    assert set(np.asarray(crop(stripes, (8, 2)))[:, :, 0].ravel()) <= set(range(256))
    assert crop(stripes, (8, 4)).size == (8, 4)
    filled = np.asarray(fill(stripes, (8, 16)))[:, :, 0]
    assert filled.shape == (16, 8)
    assert (filled[:4] == filled[4]).all()
    assert (filled[12:] == filled[11]).all()


@pytest.mark.parametrize(
    ("name", "schedule", "sampler"),
    [
        ("DPM++ 2M Karras", None, "dpm++ 2m karras"),
        ("DPM++ 2M Karras", "Uniform", "dpm++ 2m karras"),
        ("DPM++ 2M", "Karras", "dpm++ 2m karras"),
        ("DPM++ 2M", "karras", "dpm++ 2m karras"),
        ("DPM++ 2M", None, "dpm++ 2m karras"),
        ("DPM++ 2M", "Automatic", "dpm++ 2m karras"),
        ("DPM++ 2M", "Uniform", "dpm++ 2m"),
        ("DPM++ 2M SDE", None, "dpm++ 2m sde exponential"),
        ("Euler a", None, "euler a"),
        ("Euler a", "Exponential", "euler a exponential"),
        ("k_euler_ancestral", None, "euler a"),
        ("DDIM", "Karras", "ddim"),
        ("PLMS", None, "pndm"),
        ("Automatic", None, None),
        (None, "Karras", None),
        ("", "", None),
    ],
)
def test_sampler_names(name: str | None, schedule: str | None, sampler: str | None) -> None:
    assert read_sampler(name, schedule) == sampler


def test_every_sampler_that_is_listed_is_understood() -> None:
    for listed in list_samplers():
        solver = parse_sampler(listed["name"]).solver
        for alias in listed["aliases"]:
            assert parse_sampler(alias).solver == solver
        for schedule in list_schedules():
            for word in (schedule["name"], schedule["label"]):
                assert parse_sampler(read_sampler(listed["name"], word) or "").solver == solver
    assert web_ui_name("dpm++ 2m", "karras") == "DPM++ 2M Karras"


def test_models_are_found_by_all_their_names() -> None:
    for listed in list_models(MODELS):
        names = (listed["title"], listed["model_name"], listed["hash"], listed["sha256"], f"{listed['model_name']}.safetensors")
        assert {find_model(MODELS, name) for name in names} == {listed["model_name"]}
        assert "/" not in listed["filename"]
    with pytest.raises(UnknownModel, match="expected one of toyworld, "):
        find_model(MODELS, "../toyworld")
    assert [listed["name"] for listed in list_upscalers(MODELS)] == ["None", "Lanczos", "Nearest", "toyworld-upscaler"]
