"""The job that a call comes to: every argument checked, the bundle's defaults filled in, pictures read, the sampler laid out.

Every bad value ends here, as InvalidArgument with what was got, what was expected and what to do. Knows no engine.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from functools import lru_cache
from typing import get_args

import numpy as np
import numpy.typing as npt

from sd2rt.engine.errors import BundleError, InvalidArgument
from sd2rt.runtime.bundle import Bundle
from sd2rt.runtime.checks import check_finite, check_integer, check_interval, check_one_text, check_side, check_texts
from sd2rt.runtime.decoders import check_decoder
from sd2rt.runtime.evaluations import WHOLE_RUN, Evaluations, Mode, Shortcuts, plan_evaluations
from sd2rt.runtime.guidance import is_guided
from sd2rt.runtime.noise import Variation
from sd2rt.runtime.options import Decoder, Output, Request, Rng
from sd2rt.runtime.picture_task import choose_task
from sd2rt.runtime.prompt_weights import check_weights
from sd2rt.runtime.read_source import read_source
from sd2rt.runtime.samplers import SamplerName, make_table, parse_sampler
from sd2rt.runtime.schedule import Schedule
from sd2rt.runtime.seeds import read_seeds
from sd2rt.runtime.source import Source, first_step
from sd2rt.runtime.speed import apply_speed
from sd2rt.runtime.table import Table
from sd2rt.runtime.tiles import Tiles, choose_tiles

MAX_STEPS = 1000  # what the models were trained with; tables grow with it
MAX_IMAGES = 256  # of one call; they are one batch of the UNet


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
    shortcuts: Shortcuts
    height: int
    width: int
    latents: npt.NDArray[np.float32] | None
    output: Output
    rng: Rng = "torch"
    variation: Variation | None = None
    decoder: Decoder = "vae"
    task: str = "text-to-image"
    source: Source | None = None
    tiles: Tiles = field(default_factory=Tiles)
    weighting: bool = True
    clip_skip: int = 1

    @property
    def guided(self) -> bool:
        """Whether any row is; an interval may leave none."""
        return any(evaluation.mode is Mode.GUIDED for evaluation in self.evaluations)

    @property
    def texts(self) -> tuple[tuple[str, ...], ...]:
        """What each image is painted with: its prompt and, where it is guided, its negative prompt."""
        return tuple(zip(self.prompts, self.negative_prompts, strict=True)) if self.guided else tuple((prompt,) for prompt in self.prompts)

    @property
    def evaluations(self) -> Evaluations:
        """How each of the table's rows is evaluated."""
        return plan_evaluations(len(self.table.rows), guided=is_guided(self.guidance_scale), shortcuts=self.shortcuts)


def read_schedule(bundle: Bundle) -> Schedule:
    """Return the noise schedule that the bundle's scheduler config describes. Raises BundleError for one that no table can follow."""
    try:
        return _schedule(json.dumps({**bundle.scheduler, "prediction_type": bundle.prediction_type}))
    except InvalidArgument as error:
        raise BundleError(f"{bundle.folder}: {error}") from error


@lru_cache(maxsize=64)
def _schedule(config: str) -> Schedule:
    """Return the schedule of a config; the same one for the same config, so that tables are found again."""
    return Schedule.from_config(json.loads(config))


@lru_cache(maxsize=32)
def _table(sampler: SamplerName, schedule: Schedule, steps: int, first: int) -> Table:
    """Return the table of a run. Galleries and servers ask for the same ones again and again, and a long one takes milliseconds."""
    return make_table(sampler, schedule, steps, first=first)


