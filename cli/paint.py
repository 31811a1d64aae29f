"""What the verbs that paint share: their options, and the way from a command line to PNG files.

`prepare` checks everything, `run` paints, `deliver` writes and reports; a verb may do something of its own between them. Knows no verb.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate

import click

from sd2rt.cli.console import Console, console_options
from sd2rt.cli.fewer import speed_options
from sd2rt.cli.output import OutputPlan, plan_output
from sd2rt.engine.errors import InvalidArgument

if TYPE_CHECKING:
    from sd2rt.runtime.bundle import Bundle
    from sd2rt.runtime.request import Job
    from sd2rt.runtime.result import Result
    from sd2rt.runtime.text_to_image import TextToImage

VERBS = {"text-to-image": "generate", "inpainting": "inpaint", "depth-to-image": "depth2img", "upscaling": "upscale"}  # by a model's task

PICTURE_SIZE = "the picture's, at most 2 x 2 native squares; one side alone keeps its shape"


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """What a command line says besides what to paint; `tasks` are those whose models serve the verb."""

    tasks: tuple[str, ...]
    model: str
    target: str
    out: str | None
    force: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """An errand found to be right: its model, the checked job, and where the pictures go."""

    errand: Errand
    bundle: Bundle
    job: Job
    output: OutputPlan


Verb = Callable[Concatenate[Console, Errand, ...], None]
Command = Callable[..., None]


def paint_options(*tasks: str, model: str, size: str | None = "the model's") -> Callable[[Verb], Command]:
    """Give a verb the options that all share, and call it with the console, its errand and, by keyword, what `prepare` takes.

    `tasks` are those of the models that serve it, `model` is its default, `size` says what width and height are by default (None: it
    has no such options).
    """
    sides = [click.option(f"--{side}", type=int, help=f"Pixels, a multiple of 8.  [default: {size}]") for side in ("width", "height")]
    options: list[Callable[[Command], Command]] = [
        click.option("-m", "--model", default=model, show_default=True, help="A bundle folder, or a model that sd2rt brings along."),
        click.option("--target", default="auto", show_default=True, help="What runs it; `sd2rt info` lists what works here."),
        click.option("--negative", "negative_prompt", default="", help="What the picture should not show."),
        click.option("--steps", type=int, help="Sampling steps.  [default: the model's]"),
        click.option(
            "--guidance", "guidance_scale", type=float, help="How closely to follow the prompt; 1 is off.  [default: the model's]"
        ),
        click.option(
            "--guidance-rescale", type=float, default=0.0, show_default=True, help="From 0 to 1; tames over-exposure at high guidance."
        ),
        *speed_options(),
        click.option("--sampler", help="Such as 'ddim', 'euler a' or 'dpm++ 2m karras'.  [default: the model's]"),
        click.option("--seed", type=int, help="Seed of the first picture, the next ones count up.  [default: random]"),
        *(sides if size else []),
        click.option(
            "--tile", type=int, help="Pixels a side of what is worked on at once in large pictures; 0 is all.  [default: by size]"
        ),
        click.option("-n", "--count", "images_per_prompt", type=int, default=1, show_default=True, help="Number of pictures."),
        click.option("-o", "--out", help="A .png file, or a folder for sd2rt-SEED.png.  [default: the current folder]"),
        click.option("--force", is_flag=True, help="Replace the file that --out names."),
    ]

    def decorate(verb: Verb) -> Command:
        @wraps(verb)
        def run_verb(console: Console, /, model: str, target: str, out: str | None, force: bool, **asked: Any) -> None:
            verb(console, Errand(tasks=tasks, model=model, target=target, out=out, force=force), **asked)

        command: Command = console_options(click.pass_obj(run_verb))
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def file_option(name: str, text: str, *, required: bool = False) -> Callable[[Command], Command]:
    """Give a verb an option for one file; the runtime says what is wrong with it. Twice is an error: one of the two would be lost."""

    def take_one(context: click.Context, parameter: click.Parameter, files: tuple[str, ...]) -> str | None:
        if len(files) > 1:
            raise click.BadParameter(f"got {len(files)} files; expected one", context, parameter)
        return files[0] if files else None

    return click.option(f"--{name}", metavar="FILE", multiple=True, required=required, callback=take_one, help=text)


def strength_option(default: str) -> Callable[[Command], Command]:
    """Give a verb `--strength`; `default` is the runtime's, in words."""
    return click.option("--strength", type=float, help=f"How much of the picture is given up: above 0, up to 1.  [default: {default}]")


