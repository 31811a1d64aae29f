"""A record as JSON and as the arguments of the call that paints it again."""

import json
from dataclasses import replace
from typing import Any

import pytest

from sd2rt.engine.errors import InvalidArgument
from sd2rt.runtime.options import Request
from sd2rt.runtime.parameters import Parameters, call_options, json_text, read_json, version
from tests.runtime.records import PARAMETERS

UPSCALED = replace(PARAMETERS, task="upscaling", noise_level=0, width=256, height=192, model="x4", image_sha256=None)
FULL = replace(
    PARAMETERS,
    prompt='ein Würfel 🟥\n"x", y: z',
    guidance_interval=(0.25, 0.8),
    variation_seed=2**63 - 1,
    variation_strength=0.1,
    rng="nv",
    expand=(1, 2, 3, 4),
    strength=1 / 3,
    paste=True,
    quality=80,
    upscaler=UPSCALED,
)


def test_json_text_holds_everything() -> None:
    document = json.loads(json_text(replace(PARAMETERS, prompt="ein Würfel 🟥", upscaler=UPSCALED)))
    assert document["prompt"] == "ein Würfel 🟥"
    assert (document["sampler"], document["sigmas"], document["seed"], document["given_latents"]) == ("dpm++ 2m", "karras", 7, False)
    assert document["upscaler"]["width"] == 256
    assert document["version"] == version()


@pytest.mark.parametrize("parameters", [PARAMETERS, FULL])
def test_json_comes_back(parameters: Parameters) -> None:
    assert read_json(json_text(parameters)) == (parameters, ())


def test_names_of_a_newer_version_are_told_and_older_ones_filled_in() -> None:
    document = json.loads(json_text(PARAMETERS)) | {"style": "x", "frames": 3}
    for name in ("rng", "variation_seed", "variation_strength", "quality", "clip_skip", "weighting"):  # what 0.1.0 did not have
        del document[name]
    assert read_json(json.dumps(document)) == (replace(PARAMETERS, weighting=False), ("frames", "style"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "record is damaged (Expecting"),
        ("[1]", "record is damaged (a list); expected a JSON object"),
        ("{}", "record is incomplete"),
        (json_text(PARAMETERS).replace('"seed": 7', '"seed": "7"'), 'seed: got "7"; expected int'),
        (json_text(PARAMETERS).replace('"seed": 7', '"seed": true'), "seed: got true; expected int"),
        (json_text(PARAMETERS).replace('"steps": 20', '"steps": null'), "steps: got null; expected int"),
        (json_text(PARAMETERS).replace('"tile": 0', '"tile": 0.5'), "tile: got 0.5; expected int"),
        (json_text(PARAMETERS).replace('"guidance_scale": 7.5', '"guidance_scale": true'), "guidance_scale: got true; expected float"),
        (json_text(PARAMETERS).replace("[0.0, 1.0]", "[0.0]"), "guidance_interval: got [0.0]; expected tuple[float, float]"),
        (json_text(PARAMETERS).replace("[0.0, 1.0]", '[0.0, "1"]'), "guidance_interval"),
        (json_text(PARAMETERS).replace('"expand": null', '"expand": {}'), "expand: got {}; expected tuple[int, int, int, int] | None"),
        (json_text(PARAMETERS).replace('"upscaler": null', '"upscaler": 4'), "upscaler: got 4; expected Parameters | None"),
        (json_text(PARAMETERS).replace('"upscaler": null', '"upscaler": {}'), "record is incomplete"),
    ],
)
def test_a_damaged_record_is_refused(text: str, words: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        read_json(text)
    assert words in str(caught.value)


def test_options_of_words_alone() -> None:
    options = call_options(replace(PARAMETERS, rng="nv", variation_seed=3, variation_strength=0.5, tile=512, deep_cache=2), 8)
    request = Request(**options)
    assert (request.prompt, request.negative_prompt, request.sampler, request.seed) == (
        "a large red sphere",
        "blurry, dark",
        "dpm++ 2m karras",
        7,
    )
    assert (request.width, request.height, request.rng, request.variation_seed, request.variation_strength) == (64, 48, "nv", 3, 0.5)
    assert (request.tile, request.deep_cache, request.strength, request.paste, request.noise_level) == (512, 2, None, None, None)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"task": "image-to-image", "strength": 0.5}, {"strength": 0.5, "width": 64, "height": 48}),
        ({"task": "inpainting", "strength": 1.0, "width": 63, "paste": True}, {"strength": 1.0, "height": 48, "paste": True}),
        ({"task": "inpainting", "strength": 1.0, "width": 63, "height": 41}, {"strength": 1.0, "paste": False}),
        ({"task": "depth-to-image"}, {"width": 64, "height": 48}),
        ({"task": "upscaling", "noise_level": 0}, {"noise_level": 0}),
    ],
)
def test_options_of_pictures_that_began_from_one(changes: dict[str, Any], expected: dict[str, Any]) -> None:
    of_pictures = ("strength", "width", "height", "paste", "noise_level")
    options = call_options(replace(PARAMETERS, **changes), 8)
    assert {name: value for name, value in options.items() if name in of_pictures} == expected


def test_noise_that_no_record_holds_is_told() -> None:
    with pytest.raises(InvalidArgument, match="noise that its caller gave, which its file does not hold; give latents again"):
        call_options(replace(PARAMETERS, given_latents=True), 8)


def test_an_upscaler_is_followed_by_none() -> None:
    document = json.loads(json_text(FULL))
    document["upscaler"]["upscaler"] = dict(document["upscaler"])
    assert read_json(json.dumps(document))[0] == FULL


def test_a_record_nested_too_deep_is_damaged() -> None:
    with pytest.raises(InvalidArgument, match="record is damaged"):
        read_json("[" * 100_000)
