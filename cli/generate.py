"""`sd2rt generate`: a prompt to pictures, upscaled on request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from sd2rt.cli.choices import on_command_line
from sd2rt.cli.console import Console
from sd2rt.cli.output import name_bases
from sd2rt.cli.paint import Errand, Plan, deliver, prepare, report, run
from sd2rt.cli.paint_options import paint_options, require_text
from sd2rt.cli.save import save_result
from sd2rt.cli.upscale import plan_upscaling, upscale_result
from sd2rt.engine.errors import first_line

if TYPE_CHECKING:
    from sd2rt.runtime.result import Result

UPSCALE = (
    "Upscale the pictures with a second model, at its own steps, sampler and guidance: --speed, the --guidance options and --deep-cache"
    " are for the first."
)


@click.command()
@click.argument("prompt", callback=require_text)
@click.option("--upscale", is_flag=True, help=UPSCALE)
@click.option("--upscaler", metavar="BUNDLE", help="That model; given here, it implies --upscale.  [default: toyworld's own, for toyworld]")
@paint_options("text-to-image", model="toyworld")
def generate(console: Console, errand: Errand, /, upscale: bool, upscaler: str | None, **asked: Any) -> None:
    """Paint PROMPT and print the paths of the pictures.

    With -n 4, `--out red.png` gives red-1.png to red-4.png. In a folder, existing pictures are never replaced.
    If upscaling fails, `red-base.png` is what was painted first.
    The first use of a model builds its engines. Every file carries its parameters: `sd2rt reproduce` paints it again.

    \b
    Examples:
      sd2rt generate "a large red sphere on the left and a small blue cube on the right"
      sd2rt generate "a green cone" --seed 7 --steps 25 --sampler "dpm++ 2m karras" --out cone.png
      sd2rt generate "a lighthouse at dusk" --model ./sd21 --negative "blurry" -n 4 --out pictures/
      sd2rt generate "a lighthouse at dusk" --model ./sd21 --upscaler ./x4 --out large.png
      sd2rt generate "a blue cube" --json | jq -r '.images[].path'
    """
    from sd2rt.cli.ready_model import ready_model

    plan = prepare(console, errand, asked)
    if not upscale and not on_command_line("upscaler"):
        return deliver(console, plan, run(console, plan))
    upscaler = upscaler and ready_model(console, upscaler)
    return deliver_upscaled(console, plan, plan_upscaling(plan, upscaler, tile=asked["tile"]))


def deliver_upscaled(console: Console, plan: Plan, second: Plan) -> None:
    """Paint what a plan says, upscale it as a second one does, write the pictures and print their paths."""
    base = run(console, plan)
    try:
        large, timings = upscale_result(console, second, base)
        saved = save_result(large, plan.output)
    except BaseException:  # an interruption too: what is painted is not lost
        rescue(console, plan, base)
        raise
    return report(console, large, saved, {"upscaling": timings})


def rescue(console: Console, plan: Plan, base: Result) -> None:
    """Write pictures that were not upscaled, or say why that fails too. Raises nothing but an interruption."""
    try:
        saved = save_result(base, name_bases(plan.output, base.seeds))
    except Exception as error:  # the caller is about to raise what went wrong first
        return console.note(f"not upscaled, and what was first painted is lost: {first_line(error)}")
    return console.note(f"not upscaled; as first painted: {', '.join(map(str, saved.paths))}")