def require_text(context: click.Context, parameter: click.Parameter, prompt: str) -> str:
    """Refuse an empty PROMPT where one is surely a mistake."""
    if not prompt.strip():
        raise InvalidArgument("PROMPT: got an empty text; expected a description of the picture")
    return prompt


def paint(console: Console, errand: Errand, asked: Mapping[str, Any]) -> None:
    """Paint what a command line asks for, write the pictures and print their paths."""
    plan = prepare(errand, asked)
    deliver(console, plan, run(console, plan))


def prepare(errand: Errand, asked: Mapping[str, Any]) -> Plan:
    """Check a command line before any work: the model, where pictures go, what runs it, and what to paint.

    `asked` is named as in `runtime.options.Request`. Pictures are read last. Raises InvalidArgument, ModelNotFound, BundleError or
    TargetUnavailable.
    """
    from sd2rt.engine.targets import choose_target
    from sd2rt.runtime.checks import check_integer
    from sd2rt.runtime.options import Request
    from sd2rt.runtime.request import MAX_IMAGES, resolve

    bundle = read_model("--model", errand.model, errand.tasks)
    count = check_integer("images_per_prompt", asked["images_per_prompt"], 1, MAX_IMAGES)
    output = plan_output(errand.out, pictures=count, force=errand.force)
    choose_target(errand.target)
    seed = int.from_bytes(os.urandom(4)) if asked["seed"] is None else asked["seed"]
    job = resolve(Request(**{**asked, "seed": seed}), bundle)
    return Plan(errand=errand, bundle=bundle, job=job, output=output)


def read_model(option: str, model: str, tasks: tuple[str, ...]) -> Bundle:
    """Read a model's bundle and check that it is for one of `tasks`. Raises InvalidArgument, ModelNotFound or BundleError."""
    from sd2rt.runtime.bundle import read_bundle
    from sd2rt.runtime.models import find_model

    bundle = read_bundle(find_model(model))
    if bundle.task not in tasks:
        what = f"{option}: got {model}, a model for {bundle.task}; expected one for {' or '.join(tasks)}"
        raise InvalidArgument(f"{what} (`sd2rt {VERBS[bundle.task]}` takes this one)")
    return bundle


def run(console: Console, plan: Plan) -> Result:
    """Load the model and paint. Raises as `runtime.load` does, and EngineError."""
    from sd2rt.runtime import load

    job = plan.job
    height, width = (job.height, job.width) if job.source is None else job.source.result_size
    if job.source is not None and job.source.scaled_from is not None:
        own = "{1:,} x {0:,}".format(*job.source.scaled_from)
        console.note(f"the picture, {own} pixels, is scaled down to {width} x {height}; --width or --height asks for another size")
    console.note(f"seed {job.seeds[0]}, {steps_text(job)} of {job.sampler}, {width} x {height}")
    with load(plan.errand.model, target=plan.errand.target, notify=console.note) as pipe:
        return run_job(console, pipe, job)


def run_job(console: Console, pipe: TextToImage, job: Job) -> Result:
    """Paint one job, with progress on stderr. Raises EngineError."""
    with console.progress("step") as progress:
        for state in pipe.paint(job):
            progress(state.index + 1, state.total)
        result = state.result()
    for cut in result.cut:
        console.note(f"too long for the model, which did not see the end: {cut.strip()!r}")
    console.note(f"painted in {result.timings['total']:.2f} s on {pipe.target}")
    return result


def steps_text(job: Job) -> str:
    """Word how many steps are taken: all, or those that the strength leaves."""
    from sd2rt.runtime.source import first_step

    left_out = 0 if job.source is None else first_step(job.steps, job.source.strength)
    return f"{job.steps - left_out} of {job.steps} steps" if left_out else f"{job.steps} steps"


def deliver(console: Console, plan: Plan, result: Result, more: Mapping[str, object] | None = None) -> None:
    """Write the pictures and print their paths, or JSON of them with what is in `more`. Raises InvalidArgument."""
    paths = save(result, plan.output)
    images = [{"path": str(path), **asdict(parameters)} for path, parameters in zip(paths, result.parameters, strict=True)]
    console.result({"images": images, "timings": result.timings, **(more or {})}, map(str, paths))


def save(result: Result, output: OutputPlan) -> list[Path]:
    """Write the pictures with their parameters and return their paths, in order."""
    from sd2rt.runtime.metadata import save_png

    output.folder.mkdir(parents=True, exist_ok=True)
    paths = [output.path(index, seed) for index, seed in enumerate(result.seeds)]
    for path, image, parameters in zip(paths, result.images, result.parameters, strict=True):
        save_png(image, path, parameters, force=output.force)
    return paths
