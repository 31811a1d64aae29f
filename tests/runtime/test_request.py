"""Calls to jobs: defaults from the bundle, and one clear error for each bad value."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sd2rt.engine.errors import InvalidArgument
from sd2rt.runtime.bundle import Bundle, read_bundle
from sd2rt.runtime.options import Request
from sd2rt.runtime.request import Job, resolve
from sd2rt.runtime.samplers import SamplerName
from tests.runtime.bundles import write_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return read_bundle(write_bundle(tmp_path_factory.mktemp("request") / "small"))


def _resolve(bundle: Bundle, **options: Any) -> Job:
    return resolve(Request(**{"prompt": "a", **options}), bundle)


def test_defaults_are_the_bundles(bundle: Bundle) -> None:
    job = _resolve(bundle)
    assert (job.height, job.width, job.steps, job.guidance_scale, job.guidance_rescale) == (64, 48, 3, 7.5, 0.0)
    assert job.sampler == SamplerName(solver="ddim")
    assert (job.prompts, job.negative_prompts, job.seeds, job.latents, job.output) == (("a",), ("",), (0,), None, "pil")


def test_what_the_caller_says_holds(bundle: Bundle) -> None:
    job = _resolve(bundle, steps=np.int64(7), guidance_scale=0, sampler="DPM++ 2M Karras", seed=2**63 - 1, width=8, height=8192)
    assert (job.steps, job.guidance_scale, job.seeds, job.width, job.height) == (7, 0.0, (2**63 - 1,), 8, 8192)
    assert job.sampler == SamplerName(solver="dpm++ 2m", sigmas="karras")


def test_several_prompts_and_images_come_prompt_by_prompt(bundle: Bundle) -> None:
    job = _resolve(bundle, prompt=["a", "b"], negative_prompt=["x", "y"], images_per_prompt=2, seed=5)
    assert job.prompts == ("a", "a", "b", "b")
    assert job.negative_prompts == ("x", "x", "y", "y")
    assert job.seeds == (5, 6, 7, 8)
    assert _resolve(bundle, prompt=["a", "b"], negative_prompt="x").negative_prompts == ("x", "x")


def test_given_latents_decide_the_size(bundle: Bundle) -> None:
    latents = np.zeros((1, 4, 3, 5))
    job = _resolve(bundle, latents=latents)
    assert (job.height, job.width) == (24, 40)
    assert job.latents is not None
    assert job.latents.dtype == np.float32
    assert _resolve(bundle, latents=latents, width=40).width == 40


def test_a_traced_unet_takes_multiples_of_its_own(bundle: Bundle) -> None:
    traced = replace(bundle, native_size=(512, 512), traced_multiple=64)
    assert _resolve(traced, width=576).width == 576
    with pytest.raises(InvalidArgument, match="width: got 600; expected a multiple of 64 up to 8192; nearest: 576 or 640"):
        _resolve(traced, width=600)
    assert _resolve(traced, latents=np.zeros((1, 4, 8, 16))).width == 128
    with pytest.raises(InvalidArgument, match="height: got 72; expected a multiple of 64"):
        _resolve(traced, latents=np.zeros((1, 4, 9, 16)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt": []}, r"prompt: got '\[\]'; expected a text or a list"),
        ({"prompt": 3}, "prompt: got '3'; expected a text"),
        ({"prompt": ["a", None]}, "prompt: got .*; expected a text"),
        ({"images_per_prompt": 10**9}, "images_per_prompt: got '1000000000'; expected an integer from 1 to 256"),
        ({"prompt": ["a"] * 100, "images_per_prompt": 3}, "got 100 prompts of 3 images; expected at most 256 images"),
        ({"sampler": "lcm", "steps": 60}, "60"),
        ({"prompt": "x" * 8193}, "prompt: got 8,193 characters"),
        ({"negative_prompt": ["x", "y"]}, "negative_prompt: got 2 texts for 1 prompts"),
        ({"negative_prompt": "x" * 8193}, "negative_prompt: got 8,193 characters"),
        ({"steps": 0}, "steps: got '0'; expected an integer from 1 to 1000"),
        ({"steps": 10**9}, "steps: got '1000000000'; expected an integer from 1 to 1000"),
        ({"steps": 2.5}, "steps: got '2.5'; expected an integer"),
        ({"steps": True}, "steps: got 'True'"),
        ({"guidance_scale": float("nan")}, "guidance_scale: got 'nan'; expected a finite number"),
        ({"guidance_scale": float("inf")}, "guidance_scale: got 'inf'"),
        ({"guidance_scale": 10**400}, "guidance_scale: got '1000.*'; expected a finite number"),
        ({"guidance_scale": "high"}, "guidance_scale: got 'high'"),
        ({"guidance_rescale": 1.5}, "guidance_rescale: got '1.5'; expected a finite number from 0 to 1"),
        ({"guidance_rescale": None}, "guidance_rescale: got 'None'"),
        ({"guidance_interval": 0.5}, "guidance_interval: got '0.5'; expected two numbers from 0 to 1"),
        ({"guidance_interval": (0.2,)}, "guidance_interval: got .*; expected two numbers"),
        ({"guidance_interval": "01"}, "guidance_interval: got '01'; expected two numbers"),
        ({"guidance_interval": (0.2, 1.5)}, "guidance_interval: got '1.5'; expected a finite number from 0 to 1"),
        ({"guidance_interval": (0.8, 0.2)}, "guidance_interval: got 0.8 to 0.2; expected the beginning before the end"),
        ({"speed": "warp"}, "speed: got 'warp'; expected one of quality, balanced, fast"),
        ({"speed": ["fast"]}, "speed: got .*; expected one of quality"),
        ({"deep_cache": 0}, "deep_cache: got '0'; expected an integer at least 1"),
        ({"guidance_reuse": 0}, "guidance_reuse: got '0'; expected an integer at least 1"),
        ({"guidance_reuse": 2.0}, "guidance_reuse: got '2.0'; expected an integer"),
        ({"sampler": "nonesuch"}, "sampler.*nonesuch"),
        ({"sampler": 3}, "sampler: got '3'; expected a text"),
        ({"seed": -1}, "seed: got '-1'; expected an integer from 0 to 9223372036854775807"),
        ({"seed": 2**63 - 1, "images_per_prompt": 2}, "expected an integer from 0 to 9223372036854775806"),
        ({"seed": None}, "seed: got 'None'"),
        ({"images_per_prompt": 0}, "images_per_prompt: got '0'"),
        ({"width": 500}, "width: got 500; expected a multiple of 8 up to 8192; nearest: 496 or 504"),
        ({"height": 3}, "height: got 3; expected a multiple of 8 up to 8192; nearest: 8 or 16"),
        ({"height": 8200}, "height: got 8200; .*nearest: 8192$"),
        ({"width": 0}, "width: got '0'; expected an integer at least 1"),
        ({"output": "jpeg"}, "output: got 'jpeg'; expected one of pil, numpy, latents"),
        ({"latents": np.zeros((1, 3, 2, 2))}, r"latents: got shape \[1, 3, 2, 2\]; expected \[1, 4, h, w\]"),
        ({"latents": np.zeros((4, 2, 2))}, r"latents: got shape \[4, 2, 2\]"),
        ({"latents": np.zeros((1, 4, 0, 2))}, r"latents: got shape \[1, 4, 0, 2\]"),
        ({"latents": np.zeros((2, 4, 2, 2))}, r"latents: got shape \[2, 4, 2, 2\]"),
        ({"latents": np.full((1, 4, 2, 2), np.nan)}, "latents: got NaN or infinity"),
        ({"latents": [[[[10**400]]]]}, "latents: got list; expected a float array"),
        ({"latents": "noise"}, r"latents: got str; expected a float array \[1, 4, h, w\]"),
        ({"latents": np.zeros((1, 4, 2, 3)), "width": 32}, "latents: got 2 x 3, which is 16 x 24 pixels .height x width., for 16 x 32"),
    ],
)
def test_bad_values_are_named(bundle: Bundle, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        _resolve(bundle, **options)


def test_an_unknown_option_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'stepz'"):
        Request(prompt="a", stepz=3)  # type: ignore[call-arg]


def test_no_negative_prompt_is_an_empty_one(bundle: Bundle) -> None:
    assert _resolve(bundle, negative_prompt=None).negative_prompts == ("",)


def test_evaluations_are_laid_out_for_the_rows_that_are_taken(bundle: Bundle) -> None:
    assert [evaluation.unet_rows for evaluation in _resolve(bundle).evaluations] == [2, 2, 2]
    assert [evaluation.unet_rows for evaluation in _resolve(bundle, guidance_scale=1.0, guidance_reuse=2).evaluations] == [1, 1, 1]
    job = _resolve(bundle, steps=8, image=np.zeros((64, 48, 3), np.uint8), strength=0.5, guidance_interval=[0, 0.5])
    assert [evaluation.unet_rows for evaluation in job.evaluations] == [2, 2, 1, 1]
    assert job.shortcuts.interval == (0.0, 0.5)
