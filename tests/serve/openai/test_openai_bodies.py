"""From the fields of OpenAI's images API to orders: no server, no model."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from sd2rt.engine.errors import InvalidArgument
from sd2rt.serve.errors import UnknownModel
from sd2rt.serve.model_choice import FOR_MASK, FOR_PICTURE, FOR_TEXT, choose_model
from sd2rt.serve.offers import read_offers
from sd2rt.serve.openai_bodies import Edit, Generation, order_of, read_size
from sd2rt.serve.settings import ServeSettings

MODELS = tuple(offer.model for offer in read_offers(ServeSettings()).values())
DEPTH_AND_INPAINTING = tuple(offer.model for offer in read_offers(ServeSettings(models=("toyworld-depth", "toyworld-inpainting"))).values())


def test_a_prompt_alone_is_an_order() -> None:
    order = order_of(Generation(prompt="a cube"), MODELS, {})
    assert order.model == "toyworld"
    assert order.options == {"prompt": "a cube", "images_per_prompt": 1, "speed": "quality"}
    assert (order.format, order.quality, order.previews, order.metadata) == ("png", 90, 0, True)


def test_every_field_arrives() -> None:
    body = Generation(
        prompt="a cube",
        model="toyworld-depth",
        n=3,
        size="96x64",
        quality="low",
        output_format="webp",
        output_compression=0,
        partial_images=3,
        stream=True,
        background="opaque",
        moderation="low",
        style="vivid",
        user="me",
        negative_prompt="red",
        seed=0,
        steps=9,
        guidance_scale=1.5,
        sampler="ddim",
    )
    order = order_of(body, MODELS, {})
    assert order.options == {
        "prompt": "a cube",
        "negative_prompt": "red",
        "seed": 0,
        "steps": 9,
        "guidance_scale": 1.5,
        "sampler": "ddim",
        "images_per_prompt": 3,
        "speed": "fast",
        "width": 96,
        "height": 64,
    }
    assert (order.model, order.format, order.quality, order.previews) == ("toyworld-depth", "webp", 1, 3)
    assert (body.identifier, Generation(prompt="", user="me", safety_identifier="you").identifier) == ("me", "you")


def test_previews_are_for_streams_alone() -> None:
    assert order_of(Generation(prompt="", partial_images=0), MODELS, {}).previews == 0
    with pytest.raises(InvalidArgument, match="partial_images: got some without stream"):
        order_of(Generation(prompt="", partial_images=1), MODELS, {})


def test_null_means_left_out() -> None:
    fields = dict.fromkeys(name for name in Generation.model_fields if name != "prompt")
    assert order_of(Generation(prompt="x", **fields), MODELS, {}) == order_of(Generation(prompt="x"), MODELS, {})


def test_edits_paint_by_the_model_for_it() -> None:
    masked = order_of(Edit(prompt="x"), MODELS, {"image": b"i", "mask": b"m"})
    assert (masked.model, masked.options["paste"], dict(masked.pictures)) == ("toyworld-inpainting", True, {"image": b"i", "mask": b"m"})
    plain = order_of(Edit(prompt="x", strength=0.25), MODELS, {"image": b"i"})
    assert (plain.model, plain.options["strength"]) == ("toyworld", 0.25)
    assert "paste" not in plain.options
    assert order_of(Edit(prompt="x", model="toyworld"), MODELS, {"image": b"i", "mask": b"m"}).model == "toyworld"


def test_the_best_model_for_a_task_is_chosen() -> None:
    assert choose_model(MODELS, FOR_TEXT) == "toyworld"
    assert choose_model(DEPTH_AND_INPAINTING, FOR_PICTURE) == "toyworld-depth"
    assert choose_model(DEPTH_AND_INPAINTING, FOR_MASK) == "toyworld-inpainting"
    with pytest.raises(UnknownModel, match="none is offered for text-to-image"):
        choose_model(DEPTH_AND_INPAINTING, FOR_TEXT)


@pytest.mark.parametrize("size", ["512", "x512", "512x", "1e2x64", "-64x64", "64X64", "٦٤x٦٤", "64x64 ", "123456x64"])
def test_sizes_that_are_none(size: str) -> None:
    with pytest.raises(InvalidArgument, match="size: got"):
        read_size(size)


def test_sizes() -> None:
    assert read_size(None) == read_size("auto") == {}
    assert read_size("64x128") == {"width": 64, "height": 128}


def test_unknown_fields_are_refused() -> None:
    with pytest.raises(ValidationError, match="extra_forbidden"):
        Generation(prompt="x", guidance=4)  # type: ignore[call-arg]


def test_bodies_in_json_are_taken_by_their_types() -> None:
    with pytest.raises(ValidationError, match="int_type"):
        Generation(prompt="x", n="2")  # type: ignore[arg-type]
    assert Edit(prompt="x", n="2").n == 2  # type: ignore[arg-type]
    assert Generation(prompt="x", guidance_scale=4).guidance_scale == 4.0
