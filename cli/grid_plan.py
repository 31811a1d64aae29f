"""A grid before it is painted: the job of every cell, the sheet's geometry, and where files go; all that is wrong is told here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sd2rt.cli.axes import Axis, Place, describe, name_cell, places, shape, values_at
from sd2rt.cli.contact_sheet import Labels, Sheet
from sd2rt.cli.output import FileOptions, OutputPlan, free_names, is_folder, plan_output
from sd2rt.cli.paint import Errand, draw_seeds, make_job
from sd2rt.cli.row_options import RowOptions
from sd2rt.cli.source_options import require_words
from sd2rt.engine.errors import InvalidArgument
from sd2rt.runtime.picture_file import SUFFIXES

if TYPE_CHECKING:
    from sd2rt.runtime.bundle import Bundle
    from sd2rt.runtime.request import Job


def check_cells(axes: Sequence[Axis], asked: Mapping[str, Any], options: RowOptions, bundle: Bundle) -> dict[Place, Job]:
    """Return the job of every cell, all with the same random seeds where they name none.

    Raises InvalidArgument for the first that is wrong, and for cells of several pictures.
    """
    jobs = {}
    drawn = draw_seeds({**asked, "variation_strength": 1.0})  # which any cell may have
    variation_seed = drawn.pop("variation_seed", None)
    for place in places(axes):
        cell = values_at(place, axes, {**asked, **drawn}, options)
        if cell.get("variation_strength") and cell.get("variation_seed") is None:
            cell["variation_seed"] = variation_seed
        require_words(cell)
        try:
            job = make_job(cell, bundle)
        except InvalidArgument as error:
            raise InvalidArgument(f"cell {name_cell(place, axes)} ({describe(place, axes)}): {error}") from None
        if len(job.prompts) != 1:
            raise InvalidArgument(f"a cell is one picture: got {len(job.prompts)}; leave out --count and {{a|b}}, or make an axis of it")
        jobs[place] = job
    return jobs


def lay_out(axes: Sequence[Axis], jobs: Mapping[Place, Job], title: str) -> Sheet:
    """Lay the sheet out for the largest of the pictures. Raises InvalidArgument where it is too large."""
    sizes = [(job.height, job.width) if job.source is None else job.source.result_size for job in jobs.values()]
    largest = max(width for _, width in sizes), max(height for height, _ in sizes)
    words = {axis.letter: [axis.label(index) for index in range(len(axis.values))] for axis in axes}
    labels = Labels(title=title, columns=words.get("x", []), rows=words.get("y", []), blocks=words.get("z", []))
    return Sheet(labels, shape(axes), largest)


def plan_sheet(errand: Errand, seed: int) -> Path:
    """Return where the sheet goes, after trying whether it can be written there. Raises InvalidArgument."""
    if errand.out is not None and not is_folder(errand.out) and Path(errand.out).suffix.lower() in (".jpg", ".jpeg", ".webp"):
        raise InvalidArgument(f"--out: got {errand.out}; expected a name that ends in .png: --format and --quality are for --cells")
    plan = plan_output(errand.out, pictures=1, force=errand.force, options=FileOptions(format="png"))
    return plan.files[0] if plan.files else next(free_names(plan.folder / f"grid-{seed}.png"))


def plan_cells(folder: str, axes: Sequence[Axis], errand: Errand) -> OutputPlan:
    """Return where the cells go, in the order of `places`. Raises InvalidArgument where one is there already."""
    plan = plan_output(folder, pictures=1, force=errand.force, options=errand.file, option="--cells", folder=True)
    files = tuple(plan.folder / f"{name_cell(place, axes)}{SUFFIXES[plan.format][0]}" for place in places(axes))
    taken = [file for file in files if file.exists() and not errand.force]
    if taken:
        raise InvalidArgument(f"--cells: got {taken[0]}, which exists; choose another folder, or replace files with --force")
    return replace(plan, files=files, force=errand.force)
