"""What texts of other programs come to. They are written here after the formats' descriptions; none is copied from a gallery."""

from typing import Any

import pytest

from sd2rt.runtime.a1111 import read_web_ui_text
from sd2rt.runtime.a1111_fields import Fields, read_fields
from sd2rt.runtime.options import Request

WEB_UI = """a lighthouse on a cliff, (dusk:1.2) <lora:stormy:0.6>
second line
Negative prompt: blurry, low quality
Steps: 28, Sampler: DPM++ 2M SDE, Schedule type: Karras, CFG scale: 6.5, Seed: 3735928559, Size: 768x512, Model hash: 4711abcdef, \
Model: v2-1_768-ema-pruned, VAE hash: 1122334455, Variation seed: 42, Variation seed strength: 0.15, Clip skip: 2, \
Lora hashes: "stormy: 0011aabb, b: 2", RNG: NV, Version: v1.10.1"""
OLD_WEB_UI = """a red fox
Steps: 20, Sampler: DPM++ 2M Karras, CFG scale: 7, Seed: 1, Size: 512x512, Model hash: ad2a33c361, Model: v2-1"""
FORGE = """a red fox
Steps: 20, Sampler: Euler a, Schedule type: Automatic, CFG scale: 7, Seed: 1, Size: 896x1152, Model hash: ad2a33c361, Model: v2-1, \
Emphasis: None, Diffusion in Low Bits: Automatic (fp16 LoRA), Version: f2.0.1v1.10.1-previous-669-gdfdcbab6"""
STABLE_DIFFUSION_CPP = """a red fox
Negative prompt: blurry
Steps: 20, CFG scale: 7.000000, Guidance: 3.500000, Eta: 0.000000, Seed: 42, Size: 512x512, Model: v2-1_768-nonema-pruned.safetensors, \
RNG: cuda, Sampler: euler_a karras, Version: stable-diffusion.cpp"""


def fields_of(text: str) -> Fields:
    read = read_web_ui_text(text)
    assert read is not None
    fields = read_fields(read)
    Request(**fields.options)  # every name is one of a call's
    return fields


def test_the_web_ui() -> None:
    fields = fields_of(WEB_UI)
    assert fields.options == {
        "prompt": "a lighthouse on a cliff, (dusk:1.2) \nsecond line",
        "negative_prompt": "blurry, low quality",
        "steps": 28,
        "sampler": "dpm++ 2m sde karras",
        "guidance_scale": 6.5,
        "seed": 3735928559,
        "width": 768,
        "height": 512,
        "variation_seed": 42,
        "variation_strength": 0.15,
        "clip_skip": 2,
        "rng": "nv",
    }
    assert fields.notes == [
        "<lora:stormy:0.6> is left out: `sd2rt export --lora` puts a LoRA into a bundle",
        "Sampler: the web UI draws the noise of DPM++ 2M SDE from a Brownian tree; sd2rt's is not the same",
        "not used: VAE hash: 1122334455, Lora hashes: stormy: 0011aabb, b: 2",
    ]


@pytest.mark.parametrize(("version", "notes"), [("v1.9.4", 1), ("sd2rt 0.1.0", 0)])
def test_the_noise_of_a_text_by_sd2rt_is_its_own(version: str, notes: int) -> None:
    assert len(fields_of(f"a\nSteps: 3, Sampler: DPM++ 2M SDE, Seed: 1, Version: {version}").notes) == notes


def test_an_old_web_ui_joins_sampler_and_schedule_and_means_cuda() -> None:
    fields = fields_of(OLD_WEB_UI)
    assert (fields.options["sampler"], fields.options["rng"], fields.notes) == ("dpm++ 2m karras", "nv", [])
    assert fields_of(OLD_WEB_UI.replace("7,", "7, RNG: CPU,")).options["rng"] == "torch"


def test_forge() -> None:
    fields = fields_of(FORGE)
    assert (fields.options["sampler"], fields.options["weighting"]) == ("euler a", False)
    assert fields.notes == ["not used: Diffusion in Low Bits: Automatic (fp16 LoRA)"]


