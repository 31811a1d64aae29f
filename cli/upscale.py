"""`sd2rt upscale`: a small picture to a large one, and the same as a second pass over painted pictures."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from sd2rt.cli.console import Console
from sd2rt.cli.paint import Errand, Plan, open_pipeline, paint, read_model, run_job
from sd2rt.cli.paint_options import file_option, paint_options
from sd2rt.cli.preview import Preview
from sd2rt.engine.errors import InvalidArgument

if TYPE_CHECKING:
    from sd2rt.runtime.parameters import Parameters
    from sd2rt.runtime.result import Result, Timings

TASKS = ("upscaling",)
UPSCALERS = {"toyworld": "toyworld-upscaler"}  # of models that come with one


@click.command()
@click.argument("prompt", default="")
@file_option("image", "The small picture.", required=True)
@click.option("--noise-level", type=int, help="Noise put on the picture, which hides its faults; 0 is none.  [default: the model's, or 20]")
@paint_options(*TASKS, model="toyworld-upscaler", size=None)
def upscale(console: Console, errand: Errand, /, **asked: Any) -> None:
    """Upscale a picture, four times with Stability's model.

    PROMPT may say what the picture shows. Large pictures are worked on in overlapping tiles.

    \b
    Examples:
      sd2rt upscale --image small.png --out large.png
      sd2rt upscale "a white cat" --model ./x4 --image cat.png --noise-level 40 --steps 50 --out cat-large.png
    """
    paint(console, errand, asked)


def plan_upscaling(first: Plan, upscaler: str | None, *, tile: int | None = None, like: Parameters | None = None) -> Plan:
    """Plan a second pass over pictures that are not painted yet, each on its own, or `like` an earlier one. Raises as `prepare` does."""
    import numpy as np

    from sd2rt.runtime.engine_plan import choose_bundle_target
    from sd2rt.runtime.options import Request
    from sd2rt.runtime.parameters import call_options
    from sd2rt.runtime.request import resolve

    model = upscaler or UPSCALERS.get(first.errand.model)
    if model is None:
        raise InvalidArgument(f"--upscale: got no upscaler for {first.errand.model}; expected --upscaler BUNDLE, a model for upscaling")
    bundle = read_model("--upscaler", model, TASKS)
    choose_bundle_target(bundle, first.errand.target)  # what does not run is better told before the first pass
    blank = np.zeros((first.job.height, first.job.width, 3), np.uint8)
    asked = {"prompt": first.job.prompts[0], "tile": tile, "rng": first.job.rng, "weighting": first.job.weighting}
    job = resolve(Request(**(asked if like is None else call_options(like, bundle.size_multiple)), image=blank), bundle)
    watch = replace(first.errand.watch, kind="latent") if first.errand.watch.kind != "none" else first.errand.watch
    preview = Preview(watch, bundle, first.output.path(0, first.job.seeds[0]))  # it may have no tiny decoder, and its own is slow
    return replace(first, errand=replace(first.errand, tasks=TASKS, model=model), bundle=bundle, job=job, preview=preview)


def upscale_result(console: Console, plan: Plan, result: Result) -> tuple[Result, list[Timings]]:
    """Upscale the pictures of a result one by one, each with its own prompt and seed; return them as a result, and how long each took."""
    import numpy as np

    job, count = plan.job, len(result.seeds)
    assert job.source is not None  # the task has one
    console.note(f"upscaling {count} to {job.width} x {job.height}, {job.steps} steps of {job.sampler}")
    upscaled = []
    with open_pipeline(console, plan.errand, job) as pipe:
        for image, base in zip(result.images, result.parameters, strict=True):
            source = replace(job.source, images=np.asarray(image)[np.newaxis])
            one = replace(job, prompts=(base.prompt,), negative_prompts=(base.negative_prompt,), seeds=(base.seed,), source=source)
            upscaled.append(run_job(console, pipe, one, plan.preview))
    parameters = tuple(replace(base, upscaler=large.parameters[0]) for base, large in zip(result.parameters, upscaled, strict=True))
    return replace(result, images=[large.images[0] for large in upscaled], parameters=parameters), [large.timings for large in upscaled]
