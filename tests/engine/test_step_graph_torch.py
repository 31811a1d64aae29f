"""The fused step graph of UNets as export writes them, against the numpy loop."""

from functools import cache
from pathlib import Path

import pytest

from sd2rt.engine.forms import apply_form
from sd2rt.engine.lowering import lower_graph
from sd2rt.engine.spec import ComponentFiles, Guidance, StepForm
from sd2rt.runtime.bundle import read_bundle
from tests.engine.step_loop import GATE, SAMPLERS, Sessions, Shape, difference, open_session, run_fused, run_numpy, sessions, table
from tests.tiny import tiny_bundle

pytestmark = pytest.mark.torch
SHAPES = {"epsilon": Shape(size=(4, 6), width=32), "v": Shape(size=(8, 12), width=32)}


def tiny_unet(variant: str, dtype: str = "fp32") -> ComponentFiles:
    return read_bundle(tiny_bundle(variant, dtype)).component("unet").files


@cache
def tiny_sessions(variant: str, guidance: Guidance) -> Sessions:
    return sessions(tiny_unet(variant), guidance)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("guidance", Guidance)
@pytest.mark.parametrize("variant", SHAPES)
def test_paints_as_the_numpy_loop_does(variant: str, guidance: Guidance, sampler: str) -> None:
    step, plain = tiny_sessions(variant, guidance)
    task = SHAPES[variant].task(table(sampler, variant, steps=5))
    assert difference(run_fused(step, task, guidance), run_numpy(plain, task, guidance)) < GATE


@pytest.mark.parametrize("guidance", Guidance)
def test_the_upscalers_unet_lowered_to_float32_after_it_was_fused(guidance: Guidance, tmp_path: Path) -> None:
    """Seven channels, class labels, and a float16 bundle: everything that is cast."""
    files = tiny_unet("upscale", "fp16")
    lowered = {}
    for name, form in {"step": StepForm(guidance=guidance), "plain": None}.items():
        (tmp_path / name).mkdir()
        lowered[name] = open_session(lower_graph("unet", apply_form(files, form), files.onnx.parent, tmp_path / name, "cpu"))
    step, plain = lowered["step"], lowered["plain"]
    assert {value.type for value in step.get_inputs()} == {"tensor(float)", "tensor(int64)"}
    task = Shape(extra=3, labels=True, size=(4, 6), width=32).task(table("dpm++ 2m sde", "v", steps=5))
    assert difference(run_fused(step, task, guidance), run_numpy(plain, task, guidance)) < GATE
