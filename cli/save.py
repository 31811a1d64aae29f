"""Finished pictures to files: where a plan says, or somewhere else when that fails, so that no work is lost."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sd2rt.cli.output import OutputPlan, free_names
from sd2rt.engine.errors import OutputError, first_line
from sd2rt.runtime.picture_file import save_picture

if TYPE_CHECKING:
    from PIL.Image import Image

    from sd2rt.runtime.parameters import Parameters
    from sd2rt.runtime.result import Result


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """Where the pictures of a result are, in order, and what went wrong with those that had to go elsewhere; "": nothing."""

    paths: tuple[Path, ...]
    problem: str = ""


def save_result(result: Result, plan: OutputPlan) -> Saved:
    """Write all pictures of a result, those that cannot go where the plan says elsewhere. Raises OutputError where nothing takes one."""
    paths, problems = [], []
    for index, (image, parameters) in enumerate(zip(result.images, result.parameters, strict=True)):
        kept = parameters if plan.metadata else None
        try:
            path = plan.path(index, parameters.seed)
            path.parent.mkdir(parents=True, exist_ok=True)
            save_picture(image, path, kept, force=plan.force, quality=plan.quality)
        except (OSError, ValueError) as error:
            path = save_elsewhere(image, plan.usual(index, parameters.seed), kept, first_line(error))
            problems.append(f"{first_line(error)}; painted and kept: {path}")
        paths.append(path)
    return Saved(paths=tuple(paths), problem="; ".join(problems))


def save_elsewhere(image: Image, path: Path, parameters: Parameters | None, problem: str) -> Path:
    """Write a picture that `path` did not take as PNG, under a free name in its folder, the current, the home or the temporary one.

    Raises OutputError, which tells of `problem` too, when none of them takes it.
    """
    for folder in (path.parent, Path.cwd(), Path.home(), Path(tempfile.gettempdir())):
        try:
            other = next(free_names(folder / f"{path.stem[:100]}.png"))
            save_picture(image, other, parameters)
        except (OSError, ValueError):
            continue
        return other
    raise OutputError(f"{problem}; the picture is lost, since the current, the home and the temporary folder do not take it either")