def resolve(request: Request, bundle: Bundle) -> Job:
    """Check a request, fill in the bundle's defaults and lay out the sampling. Raises InvalidArgument, and BundleError as read_schedule."""
    request = apply_speed(request, bundle.defaults)
    prompts, negatives = _texts(request)
    per_prompt = check_integer("images_per_prompt", request.images_per_prompt, 1, MAX_IMAGES)
    count = len(prompts) * per_prompt
    if count > MAX_IMAGES:
        raise InvalidArgument(
            f"got {len(prompts)} prompts of {per_prompt} images; expected at most {MAX_IMAGES} images a call, make several"
        )
    seeds, variation = read_seeds(request, count)
    if request.output not in get_args(Output):
        raise InvalidArgument(f"output: got {request.output!r}; expected one of {', '.join(get_args(Output))}")
    latents = None if request.latents is None else _latents(request.latents, count, bundle.latent_channels)
    task = choose_task(request, bundle)
    source = read_source(request, task, len(prompts), bundle)
    height, width = _size(request, source, latents, bundle)
    defaults = bundle.defaults
    guidance_scale = defaults.guidance_scale if request.guidance_scale is None else request.guidance_scale
    steps = check_integer("steps", defaults.steps if request.steps is None else request.steps, 1, MAX_STEPS)
    sampler = parse_sampler(check_one_text("sampler", defaults.sampler if request.sampler is None else request.sampler))
    return Job(
        prompts=tuple(prompt for prompt in prompts for _ in range(per_prompt)),
        negative_prompts=tuple(text for text in (negatives * count)[: len(prompts)] for _ in range(per_prompt)),
        seeds=seeds,
        steps=steps,
        guidance_scale=check_finite("guidance_scale", guidance_scale, -math.inf, math.inf),
        guidance_rescale=check_finite("guidance_rescale", request.guidance_rescale, 0.0, 1.0),
        sampler=sampler,
        table=_table(sampler, read_schedule(bundle), steps, 0 if source is None else first_step(steps, source.strength)),
        shortcuts=_shortcuts(request),
        height=height,
        width=width,
        latents=latents,
        output=request.output,
        rng=request.rng,
        variation=variation,
        decoder=check_decoder(request.decoder, bundle),
        task=task,
        source=source,
        weighting=request.weighting,
        clip_skip=1 if request.clip_skip is None else check_integer("clip_skip", request.clip_skip, 1),
        tiles=choose_tiles(task, (height, width), None if request.tile is None else check_integer("tile", request.tile, 0), bundle),
    )


def _texts(request: Request) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Check prompts and negative prompts."""
    prompts = check_texts("prompt", request.prompt)
    negatives = check_texts("negative_prompt", "" if request.negative_prompt is None else request.negative_prompt)
    if len(negatives) not in (1, len(prompts)):
        raise InvalidArgument(f"negative_prompt: got {len(negatives)} texts for {len(prompts)} prompts; expected one, or one per prompt")
    if not isinstance(request.weighting, bool):
        raise InvalidArgument(f"weighting: got {str(request.weighting)[:80]!r}; expected True or False")
    if request.weighting:
        for name, texts in (("prompt", prompts), ("negative_prompt", negatives)):
            for text in dict.fromkeys(texts):
                check_weights(name, text)
    return prompts, negatives


def _shortcuts(request: Request) -> Shortcuts:
    """Check what is left out of the run."""
    interval, reuse, deep_cache = request.guidance_interval, request.guidance_reuse, request.deep_cache
    return Shortcuts(
        interval=WHOLE_RUN if interval is None else check_interval("guidance_interval", interval),
        reuse=1 if reuse is None else check_integer("guidance_reuse", reuse, 1),
        deep_cache=1 if deep_cache is None else check_integer("deep_cache", deep_cache, 1),
    )


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


def _size(request: Request, source: Source | None, latents: npt.NDArray[np.float32] | None, bundle: Bundle) -> tuple[int, int]:
    """Return (height, width): the pictures', or what was asked, else what given latents have, else the bundle's native size."""
    factor, multiple = bundle.latent_factor, bundle.size_multiple
    usual = bundle.native_size if latents is None else (latents.shape[2] * factor, latents.shape[3] * factor)
    if source is not None:
        height, width = source.height, source.width
    else:
        height = check_side("height", usual[0] if request.height is None else request.height, multiple)
        width = check_side("width", usual[1] if request.width is None else request.width, multiple)
    if latents is not None and (height, width) != usual:
        raise InvalidArgument(
            f"latents: got {latents.shape[2]} x {latents.shape[3]}, which is {usual[0]} x {usual[1]} pixels (height x width), "
            f"for {height} x {width}; {'leave height and width out' if source is None else 'expected those of the picture'}"
        )
    return height, width
