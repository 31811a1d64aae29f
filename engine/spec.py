"""What an engine is made from and what it takes: plain values, checked when they are made.

Knows no backend, no cache and no bundle: the runtime fills these in from `bundle.json`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from sd2rt.engine.errors import InvalidArgument


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """One input or output of an engine.

    `dtype` is numpy's name ("float32", "float16", "int64", "int32"); `shape` holds an int for a fixed axis and a name
    for one that may vary, such as `("batch", 4, "height", "width")`.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    def resolve(self, axes: Mapping[str, int]) -> tuple[int, ...]:
        """Return the shape in numbers, named axes from `axes`. Raises InvalidArgument for a name that is not there."""
        unknown = [dim for dim in self.shape if isinstance(dim, str) and dim not in axes]
        if unknown:
            raise InvalidArgument(f"{self.name}: got no size of axis {unknown[0]!r}; expected one of {', '.join(axes) or 'none'}")
        return tuple(axes[dim] if isinstance(dim, str) else dim for dim in self.shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentFiles:
    """One component of a bundle on disk: the graph, its external weights, and what their SHA-256 must be.

    `name` is the component's ("unet", "vae_decoder", ...); `sha256` maps each file's name (no folder) to 64 hex digits.
    Raises InvalidArgument when a file has no hash.
    """

    name: str
    onnx: Path
    data: tuple[Path, ...] = ()
    sha256: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        missing = [file.name for file in self.paths if file.name not in self.sha256]
        if missing:
            raise InvalidArgument(f"{self.name}: got no sha256 for {', '.join(missing)}; expected one for every file of the component")

    @property
    def paths(self) -> tuple[Path, ...]:
        """Every file of the component, the graph first."""
        return (self.onnx, *self.data)


class Guidance(StrEnum):
    """How a step's model output comes from the UNet's rows: see `step_graph`."""

    PLAIN = "plain"  # one row per image
    GUIDED = "guided"  # two rows per image, negative prompts first: classifier-free guidance
    RESCALED = "rescaled"  # as guided, then with the spread of the positive prediction


@dataclass(frozen=True, slots=True, kw_only=True)
class StepForm:
    """The UNet merged with guidance and one row of a sampler's table, so that one launch is one step: see `step_graph`.

    With `kept`, a part of the picture stays: each step ends by putting known latents back outside a mask.
    """

    guidance: Guidance
    kept: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelForm:
    """The VAE decoder from a sampler's latents to pixels: see `pixel_graph`. Latents are divided by `scaling_factor` first."""

    scaling_factor: float


class DeepPart(StrEnum):
    """Which of a UNet's two cuts: see `deep_graph`."""

    FULL = "full"  # all of it, which gives the deep features
    SHALLOW = "shallow"  # the first and last layers, which take them


DEEP_FEATURES = "deep_features"  # the tensor's name


@dataclass(frozen=True, slots=True, kw_only=True)
class DeepForm:
    """One of the two cuts of a UNet for DeepCache: see `deep_graph`. `branch` counts the last layers that both have, from 1.

    Raises InvalidArgument for a branch below 1.
    """

    part: DeepPart
    branch: int = 1

    def __post_init__(self) -> None:
        if self.branch < 1:
            raise InvalidArgument(f"branch: got {self.branch}; expected at least 1, the layers that the shallow part computes")


@dataclass(frozen=True, slots=True, kw_only=True)
class TextForm:
    """The text encoder without its last `skip` layers: see `text_graph`. Raises InvalidArgument for fewer than one."""

    skip: int

    def __post_init__(self) -> None:
        if self.skip < 1:
            raise InvalidArgument(f"skip: got {self.skip}; expected at least 1, the layers that are left out")


Form = StepForm | PixelForm | DeepForm | TextForm | None
"""What is made of a component's graph before an engine is built from it; None: nothing."""

PRECISIONS = ("auto", "bf16", "f32")
"""What an engine computes in: "auto" is what the target does best with the component's own types."""

Range = tuple[int, int, int]
"""Smallest, usual and largest size of an axis; an engine is fastest at the usual one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorRTOptions:
    """What the caller decides about a TensorRT build.

    `compute_capabilities` ("sm86", "sm120", or "portable" alone) are for TensorRT-RTX; none means this machine's GPU.
    `workspace_bytes` limits the scratch memory of a kernel; None leaves it to TensorRT. `weight_streaming` lets weights stay in host
    memory; `low_memory` builds with one thread and little workspace.
    Raises InvalidArgument for a level outside 0 to 5, a workspace below 1, or "portable" beside others.
    """

    compute_capabilities: tuple[str, ...] = ()
    optimization_level: int = 3
    workspace_bytes: int | None = None
    weight_streaming: bool = False
    low_memory: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.optimization_level <= 5:
            raise InvalidArgument(f"optimization level: got {self.optimization_level}; expected 0 (fast build) to 5 (fast engine)")
        if self.workspace_bytes is not None and self.workspace_bytes < 1:
            raise InvalidArgument(f"workspace: got {self.workspace_bytes} bytes; expected at least 1, or none to leave it to TensorRT")
        if "portable" in self.compute_capabilities and len(self.compute_capabilities) > 1:
            got = ", ".join(self.compute_capabilities)
            raise InvalidArgument(f"compute capability: got {got}; expected portable alone, or a list without it")


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOptions:
    """What the caller decides about an engine: where it runs and on how many threads, 0 for one per core.

    `target` is part of the cache key; engines are the same for any number of threads. `precision`, one of PRECISIONS, is for openvino.
    `form` is for the targets that run on a device, but for DeepForm, which is for those that run on the host, and TextForm, which is for
    all; the others run a form as a reference. The sizes of the graph's named `axes` and `tensorrt` are for devices too; openvino's
    engines are for all sizes, and tried at the usual ones.
    Raises InvalidArgument for threads below 0, an unknown precision and ranges out of order.
    """

    target: str
    threads: int = 0
    precision: str = "auto"
    form: Form = None
    axes: Mapping[str, Range] = field(default_factory=dict)
    tensorrt: TensorRTOptions = field(default_factory=TensorRTOptions)

    def __post_init__(self) -> None:
        if self.threads < 0:
            raise InvalidArgument(f"threads: got {self.threads}; expected at least 1, or 0 for one per core")
        if self.precision not in PRECISIONS:
            raise InvalidArgument(f"precision: got {self.precision!r}; expected one of {', '.join(PRECISIONS)}")
        for name, sizes in self.axes.items():
            if not 1 <= sizes[0] <= sizes[1] <= sizes[2]:
                raise InvalidArgument(f"axis {name}: got smallest, usual, largest {sizes}; expected them in this order, from 1")
