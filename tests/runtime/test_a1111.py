"""The web UI's text: written in its words, and read as other programs write it."""

import time
from dataclasses import replace

import pytest

from sd2rt.runtime.a1111 import WEB_UI_SOLVERS, read_web_ui_text, web_ui_text
from sd2rt.runtime.parameters import version
from sd2rt.runtime.samplers import SOLVERS, parse_sampler
from tests.runtime.records import PARAMETERS


def test_web_ui_text() -> None:
    assert web_ui_text(PARAMETERS) == (
        "a large red sphere\n"
        "Negative prompt: blurry, dark\n"
        "Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7.5, Seed: 7, Size: 64x48, "
        f"Model hash: 0123456789, Model: toyworld, RNG: CPU, Version: sd2rt {version()}"
    )


def test_web_ui_text_leaves_out_what_is_not_used_and_quotes_what_has_commas() -> None:
    bare = replace(PARAMETERS, negative_prompt="", sigmas="", sampler="euler a", guidance_scale=1.0, model='my "best", so far')
    lines = web_ui_text(bare).split("\n")
    assert len(lines) == 2
    assert lines[1].startswith("Steps: 20, Sampler: Euler a, CFG scale: 1, Seed: 7,")
    assert 'Model: "my \\"best\\", so far", RNG: CPU, Version' in lines[1]
    assert "CFG rescale: 0.7" in web_ui_text(replace(PARAMETERS, guidance_rescale=0.7))
    assert "Precision: f32, Seed: 7" in web_ui_text(replace(PARAMETERS, precision="f32"))
    short = replace(PARAMETERS, guidance_interval=(0.25, 0.8), guidance_reuse=3, deep_cache=2)
    assert "CFG scale: 7.5, Guidance interval: 0.25 to 0.8, Guidance reuse: 3, Deep cache: 2, Seed: 7" in web_ui_text(short)


def test_web_ui_text_of_pictures_that_began_from_one() -> None:
    painted = replace(PARAMETERS, task="inpainting", strength=0.75, mask_blur=4.0)
    assert "CFG scale: 7.5, Denoising strength: 0.75, Mask blur: 4, Seed: 7" in web_ui_text(painted)
    upscaled = replace(PARAMETERS, task="upscaling", noise_level=0, width=256, height=192, steps=30, model="x4")
    assert "CFG scale: 7.5, Noise level: 0, Seed: 7, Size: 256x192" in web_ui_text(upscaled)
    both = web_ui_text(replace(PARAMETERS, upscaler=upscaled))
    assert (
        "Size: 64x48, Model hash: 0123456789, Model: toyworld, RNG: CPU, Hires upscale: 4, Hires steps: 30, Hires upscaler: x4, Version"
        in both
    )


def test_every_solver_has_a_web_ui_name_that_our_own_parser_reads() -> None:
    assert tuple(WEB_UI_SOLVERS) == SOLVERS
    for solver, name in WEB_UI_SOLVERS.items():
        assert parse_sampler(name).solver == solver


def test_web_ui_text_says_whose_noise_and_which_variation() -> None:
    varied = replace(PARAMETERS, rng="nv", variation_seed=9, variation_strength=0.25)
    assert "Model: toyworld, Variation seed: 9, Variation seed strength: 0.25, RNG: NV, Version" in web_ui_text(varied)


def test_a_text_is_taken_apart() -> None:
    read = read_web_ui_text(
        "two lines\n of prompt, Steps: 3\r\nNegative prompt: blurry\n dark \n"
        'Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, Size: 512x768, Model: "a: \\"b\\", c",'
        ' Lora hashes: "x: 1, y: 2",'
        " Empty: , Version: v1.9.4"
    )
    assert read is not None
    assert (read.prompt, read.negative_prompt) == ("two lines\nof prompt, Steps: 3", "blurry\ndark")
    assert read.pairs == {
        "Steps": "20",
        "Sampler": "DPM++ 2M",
        "Schedule type": "Karras",
        "CFG scale": "7",
        "Size": "512x768",
        "Model": 'a: "b", c',
        "Lora hashes": "x: 1, y: 2",
        "Empty": "",
        "Version": "v1.9.4",
    }


@pytest.mark.parametrize("text", ["", "a red cube", "a red cube\nSteps: 20, Sampler: Euler", "Steps: three, or four", "\n\n"])
def test_a_text_of_fewer_than_three_pairs_is_a_prompt_alone(text: str) -> None:
    assert read_web_ui_text(text) is None


def test_no_prompt_and_no_negative_prompt() -> None:
    read = read_web_ui_text("Steps: 1, Sampler: Euler, Seed: 0")
    assert read is not None
    assert (read.prompt, read.negative_prompt) == ("", "")


@pytest.mark.parametrize(
    "name",
    ["plain", "a, b", "a: b", "a\nb", '"whole"', 'in "the" middle', "back\\slash", '\\"', " blanks ", "", "ü 🟥", '"', "a\rb", "\t"],
)
def test_any_name_of_a_model_comes_back(name: str) -> None:
    read = read_web_ui_text(web_ui_text(replace(PARAMETERS, model=name)))
    assert read is not None
    assert read.pairs["Model"] == name
    assert read.pairs["Seed"] == "7"


def test_a_long_hostile_text_takes_a_time_that_grows_with_its_length_alone() -> None:
    started = time.thread_time()
    assert read_web_ui_text("x\n" + "a" * 14_900_000) is None
    assert time.thread_time() - started < 5.0  # 0.4 s on one core; it took more than 9


def test_blanks_before_a_key_are_none_of_it_and_long_words_are_no_keys() -> None:
    read = read_web_ui_text(f"- Steps: 1, -Seed: 2,  Size: 8x8, {'a' * 62}: 3, {'b' * 61}: 4")
    assert read is not None
    assert read.pairs == {"Steps": "1", "Seed": "2", "Size": "8x8", "b" * 61: "4"}


@pytest.mark.parametrize(("part", "end"), [("a", ""), ("a: ", ""), ('a: "', ""), ('a: "\\",', ""), (" ", "a"), ('"', ":")])
def test_a_hostile_text_takes_no_time(part: str, end: str) -> None:
    started = time.thread_time()
    read_web_ui_text("prompt\nx" + part * 200_000 + end)
    assert time.thread_time() - started < 5.0