def test_stable_diffusion_cpp() -> None:
    fields = fields_of(STABLE_DIFFUSION_CPP)
    assert (fields.options["sampler"], fields.options["rng"], fields.options["guidance_scale"]) == ("euler a karras", "nv", 7.0)
    assert fields.notes == ["not used: Guidance: 3.500000, Eta: 0.000000"]
    assert fields_of(STABLE_DIFFUSION_CPP.replace("euler_a karras", "dpm++2m discrete")).options["sampler"] == "dpm++ 2m"
    odd = fields_of(STABLE_DIFFUSION_CPP.replace("RNG: cuda", "RNG: std_default"))
    assert odd.notes[0] == "RNG: got 'std_default', whose noise sd2rt has not; CUDA's instead"


@pytest.mark.parametrize(
    ("pairs", "sampler", "noted"),
    [
        ("Sampler: DPM++ 2M, Schedule type: Automatic", "dpm++ 2m karras", False),
        ("Sampler: Euler, Schedule type: Automatic", "euler", False),
        ("Sampler: DPM++ 2M", "dpm++ 2m", False),
        ("Sampler: DPM++ 2M, Schedule type: Exponential", "dpm++ 2m exponential", False),
        ("Sampler: DPM++ 2M, Schedule type: Uniform", "dpm++ 2m", False),
        ("Sampler: DPM++ 2M, Schedule type: SGM Uniform", "dpm++ 2m", True),
        ("Sampler: PLMS", "pndm", False),
        ("Sampler: UniPC", "unipc", False),
        ("Sampler: DPM fast", "DPM fast", False),  # told when it is painted
    ],
)
def test_samplers(pairs: str, sampler: str, noted: bool) -> None:
    fields = fields_of(f"a\nSteps: 1, Seed: 1, {pairs}")
    assert (fields.options["sampler"], bool(fields.notes)) == (sampler, noted)


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        ("Steps: many", "Steps: got 'many', which is none; left out"),
        ("CFG scale: high", "CFG scale: got 'high', which is none; left out"),
        ("Guidance interval: 0.2", "Guidance interval: got '0.2'"),
        ("Size: large", "Size: got 'large'; expected such as 512x768; left out"),
        (f"Size: {'1' * 5000}x64", "Size: got '1111"),
        (f"Steps: {'1' * 5000}", "Steps: got '1111"),
        ("Face restoration: CodeFormer", "not used: Face restoration: CodeFormer"),
    ],
)
def test_what_cannot_be_read_is_told(pairs: str, words: str) -> None:
    fields = fields_of(f"a\nSeed: 1, Sampler: Euler, {pairs}")
    assert words in "; ".join(fields.notes)
    assert set(fields.options) == {"prompt", "negative_prompt", "seed", "sampler", "rng"}


def test_the_second_pass_is_told_and_its_strength_is_not_the_firsts() -> None:
    fields = fields_of("a\nSteps: 1, Seed: 1, Denoising strength: 0.5, Hires upscale: 2, Hires upscaler: Latent")
    assert "strength" not in fields.options
    assert fields.notes == ["not used: Hires upscale: 2, Hires upscaler: Latent"]


def test_what_our_own_text_says_is_read_without_the_record() -> None:
    from dataclasses import replace

    from sd2rt.runtime.a1111 import web_ui_text
    from tests.runtime.records import PARAMETERS

    ours = replace(
        PARAMETERS,
        guidance_interval=(0.25, 0.8),
        guidance_reuse=3,
        deep_cache=2,
        guidance_rescale=0.5,
        decoder="tiny",
        weighting=False,
        precision="f32",
        rng="torch",
    )
    fields = fields_of(web_ui_text(ours))
    expected: dict[str, Any] = {"guidance_interval": (0.25, 0.8), "guidance_reuse": 3, "deep_cache": 2, "guidance_rescale": 0.5}
    expected |= {"decoder": "tiny", "weighting": False, "rng": "torch", "sampler": "dpm++ 2m karras", "seed": 7, "width": 64}
    assert {name: fields.options[name] for name in expected} == expected
    assert fields.notes == []
