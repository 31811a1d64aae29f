"""`sd2rt reproduce`: a picture painted again from what its file says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sd2rt.cli.choices import precision_option
from sd2rt.cli.console import Console, console_options
from sd2rt.cli.file_options import file_options, take_file
from sd2rt.cli.generate import deliver_upscaled
from sd2rt.cli.options import add_options
from sd2rt.cli.output import FileOptions, is_folder
from sd2rt.cli.paint import Errand, Plan, deliver, prepare, run
from sd2rt.cli.paint_options import file_option
from sd2rt.cli.upscale import plan_upscaling
from sd2rt.cli.watch import preview_options, take_watch
from sd2rt.engine.errors import InvalidArgument, Sd2rtError, TargetUnavailable
from sd2rt.runtime.parameters import Parameters

if TYPE_CHECKING:
    from sd2rt.runtime.bundle import Bundle
    from sd2rt.runtime.recipe import Recipe

PICTURES = ("image", "mask", "depth")
DIFFERS = "what is painted will differ"
USUAL = {field.name: field.default for field in fields(Parameters) if field.default is not MISSING and field.name != "task"}


@click.command()
@click.argument("picture", metavar="IMAGE")
@click.option("--show", is_flag=True, help="Only tell how the picture was made; with --json, as JSON.")
@click.option("-m", "--model", help="The bundle that painted it.  [default: found by its SHA-256]")
@click.option("--upscaler", metavar="BUNDLE", help="The bundle that upscaled it.  [default: found by its SHA-256]")
@click.option("--target", help="What runs it.  [default: what painted it]")
@precision_option
@click.option("--sampler", help="Another sampler, where sd2rt does not have the picture's.")
@file_option("image", "The picture that it was made from, if any.")
@file_option("mask", "The mask, if any.")
@file_option("depth", "The depth, if it was given.")
@add_options([*file_options(), *preview_options()])
@click.option("--low-memory", is_flag=True, help="Open one network at a time: less memory, more time, the same picture.")
@console_options
@click.pass_obj
def reproduce(console: Console, /, picture: str, show: bool, **said: Any) -> None:
    """Paint IMAGE again, from what its file says of how it was made.

    On the same target and machine the new file has the same bytes. Pictures of the web UI (AUTOMATIC1111, Forge) and of
    stable-diffusion.cpp are read too: name the model with --model. What of them is left out is told.

    \b
    Examples:
      sd2rt reproduce sd2rt-7.png --out again.png
      sd2rt reproduce new.png --image scene.png --mask right.png
      sd2rt reproduce 00012-1234.png --model ./sd21 --show
    """
    from sd2rt.runtime.recipe import read_recipe

    recipe = read_recipe(picture)
    if show:
        return tell(console, recipe)
    for note in recipe.notes:
        console.note(f"note: {note}")
    plan = plan_reproduction(console, recipe, Path(picture), said)
    if recipe.record is None or recipe.record.upscaler is None:
        return deliver(console, plan, run(console, plan))
    upscaled = recipe.record.upscaler
    model, _ = find_bundle(console, said["upscaler"], upscaled.model, upscaled.bundle_sha256, option="--upscaler")
    return deliver_upscaled(console, plan, plan_upscaling(plan, model, like=upscaled))


def tell(console: Console, recipe: Recipe) -> None:
    """Print how a picture was made, and what has to be given to paint it again."""
    facts = recipe.facts()
    lines = [f"{name}: {value}" for name, value in facts.items() if name not in USUAL or value != USUAL[name]]
    lines += [f"needs --{name}" + (f", SHA-256 {digest}" if digest else "") for name, digest in recipe.needed.items()]
    lines += [f"note: {note}" for note in recipe.notes]
    console.result({"parameters": facts, "needed": dict(recipe.needed), "notes": list(recipe.notes)}, lines)


def plan_reproduction(console: Console, recipe: Recipe, picture: Path, said: dict[str, Any]) -> Plan:
    """Find the model, check the pictures given and plan the job, as `prepare` does. Raises as it does, and InvalidArgument."""
    from sd2rt.runtime.recipe import check_pictures

    model, bundle = find_bundle(console, said["model"], recipe.model, recipe.model_hash)
    given = {name: said[name] for name in PICTURES}
    unsure = check_pictures(recipe, given)
    options, left_out = recipe.options(bundle)
    for note in (*unsure, *left_out):
        console.note(f"note: {note}")
    given["sampler"] = said["sampler"]
    options |= {name: value for name, value in given.items() if value is not None}
    check_sampler(options)
    target = said["target"] or same_target(console, recipe, bundle)
    again = recipe.record is not None and recipe.target == target and said["precision"] == "auto"
    errand = Errand(
        tasks=(bundle.task,),
        model=model,
        target=target,
        out=said["out"],
        force=said["force"],
        low_memory=said["low_memory"],
        precision=recipe.precision if again else said["precision"],
        file=same_file(recipe, picture, said),
        watch=take_watch(said),
    )
    text_as_it_is = {"wildcards": None, "alternatives": "off"}
    return prepare(console, errand, {"seed": None, "images_per_prompt": 1, **text_as_it_is, **options})


def find_bundle(console: Console, named: str | None, model: str, sha256: str, *, option: str = "--model") -> tuple[str, Bundle]:
    """Return the bundle that painted, after its name, or the one that is `named` for it, with a note where that is another one.

    `sha256` may be the beginning of it. Raises InvalidArgument where there is none, ModelNotFound or BundleError.
    """
    from sd2rt.runtime.bundle import read_bundle
    from sd2rt.runtime.model_store import stored_names
    from sd2rt.runtime.models import embedded_models, find_model

    known = (model or "a model without a name") + (f" ({sha256[:10]})" if sha256 else "")
    if named is not None:
        bundle = read_bundle(find_model(named))
        if not sha256 or not bundle.sha256.startswith(sha256):
            other = f"{option} {named} is {bundle.name} ({bundle.sha256[:10]})"
            console.note(f"note: the picture is of {known}, {other}: {DIFFERS} unless they are alike")
        return named, bundle
    for name in [*embedded_models(), *([model] if model else []), *stored_names()]:
        try:
            bundle = read_bundle(find_model(name))
        except Sd2rtError:  # a name of somebody else's, or a folder that is no bundle
            continue
        if sha256 and bundle.sha256.startswith(sha256):
            return name, bundle
    raise InvalidArgument(f"{option}: got none, and {known}, which the picture is of, is not found here; name its bundle with {option}")


def check_sampler(options: Mapping[str, Any]) -> None:
    """Raise InvalidArgument for a sampler that there is not, saying how to choose another."""
    from sd2rt.runtime.samplers_names import parse_sampler

    try:
        parse_sampler(options.get("sampler", "euler"))
    except InvalidArgument as error:
        raise InvalidArgument(f"{error}; choose one with --sampler") from None


def same_target(console: Console, recipe: Recipe, bundle: Bundle) -> str:
    """Return the target that painted, or "auto", with a note, where it does not work here."""
    from sd2rt.runtime.engine_plan import choose_bundle_target

    if not recipe.target:
        return "auto"
    try:
        choose_bundle_target(bundle, recipe.target)
    except (TargetUnavailable, InvalidArgument) as error:
        console.note(f"note: painted on {recipe.target}, which does not work here ({error}): {DIFFERS} a little")
        return "auto"
    return recipe.target


def same_file(recipe: Recipe, picture: Path, said: dict[str, Any]) -> FileOptions:
    """Take the options of a file out of `said`; those of one like the picture's, where the command line says nothing else."""
    from sd2rt.runtime.picture_file import format_of

    out, file = said["out"], take_file(said)
    named, asked = not is_folder(out), file.format_for(out)
    chosen = asked or format_of(Path(out) if named else picture)
    lossy = recipe.record is not None and chosen != "png"
    quality = recipe.record.quality if file.quality is None and lossy and recipe.record else file.quality
    return replace(file, format=asked if named else chosen, quality=quality)
