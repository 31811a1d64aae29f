"""What the verbs that paint share: the way from a command line to picture files.

`prepare` checks everything, `run` paints, `deliver` writes and reports; a verb may do something of its own between them. Knows no verb.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from sd2rt.cli.console import Console
from sd2rt.cli.output import FileOptions, OutputPlan, plan_output
from sd2rt.cli.preview import Preview
from sd2rt.cli.prompt_options import expand
from sd2rt.cli.save import Saved, save_result
from sd2rt.cli.watch import Watch
from sd2rt.engine.errors import InvalidArgument, OutputError

if TYPE_CHECKING:
    from sd2rt.runtime.bundle import Bundle
    from sd2rt.runtime.request import Job
    from sd2rt.runtime.result import Result, Timings
    from sd2rt.runtime.text_to_image import TextToImage

VERBS = {"text-to-image": "generate", "inpainting": "inpaint", "depth-to-image": "depth2img", "upscaling": "upscale"}  # by a model's task


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """What a command line says besides what to paint; `tasks` are those whose models serve the verb."""

    tasks: tuple[str, ...]
    model: str
    target: str
    out: str | None
    force: bool
    low_memory: bool
    precision: str = "auto"
    file: FileOptions = field(default_factory=FileOptions)
    watch: Watch = field(default_factory=Watch)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """An errand found to be right: its model, the checked job, where the pictures go, and what is seen of them before."""

    errand: Errand
    bundle: Bundle
    job: Job
    output: OutputPlan
    preview: Preview


def paint(console: Console, errand: Errand, asked: Mapping[str, Any]) -> None:
    """Paint what a command line asks for, write the pictures and print their paths."""
    plan = prepare(console, errand, asked)
    deliver(console, plan, run(console, plan))


def prepare(console: Console, errand: Errand, asked: Mapping[str, Any]) -> Plan:
    """Check a command line before any work: where pictures go, the model, which may have to be made, what runs it, and what to paint.

    `asked` is named as in `runtime.options.Request`. Pictures are read last. Raises InvalidArgument, TargetUnavailable, as `open_model`.
    """
    from sd2rt.runtime.checks import check_integer
    from sd2rt.runtime.engine_plan import choose_bundle_target
    from sd2rt.runtime.options import Request
    from sd2rt.runtime.request import MAX_IMAGES, resolve

    count = check_integer("images_per_prompt", asked["images_per_prompt"], 1, MAX_IMAGES)
    request = expand({**asked, **draw_seeds(asked)}, MAX_IMAGES)
    pictures = count if isinstance(request["prompt"], str) else len(request["prompt"])
    output = plan_output(errand.out, pictures=pictures, force=errand.force, options=errand.file)
    errand, bundle = open_model(console, errand)
    target = choose_bundle_target(bundle, errand.target)
    job = resolve(Request(**request), bundle)
    check_records(job, bundle, target, output, errand.precision)
    preview = Preview(errand.watch, bundle, output.path(0, job.seeds[0]))
    return Plan(errand=errand, bundle=bundle, job=job, output=output, preview=preview)


def make_job(asked: Mapping[str, Any], bundle: Bundle) -> Job:
    """Make a job of what is asked for, with random seeds where none are said. Raises InvalidArgument."""
    from sd2rt.runtime.options import Request
    from sd2rt.runtime.request import MAX_IMAGES, resolve

    return resolve(Request(**expand({**asked, **draw_seeds(asked)}, MAX_IMAGES)), bundle)


def check_records(job: Job, bundle: Bundle, target: str, output: OutputPlan, precision: str) -> None:
    """Raise InvalidArgument where what a job's files tell of it does not fit into them: that is better told before painting."""
    from sd2rt.runtime.metadata import embed
    from sd2rt.runtime.record import record

    for parameters in record(job, bundle, target, 0, precision) if output.metadata else ():
        embed(parameters, output.format, output.quality)


def draw_seeds(asked: Mapping[str, Any]) -> dict[str, int]:
    """Return random seeds for those that a command line leaves out and its pictures need."""
    needed = ["seed"] + ["variation_seed"] * bool(asked.get("variation_strength"))
    return {name: int.from_bytes(os.urandom(4)) for name in needed if asked.get(name) is None}


