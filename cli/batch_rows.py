"""The rows of a batch, checked: what each asks for, which key it has in the journal, and what its pictures are called."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sd2rt.cli.output import OutputPlan
from sd2rt.cli.paint import Errand, check_records, make_job
from sd2rt.cli.row_files import Row
from sd2rt.cli.row_options import RowOptions
from sd2rt.cli.source_options import FILES, require_words
from sd2rt.engine.errors import InvalidArgument
from sd2rt.runtime.picture_file import SUFFIXES

if TYPE_CHECKING:
    from sd2rt.runtime.bundle import Bundle
    from sd2rt.runtime.request import Job

NAME = "name"  # of a row's pictures, which it may say besides options
LONGEST_NAME = 100
SHOWN = 5  # lines of further wrong rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A row found to be right: `asked` is named as in `runtime.options.Request`; `number` counts rows from 1."""

    line: int
    number: int
    asked: Mapping[str, Any]
    key: str
    name: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What all rows share; `asked` is what the command line says, which rows override."""

    errand: Errand
    bundle: Bundle
    target: str
    output: OutputPlan
    options: RowOptions
    asked: Mapping[str, Any]


def check_rows(rows: Sequence[Row], shared: Shared, progress: Callable[[int, int], None]) -> list[Task]:
    """Check all rows, telling `progress`. Raises InvalidArgument for the first wrong one, with its line and those of further ones."""
    tasks: list[Task] = []
    wrong: list[tuple[int, InvalidArgument]] = []
    for number, row in enumerate(rows, 1):
        try:
            tasks.append(check_row(row, number, shared))
        except InvalidArgument as error:
            wrong.append((row.line, error))
        progress(number, len(rows))
    if wrong:
        raise InvalidArgument(f"line {wrong[0][0]}: {wrong[0][1]}{_further([line for line, _ in wrong[1:]])}")
    return tasks


def _further(lines: Sequence[int]) -> str:
    """Word that more rows are wrong."""
    if not lines:
        return ""
    listed = ", ".join(map(str, lines[:SHOWN])) + ("" if len(lines) <= SHOWN else " and so on")
    return f" (and {len(lines)} more wrong {'row' if len(lines) == 1 else 'rows'}: line {listed})"


def check_row(row: Row, number: int, shared: Shared) -> Task:
    """Check one row as a command line is checked before it is painted. Raises InvalidArgument."""
    said = dict(row.said)
    name = check_name(said.pop(NAME, None))
    asked = {"prompt": "", **shared.asked, **shared.options.read(said)}
    require_words(asked)
    job = make_job(asked, shared.bundle)
    check_records(job, shared.bundle, shared.target, shared.output, shared.errand.precision)
    return Task(line=row.line, number=number, asked=asked, key=row_key(asked, name, job, shared), name=name)


def check_name(name: object) -> str | None:
    """Return the name of a row's pictures, without a suffix; None and "" are none. Raises InvalidArgument for what is no plain name."""
    if name is None or name == "":
        return None
    text = str(name)
    stem = next((text[: -len(suffix)] for suffix in _suffixes() if text.lower().endswith(suffix)), text)
    plain = Path(stem).name == stem and "\\" not in stem and stem.isprintable() and not stem.startswith(".")
    if not plain or not stem or len(stem.encode()) > LONGEST_NAME:
        raise InvalidArgument(f"{NAME}: got {text[:80]!r}; expected a plain file name of at most {LONGEST_NAME} bytes, such as cube-1")
    return stem


def _suffixes() -> Iterable[str]:
    return (suffix for suffixes in SUFFIXES.values() for suffix in suffixes)


def row_key(asked: Mapping[str, Any], name: str | None, job: Job, shared: Shared) -> str:
    """Return a hash of everything that a row asks for: options, model, the content of its pictures, the kind of its files."""
    source = job.source
    sources = None if source is None else [source.image_sha256, source.mask_sha256, source.depth_sha256]
    output = shared.output
    kind = [output.format, output.quality, output.metadata]
    content = [{key: value for key, value in asked.items() if key not in FILES}, name, sources, shared.bundle.sha256, kind]
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:32]


def picture_names(task: Task, rows: int, seeds: Sequence[int], suffix: str) -> list[str]:
    """Return names for a row's pictures: its own, with numbers where there are several, or 0003-7.png of row 3 and seed 7."""
    if task.name is None:
        return [f"{task.number:0{max(len(str(rows)), 4)}}-{seed}{suffix}" for seed in seeds]
    if len(seeds) == 1:
        return [task.name + suffix]
    return [f"{task.name}-{number}{suffix}" for number in range(1, len(seeds) + 1)]


def describe(task: Task, job: Job) -> dict[str, object]:
    """Return what the journal says of a finished row besides its key and pictures."""
    return {"line": task.line, "prompts": list(dict.fromkeys(job.prompts)), "seeds": list(job.seeds)}
