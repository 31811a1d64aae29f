"""What an order may ask for: its limits before anything is decoded, then everything else by the runtime's own checks."""

from __future__ import annotations

import math
import os
from collections.abc import Hashable
from dataclasses import dataclass, fields, replace
from typing import Any

from sd2rt.engine.errors import InvalidArgument
from sd2rt.runtime.bundle import Bundle
from sd2rt.runtime.checks import check_borders, check_integer, check_texts
from sd2rt.runtime.join import join_key
from sd2rt.runtime.options import Request
from sd2rt.runtime.picture_file import SUFFIXES
from sd2rt.runtime.picture_size import choose_size
from sd2rt.runtime.portions import split_job
from sd2rt.runtime.request import Job
from sd2rt.serve.built_engines import Fit
from sd2rt.serve.offers import Offer
from sd2rt.serve.order import PICTURES, Order
from sd2rt.serve.resolve_order import resolve_order, upload_sizes
from sd2rt.serve.settings import Limits

NOT_FROM_CLIENTS = (*PICTURES, "latents", "output")
OPTIONS = tuple(field.name for field in fields(Request) if field.name not in NOT_FROM_CLIENTS)
"""What `Order.options` may hold."""
UPSCALED_SQUARES = 4  # native squares that an upscaler's result may have for each one that another picture may have


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """An order found to be right, its seeds said, and what it comes to. `key` is equal for orders that can be painted together.

    `batch_sizes` are the numbers of pictures to which they are joined.
    """

    order: Order
    seeds: tuple[int, ...]
    width: int
    height: int
    steps: int
    total_steps: int
    key: Hashable | None
    batch_sizes: tuple[int, ...] = (1,)


def check_limits(order: Order, bundle: Bundle, limits: Limits) -> None:
    """Raise InvalidArgument for an order that asks for too much. Decodes no picture, and takes no time that grows with one."""
    options = order.options
    stray = [name for name in options if name not in OPTIONS] + [name for name in order.pictures if name not in PICTURES]
    if stray:
        raise InvalidArgument(f"{stray[0][:80]}: got it, but there is no such option; expected one of {', '.join((*OPTIONS, *PICTURES))}")
    prompts = check_texts("prompt", options.get("prompt", ()))
    _check_prompts(prompts, options.get("negative_prompt"), limits)
    count = len(prompts) * check_integer("images_per_prompt", options.get("images_per_prompt", 1), 1, limits.images)
    if count > limits.images:
        raise InvalidArgument(f"images_per_prompt: got {count} pictures of {len(prompts)} prompts; expected at most {limits.images}")
    if options.get("steps") is not None:
        check_integer("steps", options["steps"], 1, limits.steps)
    check_integer("previews", order.previews, 0, limits.steps)
    check_integer("quality", order.quality, 1, 100)
    if order.format not in SUFFIXES:
        raise InvalidArgument(f"format: got {str(order.format)[:80]!r}; expected one of {', '.join(SUFFIXES)}")
    _check_pictures(order, bundle, limits)


def admit(order: Order, offer: Offer, limits: Limits) -> Admitted:
    """Check an order whole, after its limits. Raises InvalidArgument, and BundleError for a model that is gone."""
    order = replace(order, options={**order.options, **draw_seeds(order.options)})
    job = resolve_order(order, offer.bundle)
    check_painted(job, offer.bundle, limits)
    check_metadata(order, job, offer.bundle)
    fit = Fit(batch_sizes=offer.batch_sizes) if offer.engines is None else offer.engines.fit(order, job)
    height, width = (job.height, job.width) if job.source is None else job.source.result_size
    key = join_key(job)
    return Admitted(
        order=replace(order, portion=fit.portion),
        seeds=job.seeds,
        width=width,
        height=height,
        steps=job.steps,
        total_steps=len(job.table.rows) * len(split_job(job, fit.portion)),
        key=None if key is None or fit.portion else (order.model, fit.chunks, key),
        batch_sizes=fit.batch_sizes,
    )


def draw_seeds(options: Any) -> dict[str, int]:
    """Return random seeds for those that an order leaves out and its pictures need."""
    needed = ["seed"] + ["variation_seed"] * bool(options.get("variation_strength"))
    return {name: int.from_bytes(os.urandom(4)) for name in needed if options.get(name) is None}


def check_painted(job: Job, bundle: Bundle, limits: Limits) -> None:
    """Raise InvalidArgument for more pixels than may be painted; what a model's own multiples add does not count."""
    squares = limits.native_squares * (UPSCALED_SQUARES if job.task == "upscaling" else 1)
    most, less = squares * math.prod(bundle.native_size), bundle.size_multiple - 1
    if (job.height - less) * (job.width - less) > most:
        raise _too_large("width and height", (job.height, job.width), most)


def check_metadata(order: Order, job: Job, bundle: Bundle) -> None:
    """Raise InvalidArgument where what a job's files tell of it does not fit into them: that is better told before painting."""
    if order.metadata and order.format == "jpeg":
        from sd2rt.runtime.metadata import embed
        from sd2rt.runtime.record import record

        for parameters in record(job, bundle, "", 0):
            embed(parameters, order.format, order.quality)


def _check_prompts(prompts: tuple[str, ...], negative: Any, limits: Limits) -> None:
    negatives = () if negative is None or negative == [] else check_texts("negative_prompt", negative)
    for name, texts in (("prompt", prompts), ("negative_prompt", negatives)):
        longest = max(map(len, texts), default=0)
        if longest > limits.prompt_characters:
            raise InvalidArgument(f"{name}: got {longest:,} characters; expected at most {limits.prompt_characters:,}")


def _check_pictures(order: Order, bundle: Bundle, limits: Limits) -> None:
    """Check sizes as the files' heads tell them, and those of what would be painted."""
    options = order.options
    sizes = upload_sizes(order.pictures)
    for name, size in sizes.items():
        _check_upload(name, size, limits)
    own = sizes.get("image") or sizes.get("depth")
    if options.get("expand") is not None and own is not None:
        left, top, right, bottom = check_borders("expand", options["expand"])
        own = (own[0] + top + bottom, own[1] + left + right)
        _check_upload("expand", own, limits)
    asked = {name: options[name] for name in ("width", "height") if options.get(name) is not None}
    most = limits.native_squares * math.prod(bundle.native_size)
    if bundle.task == "upscaling":
        if own is not None and math.prod(own) * bundle.latent_factor**2 > most * UPSCALED_SQUARES:
            raise _too_large("image", own, most * UPSCALED_SQUARES / bundle.latent_factor**2)
    elif asked:
        painted = choose_size(Request(prompt="", **asked), own or bundle.native_size, bundle)
        if painted.height * painted.width > most:
            raise _too_large("width and height", (painted.height, painted.width), most)


def _check_upload(name: str, size: tuple[int, int], limits: Limits) -> None:
    if not 0 < math.prod(size) <= limits.upload_pixels:
        raise _too_large(name, size, limits.upload_pixels)


def _too_large(name: str, size: tuple[int, int], most: float) -> InvalidArgument:
    got, side = f"{size[1]:,} x {size[0]:,} pixels (width x height)", math.isqrt(int(most))
    return InvalidArgument(f"{name}: got {got}; expected at most {int(most):,} of them, such as {side:,} x {side:,}")
