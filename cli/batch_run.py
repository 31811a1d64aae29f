"""A run over the rows of a batch: what is left is painted, here or by Ray's actors, and each row's end is told."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sd2rt.cli.batch_ray import paint_rows, require_finished, write_file
from sd2rt.cli.batch_rows import Shared, Task, describe, picture_names
from sd2rt.cli.console import Console
from sd2rt.cli.journal import Journal
from sd2rt.cli.paint import make_job, open_pipeline, run_job
from sd2rt.cli.preview import Preview
from sd2rt.cli.save import save_elsewhere
from sd2rt.engine.errors import OutputError, Sd2rtError, first_line
from sd2rt.runtime.picture_file import SUFFIXES

if TYPE_CHECKING:
    from sd2rt.runtime.request import Job
    from sd2rt.runtime.result import Result
    from sd2rt.runtime.text_to_image import TextToImage
    from sd2rt.serve.ray_settings import RaySettings

ONE_PREVIEW = "batch.png"  # all rows are seen in batch-preview.png


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
