"""Presets: what they fill in, and what wins over them."""

from dataclasses import replace
from typing import get_args

import pytest

from sd2rt.engine.errors import InvalidArgument
from sd2rt.runtime.bundle import Defaults
from sd2rt.runtime.evaluations import WHOLE_RUN
from sd2rt.runtime.options import Request, Speed
from sd2rt.runtime.samplers import parse_sampler
from sd2rt.runtime.source import first_step
from sd2rt.runtime.speed import PRESETS, apply_speed

MODEL = Defaults(steps=30, guidance_scale=7.5, sampler="pndm")


def test_quality_changes_nothing() -> None:
    request = Request(prompt="a")
    assert apply_speed(request, MODEL) is request


def test_every_speed_is_a_preset() -> None:
    assert get_args(Speed) == tuple(PRESETS)
    for preset in PRESETS.values():
        if preset is not None:
            parse_sampler(preset.sampler)


def test_a_preset_fills_in_what_is_not_said() -> None:
    preset = PRESETS["fast"]
    assert preset is not None
    found = apply_speed(Request(prompt="a", speed="fast"), MODEL)
    assert (found.sampler, found.steps, found.guidance_interval) == (preset.sampler, preset.steps, preset.guidance_interval)
    assert (found.guidance_reuse, found.deep_cache) == (preset.guidance_reuse, preset.deep_cache)


def test_what_is_said_wins() -> None:
    said = Request(prompt="a", speed="fast", sampler="heun", steps=40, guidance_interval=WHOLE_RUN, guidance_reuse=1, deep_cache=7)
    assert apply_speed(said, MODEL) == said


@pytest.mark.parametrize("steps", [2, 4])
def test_models_of_few_steps_stay_as_they_are(steps: int) -> None:
    request = Request(prompt="a", speed="fast")
    assert apply_speed(request, replace(MODEL, steps=steps)) is request


@pytest.mark.parametrize(
    ("strength", "steps"), [(None, 8), (1.0, 8), (0.13, 8), (0.1, 10), (0.04, 25), (0.01, 30), (0.0, 30), (1e-320, 30)]
)
def test_a_small_strength_gets_the_steps_that_it_needs(strength: float | None, steps: int) -> None:
    assert apply_speed(Request(prompt="a", speed="fast", strength=strength), MODEL).steps == steps
    if strength and steps < MODEL.steps:
        assert first_step(steps, strength) < steps
    assert apply_speed(Request(prompt="a", speed="fast", strength=strength, steps=5), MODEL).steps == 5


def test_a_strength_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="strength: got '2'; expected a finite number from 0 to 1"):
        apply_speed(Request(prompt="a", speed="fast", strength=2), MODEL)
