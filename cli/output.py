"""Where pictures go: names decided and folders tried before any work is done. Writing is `sd2rt.runtime.metadata.save_png`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

from sd2rt.engine.errors import InvalidArgument


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputPlan:
    """Where the pictures of one command go.

    `files` names them one by one, and with `force` they may replace what exists; without `files` pictures are named after
    their seeds in `folder` and never replace anything.
    """

    folder: Path
    files: tuple[Path, ...] = ()
    force: bool = False

    def path(self, index: int, seed: int) -> Path:
        """Return the path of picture `index`: as named, or the first of its seed's names that is free."""
        return self.files[index] if self.files else next(free_names(self.folder / f"sd2rt-{seed}.png"))


def plan_output(out: str | None, *, pictures: int, force: bool) -> OutputPlan:
    """Decide where `pictures` pictures go and check that they can be written there; nothing is created.

    `out` is a `.png` file (`name-1.png`, `name-2.png` ... for several pictures), a folder, or None for the current folder.
    Raises InvalidArgument for a name of another kind, a file that exists, or a folder that cannot be written.
    """
    path = Path(out or ".")
    try:
        plan = name_output(path, pictures, force=force, folder=out is None or out.endswith(("/", os.sep)))
        check_writable(plan.folder)
        taken = [file for file in plan.files if file.exists() and not (force and file.is_file())]
    except OSError as error:
        raise InvalidArgument(f"--out: got {str(path)[:200]}: cannot write there ({error.strerror}); choose another place") from error
    if taken:
        raise InvalidArgument(f"--out: got {taken[0]}, which exists; choose another name, or replace a file with --force")
    return plan


def name_output(path: Path, pictures: int, *, force: bool, folder: bool) -> OutputPlan:
    """Tell a folder (by `folder`, by being one, or by having no suffix) from a `.png` file; InvalidArgument for other suffixes."""
    if folder or path.is_dir() or not path.suffix:
        return OutputPlan(folder=path)
    if path.suffix.lower() != ".png":
        raise InvalidArgument(f"--out: got {path}; expected a name that ends in .png, or a folder (end its name with /)")
    numbered = tuple(path.with_stem(f"{path.stem}-{number}") for number in range(1, pictures + 1))
    return OutputPlan(folder=path.parent, files=numbered if pictures > 1 else (path,), force=force)


def name_bases(plan: OutputPlan, seeds: Sequence[int]) -> OutputPlan:
    """Name pictures that are not what a plan was made for, `name-base.png`: they replace nothing."""
    usual = [plan.path(index, seed) for index, seed in enumerate(seeds)]
    return replace(plan, files=tuple(next(free_names(path.with_stem(f"{path.stem}-base"))) for path in usual), force=False)


def check_writable(folder: Path) -> None:
    """Create a file in `folder`, or in its nearest parent that exists, and remove it again. Raises OSError.

    Permission bits do not tell: root passes them, and a file system may be read-only.
    """
    nearest = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    probe = nearest / f".sd2rt-{os.getpid()}.tmp"
    probe.touch(exist_ok=False)
    probe.unlink()


def free_names(path: Path) -> Iterator[Path]:
    """Yield those of `name.png`, `name-2.png`, `name-3.png` ... that no file has."""
    for number in count(1):
        name = path if number == 1 else path.with_stem(f"{path.stem}-{number}")
        if not name.exists():
            yield name
