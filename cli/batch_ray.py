"""The rows of a batch painted by Ray's actors: orders go out, files come back, and the journal is written here."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
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
    from sd2rt.serve.backend import Task as ServedTask
    from sd2rt.serve.ray_batch import paint_with_ray
    from sd2rt.serve.ray_settings import portable_model
    from sd2rt.serve.shelf import ShelfSettings

    sent: dict[str, Sent] = {}
    orders: list[ServedTask] = []
    for task in tasks:
        asked = {**task.asked, **draw_seeds(task.asked)}
        job = make_job(asked, shared.bundle)
        names = picture_names(task, rows, job.seeds, SUFFIXES[shared.output.format][0])
        sent[str(task.number)] = Sent(task=task, names=names, said=describe(task, job))
        orders.append(ServedTask(id=str(task.number), order=make_order(task, asked, shared)))
    errand = shared.errand
    shelf = ShelfSettings(models={MODEL: portable_model(errand.model)}, target=errand.target, threads=ray.threads_for(0))
    with closing(paint_with_ray(orders, shelf, ray)) as painted:
        for number, event in painted:
            yield sent[number], event


def make_order(task: Task, asked: Mapping[str, Any], shared: Shared) -> Order:
    """Return what a row asks for as plain values, its pictures read. Raises InvalidArgument for those that replicas do not read."""
    from sd2rt.runtime.request import MAX_IMAGES
    from sd2rt.serve.order import Order
    from sd2rt.serve.resolve_order import open_upload

    options = expand(asked, MAX_IMAGES)
    paths = {name: options.pop(name) for name in FILES}
    pictures = {name: Path(path).read_bytes() for name, path in paths.items() if path}
    for name, content in pictures.items():
        try:
            open_upload(name, content)
        except InvalidArgument as error:
            raise InvalidArgument(f"line {task.line}: {error}, which --backend ray takes") from None
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
