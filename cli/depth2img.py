"""`sd2rt depth2img`: a picture's depth and a prompt to a picture."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sd2rt.cli.console import Console
from sd2rt.cli.paint import Errand, Plan, deliver, prepare, report, run
from sd2rt.cli.paint_options import PICTURE_SIZE, file_option, paint_options, require_text, strength_option
from sd2rt.cli.save import save_result
from sd2rt.engine.errors import InvalidArgument, first_line

if TYPE_CHECKING:
    from sd2rt.runtime.depth_map import Depth


@click.command()
@click.argument("prompt", callback=require_text)
@file_option("image", "The picture to begin from.")
@file_option("depth", "Its depth, brighter is nearer, also as .npy; any size.  [default: estimated]")
@click.option("--save-depth", metavar="FILE", help="Write the depth there as a 16-bit gray .png, brighter is nearer.")
@strength_option("the model's, or 0.8; 1 without --image")
@paint_options("depth-to-image", model="toyworld-depth", size=PICTURE_SIZE)
def depth2img(console: Console, errand: Errand, /, save_depth: str | None, **asked: Any) -> None:
    """Paint a picture of the same depth, after PROMPT.

    Needs --image, --depth or both. With --depth alone the picture is all new. toyworld-depth estimates no depth and needs --depth.

    \b
    Examples:
      sd2rt depth2img "a large green cube on the left" --depth scene-depth.png --out green.png
      sd2rt depth2img "a stone statue" --model ./sd2-depth --image person.jpg --save-depth person-depth.png
      sd2rt depth2img "a bronze statue" --model ./sd2-depth --depth person-depth.png --out bronze.png
    """
    plan = prepare(console, errand, asked)
    if save_depth is None:
        return deliver(console, plan, run(console, plan))
    path = check_depth_file(save_depth, plan)
    depth = find_depth(console, plan)
    assert plan.job.source is not None  # the task has one
    result = run(console, replace(plan, job=replace(plan.job, source=replace(plan.job.source, depth=depth))))
    saved = save_result(result, plan.output)
    try:
        write_depth(depth, path, plan)
        console.note(f"the depth is in {path}")
    except (OSError, ValueError) as error:  # told after the pictures, which are there
        problems = [saved.problem] * bool(saved.problem) + [f"the depth is not saved: {first_line(error)}"]
        return report(console, result, replace(saved, problem="; ".join(problems)), {"depth": None})
    return report(console, result, saved, {"depth": str(path)})


def check_depth_file(name: str, plan: Plan) -> Path:
    """Return the depth's path after trying whether it can be written. Raises InvalidArgument."""
    from sd2rt.runtime.picture_file import check_destination

    path = Path(name)
    if path.absolute() in [file.absolute() for file in plan.output.files]:
        raise InvalidArgument(f"--save-depth: got {path}, where --out puts a picture; name another file")
    check_destination(path, force=plan.errand.force, formats=("png",))
    return path


def find_depth(console: Console, plan: Plan) -> Depth:
    """Return the depth that was given, or else what the model estimates."""
    from sd2rt.runtime.depth import open_and_estimate

    source, errand = plan.job.source, plan.errand
    assert source is not None
    if source.depth is not None:
        return source.depth
    images = source.images if source.originals is None else source.originals
    assert images is not None  # the request's check
    depth: Depth = open_and_estimate(images, plan.bundle, errand.target, console.note, precision=errand.precision)[0]
    return depth


def write_depth(depth: Depth, path: Path, plan: Plan) -> None:
    """Write the depth at the pictures' size. Raises InvalidArgument."""
    from sd2rt.runtime.depth import to_image
    from sd2rt.runtime.picture_file import save_picture

    save_picture(to_image(depth, (plan.job.height, plan.job.width)), path, None, force=plan.errand.force)
