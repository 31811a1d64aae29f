"""What a caller asks of a text-to-image pipeline, and the job it comes to once the bundle's defaults are filled in.

Every bad value ends here, as InvalidArgument with what was got, what was expected and what to do. Knows no engine.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, SupportsIndex, TypedDict, get_args

import numpy as np
import numpy.typing as npt

from sd2rt.engine.errors import BundleError, InvalidArgument
from sd2rt.runtime.bundle import Bundle
from sd2rt.runtime.samplers import SamplerName, make_table, parse_sampler
from sd2rt.runtime.schedule import Schedule
from sd2rt.runtime.table import Table
from sd2rt.runtime.tokenizer import check_text

Output = Literal["pil", "numpy", "latents"]
MAX_SEED = (1 << 63) - 1
MAX_STEPS = 1000  # what the models were trained with; tables grow with it
MAX_SIDE_PIXELS = 8192
MAX_IMAGES = 256  # of one call; they are one batch of the UNet


class Options(TypedDict, total=False):
    """What a call may say besides the prompt. Steps, guidance, sampler and size are the bundle's own when left out or None."""

    negative_prompt: str | Sequence[str] | None
    """One text, or one per prompt; not used at a guidance scale of 1 or less."""
    steps: int | None
    guidance_scale: float | None
    """Above 1: how far from the negative prompt. 1 or less: no guidance, and half the work."""
    sampler: str | None
    """As diffusers, k-diffusion or the web UI write it: "euler a", "DPM++ 2M Karras", "DDIMScheduler"."""
    seed: int
    """Image i of the call has seed + i, and is the picture that this seed paints alone. 0 to 2^63 - 1; 0 when left out."""
    width: int | None
    height: int | None
    images_per_prompt: int
    latents: npt.ArrayLike | None
    """Initial noise of unit variance, float [N, C, h, w], in place of the seeds'; gives the size when width and height are left out."""
    output: Output
    """"pil": list of PIL images; "numpy": float32 [N, H, W, 3] in [0, 1]; "latents": the final latents, float32 [N, C, h, w]."""
    guidance_rescale: float
    """0 to 1: how much of the guided prediction's excess spread is taken away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A call as the caller wrote it: `Options` and the prompt, one text or one per image."""

    prompt: str | Sequence[str]
    negative_prompt: str | Sequence[str] | None = ""
    steps: int | None = None
    guidance_scale: float | None = None
    sampler: str | None = None
    seed: int = 0
    width: int | None = None
    height: int | None = None
    images_per_prompt: int = 1
    latents: npt.ArrayLike | None = None
    output: Output = "pil"
    guidance_rescale: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A checked call: one prompt, negative prompt and seed per image; sizes in pixels; latents float32 [N, C, h, w] of unit variance."""

    prompts: tuple[str, ...]
    negative_prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    steps: int
    guidance_scale: float
    guidance_rescale: float
    sampler: SamplerName
    table: Table
    height: int
    width: int
    latents: npt.NDArray[np.float32] | None
    output: Output


def read_schedule(bundle: Bundle) -> Schedule:
    """Return the noise schedule that the bundle's scheduler config describes. Raises BundleError for one that no table can follow."""
    try:
        return Schedule.from_config({**bundle.scheduler, "prediction_type": bundle.prediction_type})
    except InvalidArgument as error:
        raise BundleError(f"{bundle.folder}: {error}") from error


