"""What a client is told whose order takes engines that are not built: what was asked, what there is, and what its operator can do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sd2rt.engine.errors import InvalidArgument
from sd2rt.engine.manifest import Field
from sd2rt.runtime.bundle import Bundle
from sd2rt.runtime.device_plans import DevicePlans, device_tiles, runs_on_host
from sd2rt.runtime.device_shape import Shape
from sd2rt.runtime.engine_plan import choose_guidance, prompt_length
from sd2rt.runtime.evaluations import is_uniform
from sd2rt.runtime.options import Decoder
from sd2rt.runtime.request import Job
from sd2rt.runtime.tiles import Tiles
from sd2rt.serve.order import Order

MOST_TOLD = 5  # kinds of engines


def refusal(order: Order, job: Job, shape: Shape, plans: DevicePlans, built: Iterable[Field], most: int) -> InvalidArgument:
    """Return the error for an order; `built` are the axes of the UNet's engines that differ from it in nothing else."""
    bundle = plans.bundle
    got = f"{shape.width} x {shape.height} pixels (width x height), {_pictures(shape.images)}{_more(order, job, shape, bundle)}"
    found = list(dict.fromkeys(_told(axes, bundle) for axes in built if isinstance(axes, Mapping)))
    there = " or ".join(found[:MOST_TOLD]) or f"none such of {order.model}"
    remedy = "restart it with --build-engines"
    if not runs_on_host(job) and shape.clip_skip == 1 and not preview_decoders(order, job):  # which the command does not build for
        remedy = f"run {_command(order.model, shape, plans, max(most, shape.images))}, or {remedy}"
    return InvalidArgument(
        f"width, height and n: got {got}; expected what {plans.target} engines are built for: {there}; to change that, {remedy}"
    )


def preview_decoders(order: Order, job: Job) -> tuple[Decoder, ...]:
    """Return the decoders that an order's previews take besides its job's own."""
    others = order.previews and order.preview_decoder not in ("latent", job.decoder)
    return (order.preview_decoder,) if others and order.preview_decoder != "latent" else ()


def _more(order: Order, job: Job, shape: Shape, bundle: Bundle) -> str:
    """Say what else engines depend on, where it is not usual."""
    said = {
        f"prompts of {shape.chunks} parts of 75 tokens": shape.chunks > 1,
        f"clip_skip {shape.clip_skip}": shape.clip_skip > 1,
        f"{shape.guidance} steps": shape.guidance is not choose_guidance(bundle.defaults.guidance_scale, 0.0),
        "a part that is kept": shape.kept,
        "tiles": device_tiles(job) != Tiles(),
        "steps that are not all alike": not is_uniform(job.evaluations),
        f"previews by the {order.preview_decoder} decoder": bool(preview_decoders(order, job)),
    }
    return "".join(f", {what}" for what, holds in said.items() if holds)


def _told(axes: Mapping[str, Any], bundle: Bundle) -> str:
    """Say for what an engine of the UNet is built."""
    factor, tokens = bundle.latent_factor, prompt_length(bundle)
    sides = [[side * factor for side in axes[name]] for name in ("width", "height")]
    low, high = (f"{sides[0][end]} x {sides[1][end]}" for end in (0, 2))
    longest = axes["sequence"][2] // tokens if "sequence" in axes else 1
    parts = f", prompts of up to {longest} parts" if longest > 1 else ""
    fewest, _, most = axes["images"]
    pictures = _pictures(most) if fewest == most else f"{fewest} to {_pictures(most)}"
    return f"{low}{'' if low == high else f' to {high}'}, {pictures}{parts}"


def _pictures(count: int) -> str:
    return f"{count} picture{'s' if count > 1 else ''}"


def _command(model: str, shape: Shape, plans: DevicePlans, most: int) -> str:
    """Return what builds engines for an order on a device."""
    options = [f"--target {plans.target} --size {shape.width}x{shape.height}"]
    options += [f"--batch 1..{most}"] if most > 1 else []
    options += [f"--chunks 1..{shape.chunks}"] if shape.chunks > 1 else []
    if shape.guidance is not choose_guidance(plans.bundle.defaults.guidance_scale, 0.0):
        options.append(f"--guidance {shape.guidance}")
    options += ["--inpaint"] if shape.kept else []
    return f"`sd2rt build {model} {' '.join(options)}`"
