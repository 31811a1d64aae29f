"""`sd2rt verify`: a bundle's engines against the reference, component by component."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sd2rt.cli.choices import precision_option
from sd2rt.cli.console import Console, console_options
from sd2rt.engine.errors import InvalidArgument

if TYPE_CHECKING:
    from sd2rt.runtime.bundle import Bundle
    from sd2rt.runtime.verify import Verdict

HEAD = ("component", "output", "max abs", "relative", "PSNR dB", "not finite", "gate", "")


@click.command()
@click.argument("bundle")
@click.option("--target", default="auto", show_default=True, help="What to verify; `sd2rt info` lists what works here.")
@click.option("--size", metavar="WxH", help="Pixels.  [default: the model's]")
@click.option("--batch", type=click.IntRange(min=1), default=1, show_default=True, help="Pictures at a time.")
@click.option("--inpaint", is_flag=True, help="On GPUs: steps as `inpaint` takes them with a model not made for inpainting.")
@click.option("--threads", type=int, default=0, help="Of the reference, and of targets that run on the CPU.  [default: one per core]")
@precision_option
@click.option("--save-outputs", type=click.Path(path_type=Path), help="A new folder for both sides' outputs, as Polygraphy's RunResults.")
@console_options
@click.pass_obj
@click.pass_context
def verify(
    context: click.Context,
    console: Console,
    /,
    bundle: str,
    target: str,
    size: str | None,
    batch: int,
    inpaint: bool,
    threads: int,
    precision: str,
    save_outputs: Path | None,
) -> None:
    """Compare every engine of BUNDLE, as `generate` uses it, with the cpu engine on fixed inputs; exit with 1 when one misses its gate.

    The engines of the target cpu are compared with the bundle's own graphs, run as they are. What is missing is built first.

    \b
    Examples:
      sd2rt verify toyworld --target cpu
      sd2rt verify ./sd21 --target tensorrt --size 768x768 --json | jq .components
      sd2rt verify ./sd21 --save-outputs out && polygraphy inspect data out/unet.json
    """
    from sd2rt.runtime.bundle import read_bundle
    from sd2rt.runtime.engine_plan import PlanOptions, choose_bundle_target, choose_guidance, keeps_part
    from sd2rt.runtime.models import find_model
    from sd2rt.runtime.verify import verify_bundle

    checked = read_bundle(find_model(bundle))
    pixels = read_size(size, checked)
    options = PlanOptions(
        target=choose_bundle_target(checked, target),
        smallest=pixels,
        usual=pixels,
        largest=pixels,
        batch=(batch, batch, batch),
        guidance=choose_guidance(checked.defaults.guidance_scale, 0.0),
        kept=inpaint and keeps_part("inpainting", checked),
        threads=threads,
        precision=precision,
    )
    if save_outputs is not None:
        make_folder(save_outputs)
    found = []
    for verdict in verify_bundle(checked, options, console.note):
        console.note(f"{verdict.component}: {verdict.worst}")
        if save_outputs is not None:
            save(save_outputs / f"{verdict.component}.json", options.target, verdict)
        found.append(describe(verdict))
    ok = all(component["ok"] for component in found)
    console.result({"model": checked.name, "target": options.target, "ok": ok, "components": found}, lines(found))
    context.exit(0 if ok else 1)


def read_size(text: str | None, bundle: Bundle) -> tuple[int, int]:
    """Read "768x512" (width first) as (height, width); without a text, the bundle's own. Raises InvalidArgument."""
    if text is None:
        return bundle.native_size
    sides = text.lower().split("x")
    if len(sides) != 2 or not all(side.isdecimal() for side in sides):
        raise InvalidArgument(f"size: got {text!r}; expected WIDTHxHEIGHT in pixels, such as 768x512")
    return int(sides[1]), int(sides[0])


def make_folder(path: Path) -> None:
    """Make a new folder. Raises InvalidArgument where something of that name is, or it cannot be made."""
    try:
        path.mkdir(parents=True)
    except OSError as error:
        raise InvalidArgument(f"save-outputs: got {path} ({error.strerror}); expected a folder that can be made") from None


def save(path: Path, target: str, verdict: Verdict) -> None:
    """Write what the engine and the reference gave."""
    from sd2rt.engine.run_results import save_run_results

    save_run_results(path, {target: verdict.got, "reference": verdict.expected})


def describe(verdict: Verdict) -> dict[str, Any]:
    """Return a verdict as JSON values: its worst output, then all of them."""
    outputs = [{**asdict(one), "gate": str(one.gate), "ok": one.passes} for one in verdict.outputs]
    worst = next(output for output, one in zip(outputs, verdict.outputs, strict=True) if one is verdict.worst)
    return {"component": verdict.component, **worst, "outputs": outputs, "notes": dict(verdict.notes)}


def lines(components: list[dict[str, Any]]) -> list[str]:
    """Lay out one row per component: its worst output."""
    rows = [
        (
            found["component"],
            found["output"],
            f"{found['max_abs']:.2e}",
            f"{found['max_relative']:.2e}",
            f"{found['psnr_db']:.1f}",
            str(found["not_finite"]),
            found["gate"],
            "ok" if found["ok"] else "MISSED",
        )
        for found in components
    ]
    widths = [max(len(row[column]) for row in (HEAD, *rows)) for column in range(len(HEAD))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (HEAD, *rows)]
