"""Finished pictures to files: where a plan says, or somewhere else when that fails, so that no work is lost."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sd2rt.cli.output import OutputPlan, free_names
from sd2rt.engine.errors import OutputError, first_line
from sd2rt.runtime.picture_file import DEFAULT_QUALITY, save_picture

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
        except OSError:  # saving says what is wrong with its folder
            path = plan.usual(index, parameters.seed)
        path, problem = save_one(image, path, kept, force=plan.force, quality=plan.quality)
        paths.append(path)
        problems += [problem] if problem else []
    return Saved(paths=tuple(paths), problem="; ".join(problems))


def save_one(
    image: Image,
    path: Path,
    parameters: Parameters | None,
    *,
    force: bool,
    quality: int = DEFAULT_QUALITY,
    more: Mapping[str, Any] | None = None,
) -> tuple[Path, str]:
    """Write a picture as `save_picture` does, its folder too, or elsewhere; return where it is, and why it is not at `path` ("": it is).

    Raises OutputError where nothing takes it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_picture(image, path, parameters, force=force, quality=quality, more=more)
    except (OSError, ValueError) as error:
        problem = first_line(error)
        other = save_elsewhere(image, path, parameters, problem, more)
        return other, f"{problem}; painted and kept: {other}"
    return path, ""


def save_elsewhere(image: Image, path: Path, parameters: Parameters | None, problem: str, more: Mapping[str, Any] | None = None) -> Path:
    """Write a picture that `path` did not take as PNG, under a free name in its folder, the current, the home or the temporary one.

    Raises OutputError, which tells of `problem` too, when none of them takes it.
    """
    folders: list[Callable[[], Path]] = [lambda: path.parent, Path.cwd, Path.home, lambda: Path(tempfile.gettempdir())]
    for folder in folders:
        try:  # on a full disk there is no temporary folder, and there may be no current and no home folder either
            other = next(free_names(folder() / f"{path.stem[:100]}.png"))
            save_picture(image, other, parameters, more=more)
        except (OSError, ValueError, RuntimeError):
            continue
        return other
    raise OutputError(f"{problem}; the picture is lost, since the current, the home and the temporary folder do not take it either")
