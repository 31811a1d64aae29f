"""The rows of a batch painted by Ray's actors: orders go out, files come back, and the journal is written here."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sd2rt.cli.batch_rows import Shared, Task, describe, picture_names
from sd2rt.cli.paint import draw_seeds, make_job
from sd2rt.cli.prompt_options import expand
from sd2rt.cli.source_options import FILES
from sd2rt.engine.errors import InvalidArgument, Sd2rtError
from sd2rt.runtime.picture_file import SUFFIXES

if TYPE_CHECKING:
    from sd2rt.serve.backend import Task as ServedTask
    from sd2rt.serve.order import Event, Finished, Order
    from sd2rt.serve.ray_settings import RaySettings

MODEL = "model"  # what orders call the one that all rows share
LOT_BYTES = 256 << 20  # of pictures that are read, and painted, before the next are


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A row on its way: what its pictures will be called, and what the journal will say of it."""

    task: Task
    names: Sequence[str]
    said: Mapping[str, object]


def check_errand(shared: Shared) -> None:
    """Raise InvalidArgument for options that replicas do not have."""
    errand = shared.errand
    unused = (("preview", errand.watch.kind != "none"), ("low-memory", errand.low_memory), ("precision", errand.precision != "auto"))
    for name, given in unused:
        if given:
            raise InvalidArgument(f"--{name}: got it with --backend ray, which has no such choice; leave it out")


def paint_rows(tasks: Sequence[Task], rows: int, shared: Shared, ray: RaySettings) -> Generator[tuple[Sent, Event]]:
    """Yield each row with how it ended, in the order in which they are done; `rows` is how many the file has.

    Raises as `paint_with_ray` does, and InvalidArgument for pictures that replicas do not read.
    """
    from sd2rt.serve.ray_batch import paint_with_ray
    from sd2rt.serve.ray_settings import portable_model
    from sd2rt.serve.shelf import ShelfSettings

    for task in tasks:
        check_pictures(task)
    reader = Reader(rows=rows, shared=shared)
    errand = shared.errand
    shelf = ShelfSettings(models={MODEL: portable_model(errand.model)}, target=errand.target, threads=ray.threads_for(0))
    with closing(paint_with_ray(reader.lots(tasks), shelf, ray)) as painted:
        for number, event in painted:
            yield from reader.take_lost()
            yield reader.sent.pop(number), event
    yield from reader.take_lost()


def check_pictures(task: Task) -> None:
    """Raise InvalidArgument for pictures that replicas do not read. What is gone by now is told when its row comes."""
    from sd2rt.serve.resolve_order import open_upload

    for name in FILES:
        try:
            if task.asked.get(name):
                open_upload(name, Path(task.asked[name]).read_bytes())
        except InvalidArgument as error:
            raise InvalidArgument(f"line {task.line}: {error}, which --backend ray takes") from None
        except OSError:
            continue


@dataclass(slots=True, kw_only=True)
class Reader:
    """Reads rows as they are needed: `sent` are those on their way, by number; `lost` those that could not be read any more."""

    rows: int
    shared: Shared
    sent: dict[str, Sent] = field(default_factory=dict)
    lost: list[tuple[Sent, Event]] = field(default_factory=list)

    def lots(self, tasks: Sequence[Task]) -> Iterator[list[ServedTask]]:
        """Yield orders, as many together as have `LOT_BYTES` of pictures."""
        lot: list[ServedTask] = []
        size = 0
        for task in tasks:
            for order in self._read(task):
                lot.append(order)
                size += sum(map(len, order.order.pictures.values()))
            if size >= LOT_BYTES:
                yield lot
                lot, size = [], 0
        if lot:
            yield lot

    def take_lost(self) -> Iterator[tuple[Sent, Event]]:
        """Yield rows that could not be read, each once."""
        while self.lost:
            yield self.lost.pop(0)

    def _read(self, task: Task) -> Iterator[ServedTask]:
        """Yield a row's order, or none where something of it is gone."""
        from sd2rt.serve.backend import Task as ServedTask
        from sd2rt.serve.order import Failed

        try:
            asked = {**task.asked, **draw_seeds(task.asked)}
            job = make_job(asked, self.shared.bundle)
            order = make_order(asked, self.shared)
        except (Sd2rtError, MemoryError, OSError) as error:
            self.lost.append((Sent(task=task, names=(), said={}), Failed(message=str(error), status=500)))
            return
        names = picture_names(task, self.rows, job.seeds, SUFFIXES[self.shared.output.format][0])
        self.sent[str(task.number)] = Sent(task=task, names=names, said=describe(task, job))
        yield ServedTask(id=str(task.number), order=order)


def make_order(asked: Mapping[str, Any], shared: Shared) -> Order:
    """Return what a row asks for as plain values, its pictures read. Raises OSError."""
    from sd2rt.runtime.request import MAX_IMAGES
    from sd2rt.serve.order import Order

    options = expand(asked, MAX_IMAGES)
    paths = {name: options.pop(name) for name in FILES}
    pictures = {name: Path(path).read_bytes() for name, path in paths.items() if path}
    output = shared.output
    return Order(
        model=MODEL,
        options={name: value for name, value in options.items() if value is not None},
        pictures=pictures,
        format=output.format,
        quality=output.quality,
        metadata=output.metadata,
    )


def require_finished(event: Event) -> Finished:
    """Return how a row ended. Raises Sd2rtError where it came to nothing."""
    from sd2rt.serve.order import Failed, Finished

    if isinstance(event, Finished):
        return event
    raise Sd2rtError(event.message if isinstance(event, Failed) else "it was given up")


def write_file(finished: Finished, path: Path, index: int) -> None:
    """Write one of a row's pictures."""
    path.write_bytes(finished.pictures[index])
