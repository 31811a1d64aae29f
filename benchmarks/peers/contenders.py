"""Who takes part: each peer's configurations, the venv that runs them, and the form of the model that they load."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

PICTURES = frozenset({"cold-start", "single-stream", "offline", "growth"})
UNET = frozenset({"unet"})
PIPELINE = frozenset({"pipeline"})
REFERENCE = "diffusers, eager fp32"


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """One configuration of one runtime, and the scenarios in which it takes part.

    `venv` and `form` name a venv of `venvs.RECIPES` and a form of `models.FORMS`. `painter` is the module of
    `benchmarks.workers.painters` that paints, `step` what `benchmarks.workers.unet` calls it; `options` go to both.
    """

    name: str
    venv: str
    form: str
    painter: str = ""
    step: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    scenarios: frozenset[str] = PICTURES | UNET


DIFFUSERS = {"venv": "diffusers", "form": "diffusers", "painter": "torch_diffusers", "step": "torch"}
OPTIMUM_ONNX = {"venv": "optimum-onnx", "form": "onnx", "painter": "optimum_onnx", "step": "optimum-onnx"}
OPTIMUM_INTEL = {"venv": "optimum-intel", "form": "ir", "painter": "optimum_intel", "step": "optimum-intel"}
GENAI = {"venv": "openvino-genai", "form": "ir", "painter": "genai", "scenarios": PICTURES | PIPELINE}
FAST = {"call": {"speed": "fast"}}  # fewer evaluations of our own choice in place of the others' steps and sampler
OURS = {"form": "bundle", "painter": "ours", "step": "sd2rt", "scenarios": PICTURES | PIPELINE | UNET}
SAVING = {"form": "bundle", "painter": "ours", "scenarios": frozenset({"single-stream", "offline"})}
BF16, FP32, F32 = {"dtype": "bfloat16"}, {"dtype": "float32"}, {"precision": "f32"}
WARM = frozenset({"single-stream", "offline"}) | UNET  # compiling takes minutes

CONTENDERS = (
    Contender(name="sd2rt, cpu", venv="sd2rt", options={"target": "cpu"}, **OURS),
    Contender(name="sd2rt, openvino", venv="sd2rt-openvino", options={"target": "openvino"}, **OURS),
    Contender(name="sd2rt, cpu, --speed fast", venv="sd2rt", options={"target": "cpu", **FAST}, **SAVING),
    Contender(name="sd2rt, openvino, --speed fast", venv="sd2rt-openvino", options={"target": "openvino", **FAST}, **SAVING),
    Contender(name=REFERENCE, options=FP32, **DIFFUSERS),
    Contender(name="diffusers, eager bf16", options=BF16, **DIFFUSERS),
    Contender(name="diffusers, torch.compile fp32", options={**FP32, "compile": True}, scenarios=WARM, **DIFFUSERS),
    Contender(name="diffusers, torch.compile bf16", options={**BF16, "compile": True}, scenarios=WARM, **DIFFUSERS),
    Contender(name="optimum-onnx, fp32", **OPTIMUM_ONNX),
    Contender(name="optimum-intel, its default precision", **OPTIMUM_INTEL),
    Contender(name="optimum-intel, f32", options=F32, **OPTIMUM_INTEL),
    Contender(
        name="openvino by hand on our graph, bf16",
        venv="sd2rt-openvino",
        form="bundle",
        step="openvino",
        options={"precision": "bf16"},
        scenarios=UNET,
    ),
    Contender(name="openvino-genai, its default precision", **GENAI),
    Contender(name="openvino-genai, f32", options=F32, **GENAI),
    Contender(
        name="stable-diffusion.cpp, f16 weights",
        venv="stable-diffusion-cpp",
        form="single-file",
        painter="stable_diffusion_cpp",
        scenarios=PIPELINE,
    ),
)


def taking_part(scenario: str | None, wanted: Iterable[str] = ()) -> tuple[Contender, ...]:
    """Return the contenders of a scenario (None: of any) whose names contain one of `wanted`, all without any; the reference always.

    Raises ValueError for a `wanted` that fits none.
    """
    asked = tuple(wanted)
    unknown = [word for word in asked if not any(word in contender.name for contender in CONTENDERS)]
    if unknown:
        raise ValueError(f"contender: got {', '.join(unknown)}; expected parts of {'; '.join(one.name for one in CONTENDERS)}")
    here = [contender for contender in CONTENDERS if scenario is None or scenario in contender.scenarios or contender.name == REFERENCE]
    return tuple(one for one in here if not asked or one.name == REFERENCE or any(word in one.name for word in asked))
