"""`sd2rt grid`: one picture with other options in every column and row, on one sheet."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sd2rt.cli.axes import Axis, Place, describe, name_cell, places, read_axes
from sd2rt.cli.console import Console
from sd2rt.cli.contact_sheet import Sheet
from sd2rt.cli.file_options import kind_options
from sd2rt.cli.grid_plan import check_cells, lay_out, plan_cells, plan_sheet
from sd2rt.cli.options import Option
from sd2rt.cli.output import OutputPlan, free_names
from sd2rt.cli.paint import Errand, Plan, check_records, open_model, open_pipeline, run_job
from sd2rt.cli.paint_options import paint_options
from sd2rt.cli.preview import Preview
from sd2rt.cli.row_options import RowOptions
from sd2rt.cli.save import save_one
from sd2rt.cli.source_options import TASKS, source_options
from sd2rt.engine.errors import OutputError, first_line

if TYPE_CHECKING:
    from PIL.Image import Image

    from sd2rt.runtime.parameters import Parameters
    from sd2rt.runtime.request import Job

CHUNK = "sd2rt-grid"
FILES: list[Option] = [
    click.option("-o", "--out", help="The sheet, a .png file, or a folder for grid-SEED.png.  [default: the current folder]"),
    click.option("--force", is_flag=True, help="Replace files that --out and --cells name."),
    *kind_options(),
]


@click.command()
@click.argument("prompt")
@click.option("--x", metavar="OPTION=VALUES", help="What changes from column to column.")
@click.option("--y", metavar="OPTION=VALUES", help="What changes from row to row.")
@click.option("--z", metavar="OPTION=VALUES", help="What changes from one block of rows and columns to the next.")
@click.option("--cells", metavar="DIR", help="Write every picture there too, as y1-x2.png; --format and --quality are for these.")
@source_options
@paint_options(*TASKS, model="toyworld", size="the model's, or the picture's", files=FILES)
def grid(console: Console, errand: Errand, /, x: str | None, y: str | None, z: str | None, cells: str | None, **asked: Any) -> None:
    """Paint PROMPT with every value of an option, or with all pairs of values of two, on one labelled sheet.

    An axis is an option of `generate` and values between commas: --x guidance=2,4,7; a range of integers: --y seed=1..4; or a text in the
    prompt and what takes its place: --x prompt:red=red,blue. Values with commas stand in quotes. All cells have one seed where no axis has
    others. The sheet tells in its metadata what its axes are and how each cell was made. Interrupted, it leaves NAME-unfinished.png.

    \b
    Examples:
      sd2rt grid "a large red sphere" --x sampler=ddim,euler,"dpm++ 2m karras" --y steps=5,10,20 --out samplers.png
      sd2rt grid "a large red sphere" --x prompt:red=red,blue,green --y seed=1..4 --cells cells/
      sd2rt grid "a lighthouse at dusk" --model ./sd21 --x guidance=3,7.5,12 --z negative=,"blurry, dark"
    """
    from sd2rt.runtime.engine_plan import choose_bundle_target

    options = RowOptions(click.get_current_context().command, without=("x", "y", "z", "cells", "images_per_prompt"))
    axes = read_axes({"x": x, "y": y, "z": z}, options)
    folder = plan_sheet(errand, seed=0).parent  # what is wrong with it is better told before a model is made
    output = OutputPlan(folder=folder) if cells is None else plan_cells(cells, axes, errand)
    errand, bundle = open_model(console, errand)
    target = choose_bundle_target(bundle, errand.target)
    jobs = check_cells(axes, asked, options, bundle)
    sheet = lay_out(axes, jobs, asked["prompt"])
    path = plan_sheet(errand, jobs[0, 0, 0].seeds[0])
    for job in jobs.values():
        check_records(job, bundle, target, output, errand.precision)
    plan = Plan(errand=errand, bundle=bundle, job=jobs[0, 0, 0], output=output, preview=Preview(errand.watch, bundle, path))
    Grid(console=console, plan=plan, axes=axes, sheet=sheet, path=path, saves=cells is not None).run(jobs)


@dataclass(slots=True, kw_only=True)
class Grid:
    """A grid being painted; `saves` says whether cells are written too."""

    console: Console
    plan: Plan
    axes: tuple[Axis, ...]
    sheet: Sheet
    path: Path
    saves: bool
    images: dict[Place, Image] = field(default_factory=dict)
    made: dict[Place, Parameters] = field(default_factory=dict)
    seconds: float = 0.0

    def run(self, jobs: Mapping[Place, Job]) -> None:
        """Paint all cells and write the sheet; where that ends early, one of what is there. Raises as painting does, and OutputError."""
        self.console.note(f"{len(jobs)} cells, a sheet of {self.sheet.size[0]} x {self.sheet.size[1]}")
        try:
            self._paint(jobs)
        except BaseException:  # an interruption too: what is painted is not lost
            self._rescue()
            raise
        try:
            path, problem = self._write(self.path, force=self.plan.errand.force)
        except KeyboardInterrupt:
            self._rescue()
            raise
        self._report(path)
        if problem:
            raise OutputError(problem)

    def _paint(self, jobs: Mapping[Place, Job]) -> None:
        """Paint the cells, those of one size together: a device's engines are for a size."""
        ordered = sorted(jobs, key=lambda place: (jobs[place].height, jobs[place].width, jobs[place].guidance_scale > 1))
        with open_pipeline(self.console, self.plan.errand, self.plan.job) as pipe:
            for number, place in enumerate(ordered, 1):
                name = name_cell(place, self.axes)
                self.console.note(f"cell {number} of {len(jobs)}, {name}: {describe(place, self.axes)}")
                folder = self.plan.errand.watch.folder
                seen_as = self.path if folder is None else folder / f"{self.path.stem}-{name}.png"
                preview = Preview(self.plan.errand.watch, self.plan.bundle, seen_as)
                after_s = (len(jobs) - number) * self.seconds / max(number - 1, 1)
                result = run_job(self.console, pipe, jobs[place], preview, f"cell {number}/{len(jobs)}, step", after_s)
                self.seconds += result.timings["total"]
                self.images[place], self.made[place] = result.images[0], result.parameters[0]
                if self.saves:
                    self._save_cell(place)

    def _save_cell(self, place: Place) -> None:
        """Write a cell. Raises OutputError where it had to go elsewhere: further ones would too."""
        output = self.plan.output
        parameters = self.made[place] if output.metadata else None
        path = output.files[places(self.axes).index(place)]
        _, problem = save_one(self.images[place], path, parameters, force=output.force, quality=output.quality)
        if problem:
            raise OutputError(problem)

    def _write(self, path: Path, *, force: bool) -> tuple[Path, str]:
        """Write the sheet with its metadata, and return where it is and why not at `path`. Raises OutputError."""
        return save_one(self.sheet.draw(self.images), path, None, force=force, more=self._metadata())

    def _metadata(self) -> dict[str, object]:
        """Return what Pillow takes to put the axes and all cells' parameters into the file, the first one's as the web UI's text."""
        from PIL.PngImagePlugin import PngInfo

        from sd2rt.runtime.a1111 import web_ui_text

        if not self.plan.errand.file.metadata or not self.made:
            return {}
        said = [(f"{axis.letter.upper()} Type", axis.said) for axis in self.axes]
        said += [(f"{axis.letter.upper()} Values", json.dumps(", ".join(axis.values), ensure_ascii=False)) for axis in self.axes]
        plot = "".join(f", {key}: {value}" for key, value in [("Script", "X/Y/Z plot"), *sorted(said)])
        text = PngInfo()
        text.add_text("parameters", web_ui_text(next(iter(self.made.values()))) + plot)
        text.add_text(CHUNK, json.dumps(self._record()))
        return {"pnginfo": text}

    def _record(self) -> dict[str, object]:
        cells = [{**dict(zip("xyz", place, strict=True)), "parameters": asdict(made)} for place, made in sorted(self.made.items())]
        return {"axes": {axis.letter: axis.as_json() for axis in self.axes}, "cells": cells}

    def _rescue(self) -> None:
        """Write the sheet as far as it is painted, or say why that fails too. Raises nothing but an interruption."""
        if not self.images:
            return
        finished = len(self.images) == len(places(self.axes))
        state = "finished" if finished else "unfinished"
        try:
            path = self.path if finished else next(free_names(self.path.with_stem(f"{self.path.stem}-unfinished")))
            path, _ = self._write(path, force=finished and self.plan.errand.force)
        except Exception as error:  # the caller is about to raise what went wrong first
            return self.console.note(f"{state}, and what is painted is lost: {first_line(error)}")
        return self.console.note(f"{state}; {len(self.images)} cells are in {path}")

    def _report(self, sheet: Path) -> None:
        paths = self.plan.output.files if self.saves else ()
        data = {"sheet": str(sheet), "cells_written": list(map(str, paths)), **self._record()}
        self.console.result(data, [str(sheet), *map(str, paths)])
