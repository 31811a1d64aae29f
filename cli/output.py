"""Where pictures go: names and format decided and folders tried before any work is done. Writing is for `save`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

from sd2rt.engine.errors import InvalidArgument
from sd2rt.runtime.picture_file import DEFAULT_QUALITY, SUFFIXES, Format, format_of


@dataclass(frozen=True, slots=True, kw_only=True)
class FileOptions:
    """What a command line says of the files: their format (None: as --out's suffix says, or PNG), quality, and whether they tell how
    they were made.

    Those of format and quality in `loose` are set for good, not asked for: a format gives way to --out's suffix, a quality to PNG.
    """

    format: str | None = None
    quality: int | None = None
    metadata: bool = True
    loose: tuple[str, ...] = ()

    def format_for(self, out: str | None) -> str | None:
        """Return the format that is asked for of what goes to `out`, None where its suffix decides."""
        gives_way = "format" in self.loose and not is_folder(out) and format_of(Path(out or "")) is not None
        return None if gives_way else self.format


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputPlan:
    """Where the pictures of one command go.

    `files` names them one by one, and with `force` they may replace what exists; without `files` pictures are named after
    their seeds in `folder` and never replace anything. `metadata` says whether files tell how they were made.
    """

    folder: Path
    files: tuple[Path, ...] = ()
    force: bool = False
    format: Format = "png"
    quality: int = DEFAULT_QUALITY
    metadata: bool = True

    def usual(self, index: int, seed: int) -> Path:
        """Return the path of picture `index` as named, or after its seed, which may not be free."""
        return self.files[index] if self.files else self.folder / f"sd2rt-{seed}{SUFFIXES[self.format][0]}"

    def path(self, index: int, seed: int) -> Path:
        """Return the path of picture `index`: as named, or the first of its seed's names that is free."""
        usual = self.usual(index, seed)
        return usual if self.files else next(free_names(usual))


def plan_output(
    out: str | None, *, pictures: int, force: bool, options: FileOptions | None = None, option: str = "--out", folder: bool = False
) -> OutputPlan:
    """Decide where `pictures` pictures go and check that they can be written there; nothing is created.

    `out` is a file such as `name.png` (`name-1.png`, `name-2.png` ... for several pictures), a folder, or None for the current folder;
    with `folder` it can only be one. `option` is what says so.
    Raises InvalidArgument for a name of another kind, a file that exists, a folder that cannot be written, and options that contradict.
    """
    if folder and not out:
        raise InvalidArgument(f"{option}: got an empty name; expected a folder, . for the current one")
    options = options or FileOptions()
    path = Path(out or ".")
    asked = options.format if folder else options.format_for(out)
    try:
        plan = name_output(path, pictures, force=force, folder=folder or is_folder(out), asked=asked)
        check_writable(plan.folder)
        taken = [file for file in plan.files if file.exists() and not (force and file.is_file())]
    except OSError as error:
        raise InvalidArgument(f"{option}: got {str(path)[:200]}: cannot write there ({error.strerror}); choose another place") from error
    if taken:
        raise InvalidArgument(f"{option}: got {taken[0]}, which exists; choose another name, or replace a file with --force")
    quality = None if plan.format == "png" and "quality" in options.loose else options.quality
    return replace(plan, quality=read_quality(quality, plan.format), metadata=options.metadata)


def is_folder(out: str | None) -> bool:
    """Tell a folder, by the slash at its end, by being one, or by having no suffix, from a file; None is the current folder."""
    return out is None or out.endswith(("/", os.sep)) or os.path.isdir(out) or not Path(out).suffix


def name_output(path: Path, pictures: int, *, force: bool, folder: bool, asked: str | None = None) -> OutputPlan:
    """Plan the files in a `folder`, or those named after one; InvalidArgument for suffixes of no format, or of another than `asked`."""
    formats = [name for name in SUFFIXES if asked in (None, name)]
    if not formats:
        raise InvalidArgument(f"--format: got {asked!r}; expected one of {', '.join(SUFFIXES)}")
    if folder:
        return OutputPlan(folder=path, format=formats[0])
    found = format_of(path)
    if found not in formats:
        wanted = ", ".join(suffix for name in formats for suffix in SUFFIXES[name])
        why = f" with --format {asked}" if asked else ""
        raise InvalidArgument(f"--out: got {path}{why}; expected a name that ends in one of {wanted}, or a folder (end its name with /)")
    numbered = tuple(path.with_stem(f"{path.stem}-{number}") for number in range(1, pictures + 1))
    return OutputPlan(folder=path.parent, files=numbered if pictures > 1 else (path,), force=force, format=found)


def read_quality(quality: int | None, name: Format) -> int:
    """Return the quality of a format's files, 1 to 100. Raises InvalidArgument for others, and for PNG, which has none."""
    if quality is None:
        return DEFAULT_QUALITY
    if name == "png":
        raise InvalidArgument(f"--quality: got {quality} for PNG, which loses nothing; leave it out, or choose --format jpeg or webp")
    if not 1 <= quality <= 100:
        raise InvalidArgument(f"--quality: got {quality}; expected an integer from 1 to 100")
    return quality


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