def resolve(request: Request, bundle: Bundle) -> Job:
    """Check a request, fill in the bundle's defaults and lay out the sampling. Raises InvalidArgument, and BundleError as read_schedule."""
    prompts = _texts("prompt", request.prompt)
    negatives = _texts("negative_prompt", "" if request.negative_prompt is None else request.negative_prompt)
    if len(negatives) not in (1, len(prompts)):
        raise InvalidArgument(f"negative_prompt: got {len(negatives)} texts for {len(prompts)} prompts; expected one, or one per prompt")
    per_prompt = _integer("images_per_prompt", request.images_per_prompt, 1, MAX_IMAGES)
    count = len(prompts) * per_prompt
    if count > MAX_IMAGES:
        raise InvalidArgument(
            f"got {len(prompts)} prompts of {per_prompt} images; expected at most {MAX_IMAGES} images a call, make several"
        )
    first_seed = _integer("seed", request.seed, 0, MAX_SEED - count + 1)
    if request.output not in get_args(Output):
        raise InvalidArgument(f"output: got {request.output!r}; expected one of {', '.join(get_args(Output))}")
    latents = None if request.latents is None else _latents(request.latents, count, bundle.latent_channels)
    height, width = _size(request, latents, bundle)
    defaults = bundle.defaults
    guidance_scale = defaults.guidance_scale if request.guidance_scale is None else request.guidance_scale
    steps = _integer("steps", defaults.steps if request.steps is None else request.steps, 1, MAX_STEPS)
    sampler = parse_sampler(_text("sampler", defaults.sampler if request.sampler is None else request.sampler))
    return Job(
        prompts=tuple(prompt for prompt in prompts for _ in range(per_prompt)),
        negative_prompts=tuple(text for text in (negatives * count)[: len(prompts)] for _ in range(per_prompt)),
        seeds=tuple(range(first_seed, first_seed + count)),
        steps=steps,
        guidance_scale=_finite("guidance_scale", guidance_scale, -math.inf, math.inf),
        guidance_rescale=_finite("guidance_rescale", request.guidance_rescale, 0.0, 1.0),
        sampler=sampler,
        table=make_table(sampler, read_schedule(bundle), steps),
        height=height,
        width=width,
        latents=latents,
        output=request.output,
    )


def _texts(name: str, value: str | Sequence[str]) -> tuple[str, ...]:
    texts = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, Sequence) else ()
    if not texts or not all(isinstance(text, str) for text in texts):
        raise InvalidArgument(f"{name}: got {str(value)[:80]!r}; expected a text or a list of at least one text")
    for text in texts:
        check_text(name, text)
    return texts


def _text(name: str, value: str) -> str:
    if not isinstance(value, str):
        raise InvalidArgument(f"{name}: got {str(value)[:80]!r}; expected a text")
    return value


def _integer(name: str, value: SupportsIndex, low: int, high: int | None = None) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = low - 1
    if number < low or (high is not None and number > high) or isinstance(value, bool):
        limits = f"at least {low}" if high is None else f"from {low} to {high}"
        raise InvalidArgument(f"{name}: got {str(value)[:80]!r}; expected an integer {limits}")
    return number


def _finite(name: str, value: float, low: float, high: float) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number) or not low <= number <= high:
        limits = "" if high == math.inf else f" from {low:g} to {high:g}"
        raise InvalidArgument(f"{name}: got {str(value)[:80]!r}; expected a finite number{limits}")
    return number


def _latents(value: npt.ArrayLike, count: int, channels: int) -> npt.NDArray[np.float32]:
    try:
        latents = np.asarray(value, np.float32)
    except (TypeError, ValueError, OverflowError):
        raise InvalidArgument(f"latents: got {type(value).__name__}; expected a float array [{count}, {channels}, h, w]") from None
    if latents.ndim != 4 or latents.shape[:2] != (count, channels) or 0 in latents.shape:
        raise InvalidArgument(f"latents: got shape {list(latents.shape)}; expected [{count}, {channels}, h, w], one row per image")
    if not np.isfinite(latents).all():
        raise InvalidArgument("latents: got NaN or infinity; expected finite noise of unit variance")
    return latents


def _size(request: Request, latents: npt.NDArray[np.float32] | None, bundle: Bundle) -> tuple[int, int]:
    """Return (height, width): what was asked, else what given latents have, else the bundle's native size."""
    factor = bundle.latent_factor
    native = bundle.native_size if latents is None else (latents.shape[2] * factor, latents.shape[3] * factor)
    height = _side("height", native[0] if request.height is None else request.height, factor)
    width = _side("width", native[1] if request.width is None else request.width, factor)
    if latents is not None and (height, width) != native:
        raise InvalidArgument(
            f"latents: got {latents.shape[2]} x {latents.shape[3]}, which is {native[0]} x {native[1]} pixels (height x width), "
            f"for {height} x {width}; leave height and width out"
        )
    return height, width


def _side(name: str, value: SupportsIndex, factor: int) -> int:
    pixels = _integer(name, value, 1)
    largest = MAX_SIDE_PIXELS // factor * factor
    if pixels % factor or pixels > largest:
        below = min(max(pixels // factor * factor, factor), largest)
        nearest = dict.fromkeys((below, min(below + factor, largest)))
        raise InvalidArgument(
            f"{name}: got {pixels}; expected a multiple of {factor} up to {largest}; nearest: {' or '.join(str(side) for side in nearest)}"
        )
    return pixels
