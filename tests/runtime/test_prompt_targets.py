"""Long and weighted prompts of different lengths in one call, on the targets of the host: each picture is the one painted alone."""

from typing import Any

import numpy as np
import pytest

from sd2rt.runtime import load
from sd2rt.runtime.options import Expected

pytest.importorskip("torch", reason="tiny models need the export extra")

from tests.tiny import tiny_bundle

PROMPTS = ["a (red:1.4) cube", "a cone, " * 40, "a BREAK [b] BREAK c"]
CALL: dict[str, Any] = {"steps": 2, "seed": 5, "negative_prompt": ["", "a (cube:0.5) BREAK x", "x"], "clip_skip": 2, "output": "numpy"}


def psnr(own: Any, other: Any) -> float:
    return float(-10 * np.log10(np.square(np.asarray(own, np.float64) - other).mean() + 1e-20))


@pytest.mark.parametrize(
    ("setting", "options"),
    [({}, {}), ({"low_memory": True}, {"deep_cache": 2, "guidance_reuse": 2}), ({"target": "openvino", "precision": "f32"}, {})],
    ids=["cpu", "shortcuts", "openvino"],
)
def test_pictures_are_those_of_prompts_alone(setting: dict[str, Any], options: dict[str, Any]) -> None:
    if "target" in setting:
        pytest.importorskip("openvino", reason="the openvino extra is not installed")
    with (
        load(tiny_bundle("v"), **{"target": "cpu", "expect": Expected(clip_skip=2), **setting}) as pipe,
        load(tiny_bundle("v"), target="cpu") as cpu,
    ):
        together = pipe(PROMPTS, **CALL, **options)
        assert together.cut == ()
        for index, (prompt, negative) in enumerate(zip(PROMPTS, CALL["negative_prompt"], strict=True)):
            alone = cpu(prompt, **{**CALL, **options, "negative_prompt": negative, "seed": 5 + index})
            assert psnr(together.images[index], alone.images[0]) >= 60
