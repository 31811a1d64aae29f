"""`sd2rt batch`: what the rows of a file ask for, one after the other, going on where an earlier run ended."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sd2rt.cli.batch_ray import check_errand, paint_rows, require_finished, write_file
from sd2rt.cli.batch_rows import Shared, Task, check_rows, describe, picture_names
from sd2rt.cli.console import Console
from sd2rt.cli.file_options import kind_options
from sd2rt.cli.journal import Journal, open_journal
from sd2rt.cli.options import add_options
from sd2rt.cli.output import plan_output
from sd2rt.cli.paint import Errand, make_job, open_model, open_pipeline, run_job
from sd2rt.cli.paint_options import paint_options
from sd2rt.cli.preview import Preview
from sd2rt.cli.ray_options import RAY_OPTIONS, ray_options, take_ray
from sd2rt.cli.row_files import READERS, read_rows
from sd2rt.cli.row_options import RowOptions
from sd2rt.cli.save import save_elsewhere
from sd2rt.cli.source_options import TASKS, source_options
from sd2rt.engine.errors import OutputError, Sd2rtError, first_line
from sd2rt.runtime.picture_file import SUFFIXES

if TYPE_CHECKING:
    from sd2rt.runtime.request import Job
    from sd2rt.runtime.result import Result
    from sd2rt.runtime.text_to_image import TextToImage
    from sd2rt.serve.ray_settings import RaySettings

ONE_PREVIEW = "batch.png"  # all rows are seen in batch-preview.png
OUT_DIR = click.option("-o", "--out-dir", "--out", "out", metavar="DIR", required=True, help="Folder for the pictures and batch.jsonl.")


@click.command()
@click.argument("file")
@click.option("--rows", "kind", type=click.Choice(list(READERS)), help="What FILE is.  [default: as its name says]")
@click.option("--keep-going", is_flag=True, help="Paint the other rows where one fails.")
@add_options(ray_options())
@source_options
@paint_options(*TASKS, model="toyworld", size="the model's, or the picture's", files=[OUT_DIR, *kind_options()])
def batch(console: Console, errand: Errand, /, file: str, kind: str | None, keep_going: bool, **asked: Any) -> None:
    """Paint what the rows of FILE ask for, with one model that is opened once; - is stdin.

    \b
    .txt    a prompt a line, or options: --prompt a red cube --seed 7; lines with # at their beginning are notes
    .csv    a header with the names of options, then their values; an empty cell says nothing
    .jsonl  an object a line with options by name

    Options are named as here (prompt, negative, steps, guidance, sampler, seed, count, image, mask, strength ...) and win over the command
    line's; `name` names a row's pictures. All rows are checked before the first is painted. The same command goes on after the last row
    that was finished, also after a crash; rows that were changed, added, or lost their pictures are painted. Exit code 1 where one failed.

    \b
    Examples:
      sd2rt batch prompts.txt --out-dir pictures/ --seed 7
      sd2rt batch rows.csv --out-dir pictures/ --model ./sd21 --steps 25 --keep-going
      sd2rt batch rows.jsonl --out-dir upscaled/ --model ./x4 --json
      printf 'a red cube\\na blue cone\\n' | sd2rt batch - --out-dir pictures/
    """
    from sd2rt.runtime.engine_plan import choose_bundle_target

    ray = take_ray(asked)
    rows = read_rows(file, kind)
    output = plan_output(errand.out, pictures=1, force=False, options=errand.file, option="--out-dir", folder=True)
    errand, bundle = open_model(console, errand)
    target = choose_bundle_target(bundle, errand.target)
    options = RowOptions(click.get_current_context().command, without=("file", "kind", "keep_going", *RAY_OPTIONS))
    shared = Shared(errand=errand, bundle=bundle, target=target, output=output, options=options, asked=asked)
    if ray is not None:
        check_errand(shared)
    with console.progress("row checked") as progress:
        tasks = check_rows(rows, shared, progress)
    Preview(errand.watch, bundle, output.folder / ONE_PREVIEW)  # what is wrong with it is better told now
    with open_journal(output.folder) as journal:
        Batch(console=console, shared=shared, journal=journal, rows=len(tasks), keep_going=keep_going, ray=ray).run(tasks)


@dataclass(slots=True, kw_only=True)
class Batch:
    """A run over rows; `painted` and `failed` count those of this run."""

    console: Console
    shared: Shared
    journal: Journal
    rows: int
    keep_going: bool
    ray: RaySettings | None = None
    painted: int = 0
    failed: int = 0
    seconds: float = 0.0

    def run(self, tasks: Sequence[Task]) -> None:
        """Paint the rows that are left. Raises Sd2rtError where one fails, with `keep_going` after the others."""
        left = []
        for task in tasks:
            entry = self.journal.take(task.key)
            if entry is None:
                left.append(task)
            elif self.console.as_json:
                paths = [str(self.shared.output.folder / name) for name in entry.pictures]
                self.console.item({"line": task.line, "status": "finished before", "pictures": paths}, [])
        if len(left) < self.rows:
            self.console.note(f"{self.rows - len(left)} of {self.rows} rows were finished before")
        if left:
            self._paint_all(left)
        self.console.note(f"rows painted: {self.painted}, finished before: {self.rows - len(left)}, failed: {self.failed}")
        if self.failed:
            raise Sd2rtError(f"{self.failed} of {self.rows} rows failed; the same command tries them again")

    def _paint_all(self, left: Sequence[Task]) -> None:
        """Paint rows here with one pipeline, opened as the first of them needs it, or by Ray's actors."""
        try:
            if self.ray is not None:
                return self._paint_elsewhere(left, self.ray)
            first = make_job(left[0].asked, self.shared.bundle)
            with open_pipeline(self.console, self.shared.errand, first) as pipe:
                for index, task in enumerate(left):
                    self._paint_one(pipe, task, after=len(left) - index - 1)
        except KeyboardInterrupt:
            self.console.note(f"rows painted: {self.painted} of {len(left)}; the same command goes on")
            raise

    def _paint_one(self, pipe: TextToImage, task: Task, *, after: int) -> None:
        """Paint one row, write its pictures, and report; `after` is how many follow."""
        began = time.perf_counter()
        try:
            job = make_job(task.asked, self.shared.bundle)
            self.console.note(f"row {task.number} of {self.rows}: seed {job.seeds[0]}, {job.prompts[0][:80]!r}")
            names = picture_names(task, self.rows, job.seeds, SUFFIXES[self.shared.output.format][0])
            watch = self.shared.errand.watch
            seen_as = ONE_PREVIEW if watch.folder is None else names[0]
            preview = Preview(watch, self.shared.bundle, self.shared.output.folder / seen_as)
            result = run_job(self.console, pipe, job, preview, f"row {task.number}/{self.rows}, step", after * self._row_seconds())
            paths = self._write(task, job, names, result)
        except (Sd2rtError, MemoryError, OSError) as error:
            return self._fail(task, error)
        self.seconds += time.perf_counter() - began
        return self._tell(task, paths, map(asdict, result.parameters), result.timings)

    def _paint_elsewhere(self, left: Sequence[Task], ray: RaySettings) -> None:
        """Have rows painted by Ray's actors; write their files as they come back, and report."""
        with self.console.progress("row") as progress, closing(paint_rows(left, self.rows, self.shared, ray)) as painted:
            for sent, event in painted:
                try:
                    finished = require_finished(event)
                    paths = self.journal.finish(sent.task.key, sent.names, partial(write_file, finished), sent.said)
                except (Sd2rtError, OSError) as error:
                    self._fail(sent.task, error)
                else:
                    for note in finished.notes:
                        self.console.note(f"row {sent.task.number}: {note}")
                    self._tell(sent.task, paths, finished.parameters, finished.timings)
                progress(self.painted + self.failed, len(left))

    def _tell(self, task: Task, paths: Sequence[Path], parameters: Iterable[Mapping[str, Any]], timings: Mapping[str, Any]) -> None:
        """Count a row as painted, and say where its pictures are."""
        self.painted += 1
        images = [{"path": str(path), **one} for path, one in zip(paths, parameters, strict=True)]
        data = {"line": task.line, "status": "painted", "pictures": [str(path) for path in paths], "images": images}
        self.console.item({**data, "timings": timings}, map(str, paths))

    def _write(self, task: Task, job: Job, names: Sequence[str], result: Result) -> tuple[Path, ...]:
        """Write a row's pictures and its line. Raises OutputError, with the pictures kept elsewhere where something takes them."""
        from sd2rt.runtime.picture_file import save_picture

        output = self.shared.output
        made = result.parameters if output.metadata else [None] * len(names)

        def write(path: Path, index: int) -> None:
            save_picture(result.images[index], path, made[index], quality=output.quality)

        try:
            return self.journal.finish(task.key, names, write, describe(task, job))
        except (OSError, ValueError) as error:
            problem = first_line(error)
            paths = [
                save_elsewhere(image, output.folder / name, one, problem)
                for image, name, one in zip(result.images, names, made, strict=True)
            ]
            raise OutputError(f"{problem}; painted and kept: {', '.join(map(str, paths))}") from error

    def _fail(self, task: Task, error: Exception) -> None:
        """Count and tell a failure. Raises Sd2rtError unless the others are to be painted."""
        said = str(error) or "out of memory: smaller --width/--height, --count or --tile"
        if not self.keep_going:
            done = f"rows painted: {self.painted}; the same command goes on, --keep-going leaves out what fails"
            raise Sd2rtError(f"line {task.line}: {said} ({done})") from error
        self.failed += 1
        self.console.note(f"line {task.line} failed: {said}")
        if self.console.as_json:
            self.console.item({"line": task.line, "status": "failed", "error": said}, [])

    def _row_seconds(self) -> float:
        """Return how long a row took so far; 0 before the first."""
        return self.seconds / self.painted if self.painted else 0.0
