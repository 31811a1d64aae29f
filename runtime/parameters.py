"""Everything that decides one picture, as a record: to JSON and back, and to the arguments of the call that paints it again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cache
from typing import Any

from sd2rt.engine.errors import InvalidArgument


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """Everything that decides one picture. `seed` is the picture's own, so that it can be painted again without its batch.

    `sampler` and `sigmas` are a solver and its sigma schedule ("karras"; empty: the model's own); `given_latents` says that
    the first noise came from the caller and not from the seed. `rng`, `variation_seed` and `variation_strength` are as in `Options`.
    `precision` is what `load` was asked for. `guidance_interval`, `guidance_reuse` and `deep_cache` are as in `Options`, where they changed
    anything; `unet_rows` is how many rows of the UNet the picture took, whole or not. `strength` and `noise_level` are None where the task
    has none. `weighting` says whether brackets in the prompts are weights, `clip_skip` which layer of the text encoder was taken, counted
    from the last one, 1.

    `image_sha256`, `mask_sha256` and `depth_sha256` are those of the files that the caller gave; None for what was no file. `mask_blur` to
    `tile` are as in `Options`, a `tile` of 0 being all at once. `upscaler` is how the picture was upscaled afterwards; `width` and
    `height` are those before it. `quality` is that of the JPEG or WebP file; None in others.
    """

    prompt: str
    negative_prompt: str
    steps: int
    sampler: str
    sigmas: str
    guidance_scale: float
    guidance_rescale: float
    seed: int
    width: int
    height: int
    model: str
    bundle_sha256: str
    target: str
    precision: str = "auto"
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    guidance_reuse: int = 1
    deep_cache: int = 1
    unet_rows: int = 0
    given_latents: bool = False
    rng: str = "torch"
    variation_seed: int | None = None
    variation_strength: float = 0.0
    task: str = "text-to-image"
    strength: float | None = None
    noise_level: int | None = None
    image_sha256: str | None = None
    mask_sha256: str | None = None
    depth_sha256: str | None = None
    mask_blur: float = 0.0
    invert: bool = False
    paste: bool = False
    expand: tuple[int, int, int, int] | None = None
    decoder: str = "vae"
    tile: int = 0
    weighting: bool = True
    clip_skip: int = 1
    upscaler: Parameters | None = None
    quality: int | None = None


AS_THEY_ARE = (
    "prompt",
    "negative_prompt",
    "weighting",
    "clip_skip",
    "steps",
    "guidance_scale",
    "guidance_rescale",
    "guidance_interval",
    "guidance_reuse",
    "deep_cache",
    "seed",
    "rng",
    "variation_seed",
    "variation_strength",
    "mask_blur",
    "invert",
    "expand",
    "decoder",
    "tile",
)
"""What a record and a call name alike. The rest of a record is what a call is not told, or is told in other words."""


def call_options(parameters: Parameters, size_multiple: int) -> dict[str, Any]:
    """Return the arguments of the call that paints a picture again: `pipe(**call_options(...))`, or the fields of a `Request`.

    `size_multiple` is the bundle's. The pictures that it began from are not among them: pass `image`, `mask` and `depth` too, those of
    the same SHA-256. Nor is its upscaling, which is a call of its own. Raises InvalidArgument for a picture whose noise its caller gave,
    since no record holds it.
    """
    if parameters.given_latents:
        raise InvalidArgument(
            "latents: the picture was painted from noise that its caller gave, which its file does not hold; give latents again"
        )
    options = {name: getattr(parameters, name) for name in AS_THEY_ARE}
    options["sampler"] = f"{parameters.sampler} {parameters.sigmas}".strip()
    if parameters.task == "upscaling":
        return options | {"noise_level": parameters.noise_level}
    if parameters.strength is not None:
        options["strength"] = parameters.strength
    if parameters.task == "inpainting":
        options["paste"] = parameters.paste
    return options | _size(parameters, size_multiple)


def _size(parameters: Parameters, size_multiple: int) -> dict[str, int]:
    """Return the sides to ask for: those that can be painted. Others are a given picture's own, which was padded and cut back."""
    sides = {"width": parameters.width, "height": parameters.height}
    return {name: pixels for name, pixels in sides.items() if pixels % size_multiple == 0}


def json_text(parameters: Parameters) -> str:
    """Write parameters as JSON, plain ASCII."""
    return json.dumps({**asdict(parameters), "version": version()})


@cache
def version() -> str:
    """Return sd2rt's version as installed."""
    import importlib.metadata  # takes as long to import as half the runtime, and only writing a file needs it

    return importlib.metadata.version("sd2rt")


def read_json(text: str) -> tuple[Parameters, tuple[str, ...]]:
    """Read what `json_text` wrote, and the names in it that this version does not know. Raises InvalidArgument when it is damaged."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"the picture's sd2rt record is damaged ({error}); expected what sd2rt wrote there") from None
    if not isinstance(document, dict):
        raise InvalidArgument(f"the picture's sd2rt record is damaged (a {type(document).__name__}); expected a JSON object")
    document.pop("version", None)
    known = {field.name for field in fields(Parameters)}
    return _read_fields(document), tuple(sorted(set(document) - known))


def _read_fields(document: Mapping[str, Any]) -> Parameters:
    """Check each known field's type. Raises InvalidArgument for a wrong one, and for one that is missing."""
    values: dict[str, Any] = {"weighting": False}  # where it is missing, the version that painted knew no weights
    for field in fields(Parameters):
        if field.name not in document:
            continue
        value = document[field.name]
        if field.name == "upscaler" and isinstance(value, dict):
            values["upscaler"] = _read_fields({**value, "upscaler": None})  # which was upscaled no further
            continue
        value = tuple(value) if isinstance(value, list) else value
        if not _fits(value, str(field.type)):
            got = json.dumps(document[field.name])[:80]
            raise InvalidArgument(f"the picture's sd2rt record is damaged: {field.name}: got {got}; expected {field.type}")
        values[field.name] = value
    try:
        return Parameters(**values)
    except TypeError as error:
        raise InvalidArgument(f"the picture's sd2rt record is incomplete ({error}); expected what sd2rt wrote there") from None


def _fits(value: Any, kind: str) -> bool:
    """Return whether a JSON value is of a field's type, as its annotation names it. Whole numbers may stand for floats."""
    if value is None:
        return kind.endswith("| None")
    name = kind.removesuffix("| None").strip()
    if name.startswith("tuple["):
        parts = name.removeprefix("tuple[").removesuffix("]").split(", ")
        return isinstance(value, tuple) and len(value) == len(parts) and all(map(_fits, value, parts))
    if name == "float":
        return isinstance(value, float | int) and not isinstance(value, bool)
    return type(value).__name__ == name
