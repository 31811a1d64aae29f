"""What the caller of an export decides. Knows no torch, so that a command line can be built on it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sd2rt.engine.errors import InvalidArgument

DTYPES = ("fp16", "fp32")
NUMPY_DTYPES = {"fp16": "float16", "fp32": "float32"}
TASKS = ("text-to-image", "inpainting", "depth-to-image", "upscaling")
PRESETS = ("sd2-base", "sd2", "sd21-base", "sd21", "sd-turbo", "sd2-inpainting", "sd2-depth", "x4-upscaler")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lora:
    """A LoRA file to merge, its product multiplied by `scale`. Raises InvalidArgument."""

    file: Path
    scale: float = 1.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.scale):
            raise InvalidArgument(f"lora: got the scale {self.scale} for {self.file}, expected a finite number")


def parse_lora(text: str) -> Lora:
    """Read FILE.safetensors[:SCALE]. Raises InvalidArgument where SCALE is no finite number."""
    file, colon, scale = text.rpartition(":")
    if not colon or not file.endswith(".safetensors"):
        return Lora(file=Path(text))  # a colon elsewhere is part of the path
    try:
        number = float(scale)
    except ValueError as error:
        raise InvalidArgument(f"lora: got the scale {scale!r} in {text!r}, expected FILE.safetensors or FILE.safetensors:0.8") from error
    return Lora(file=Path(file), scale=number)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """Precision, task and origin of one export.

    `task` "auto" reads the task from the checkpoint. `preset` names the configs of a single-file checkpoint that does not tell
    its own, or of `random_weights`, which are drawn from `weights_seed`. `defaults` overrides single entries of the bundle's
    "defaults" (steps, guidance_scale, sampler). `name` is the bundle's name, by default the source's. `replace` allows an
    existing output folder to be replaced. `loras` are merged in their order. `tiny_vae` is a folder or file
    whose tiny decoder is added. Raises InvalidArgument.
    """

    dtype: str = "fp16"
    task: str = "auto"
    preset: str | None = None
    random_weights: bool = False
    weights_seed: int = 0
    name: str | None = None
    replace: bool = False
    defaults: Mapping[str, object] = field(default_factory=dict)
    loras: tuple[Lora, ...] = ()
    tiny_vae: Path | None = None

    def __post_init__(self) -> None:
        _check("dtype", self.dtype, DTYPES)
        _check("task", self.task, ("auto", *TASKS))
        if self.preset is not None:
            _check("preset", self.preset, PRESETS)
        if self.random_weights and self.preset is None:
            raise InvalidArgument(f"random weights need a preset: name one of {', '.join(PRESETS)}")
        if not 0 <= self.weights_seed < 2**63:
            raise InvalidArgument(f"weights seed: got {self.weights_seed}, expected 0 to 2^63 - 1")
        unknown = sorted(set(self.defaults) - {"steps", "guidance_scale", "sampler"})
        if unknown:
            raise InvalidArgument(f"defaults: got {', '.join(unknown)}; expected steps, guidance_scale or sampler")


def component_dtype(component: str, dtype: str, task: str) -> str:
    """Return numpy's name of the dtype that a component has in a bundle of `dtype` "fp16" or "fp32".

    The x4 upscaler's VAE overflows in half precision (Stability's x4-upscaling.yaml; diffusers upcasts it too).
    """
    if task == "upscaling" and component.startswith("vae"):
        return "float32"
    return NUMPY_DTYPES[dtype]


def _check(what: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise InvalidArgument(f"{what}: got {value!r}, expected one of {', '.join(allowed)}")