def open_model(console: Console, errand: Errand) -> tuple[Errand, Bundle]:
    """Return an errand with the bundle of its model, which is made where it is none yet. Raises as `ready_model` and `read_model`."""
    from sd2rt.cli.ready_model import ready_model

    ready = replace(errand, model=ready_model(console, errand.model))
    return ready, read_model("--model", ready.model, ready.tasks)


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
    job = plan.job
    height, width = (job.height, job.width) if job.source is None else job.source.result_size
    if job.source is not None and job.source.scaled_from is not None:
        own = "{1:,} x {0:,}".format(*job.source.scaled_from)
        kept = "" if job.source.paste is None else ", what is kept too"
        console.note(f"got {own} pixels, scaled down to {width} x {height}{kept}; --width or --height asks for another size")
    if len(set(job.prompts)) > 1:
        console.note(f"{len(job.prompts)} pictures of {len(set(job.prompts))} prompts")
    console.note(f"seed {job.seeds[0]}, {steps_text(job)} of {job.sampler}, {width} x {height}")
    with open_pipeline(console, plan.errand, job) as pipe:
        return run_job(console, pipe, job, plan.preview)


def open_pipeline(console: Console, errand: Errand, job: Job) -> TextToImage:
    """Load an errand's model as a job needs it. Raises as `runtime.load` does."""
    from sd2rt.runtime import load
    from sd2rt.runtime.evaluations import is_deep
    from sd2rt.runtime.options import Expected

    expect = Expected(deep_cache=is_deep(job.evaluations), decoder=job.decoder, clip_skip=job.clip_skip)
    return load(errand.model, errand.target, notify=console.note, low_memory=errand.low_memory, precision=errand.precision, expect=expect)


def run_job(console: Console, pipe: TextToImage, job: Job, preview: Preview, label: str = "step", after_s: float = 0.0) -> Result:
    """Paint one job, with progress on stderr under a label; `after_s` is how long what follows will take. Raises EngineError."""
    with preview.running(draw=not console.quiet) as file:
        if file is not None:
            console.note(f"what it is going to be: {file}")
        with console.progress(label, after_s) as progress:
            for state in pipe.paint(job):
                progress(state.index + 1, state.total)
                preview.after(state)
            result = state.result()
    for cut in result.cut:
        console.note(f"too long for the model, which did not see the end: {cut.strip()!r}")
    console.note(f"painted in {result.timings['total']:.2f} s on {pipe.target}")
    console.detail(timings_text(result.timings))
    return result


def timings_text(timings: Timings) -> str:
    """Word how long each stage took."""
    steps = timings["steps"]
    each = f"steps {sum(steps):.2f} s ({len(steps)} of {1000 * sum(steps) / max(len(steps), 1):.1f} ms)"
    before = f"load {timings['load']:.2f} s, encode {timings['encode']:.2f} s, text {timings['text']:.2f} s"
    return f"{before}, {each}, decode {timings['decode']:.2f} s"


def steps_text(job: Job) -> str:
    """Word how many steps are taken: all, or those that the strength leaves."""
    from sd2rt.runtime.source import first_step

    left_out = 0 if job.source is None else first_step(job.steps, job.source.strength)
    return f"{job.steps - left_out} of {job.steps} steps" if left_out else f"{job.steps} steps"


def deliver(console: Console, plan: Plan, result: Result, more: Mapping[str, object] | None = None) -> None:
    """Write the pictures and print their paths, or JSON of them with what is in `more`. Raises OutputError, after both, where one had to
    go elsewhere."""
    report(console, result, save_result(result, plan.output), more)


def report(console: Console, result: Result, saved: Saved, more: Mapping[str, object] | None = None) -> None:
    """Print where the pictures of a result are, or JSON of them with what is in `more`. Raises OutputError where one is elsewhere."""
    shallow = {"shallow_rows": result.shallow_rows}
    paired = zip(saved.paths, result.parameters, strict=True)
    images = [{"path": str(path), **asdict(parameters), **shallow} for path, parameters in paired]
    console.result({"images": images, "timings": result.timings, **(more or {})}, map(str, saved.paths))
    if saved.problem:
        raise OutputError(saved.problem)
