"""Many orders over Ray Data: actors that hold models open take one after the other, wherever they are; what is done comes back as bytes.

An actor that dies is replaced, and its order painted again by another; an order that kills its actors again and again fails. Tables of
Arrow hold the bytes on their way: nothing of ours is pickled.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Generator, Iterable, Sequence
from dataclasses import asdict
from math import ceil
from typing import Any

from sd2rt.engine.errors import MissingDependency, first_line
from sd2rt.serve.backend import Task
from sd2rt.serve.errors import WorkerLost
from sd2rt.serve.order import LAST, Event, Failed
from sd2rt.serve.painting import paint_batch
from sd2rt.serve.ray_cluster import cluster
from sd2rt.serve.ray_settings import RaySettings
from sd2rt.serve.shelf import Shelf, ShelfSettings
from sd2rt.serve.wire import decode_batch, decode_event, encode_batch, encode_event

MOST_BLOCKS = 5_000  # of orders that travel, and come back, together; each costs Ray 12 ms
TRIES = 3  # of a block whose actors die
MOST_DEADLY = 20  # blocks of a lot that actors may die of before the run is ended


def paint_with_ray(lots: Iterable[Sequence[Task]], shelf: ShelfSettings, settings: RaySettings) -> Generator[tuple[str, Event]]:
    """Yield the id and the last event of each task, in the order in which they are done. Leave the loop to give up the rest.

    A lot is in memory while it is painted; the next is asked for then, and painted by new actors. A task that actors die of ends in
    Failed. Raises MissingDependency without Ray Data, ServeError without a cluster, WorkerLost where many tasks have actors die.
    """
    with cluster(settings):
        data, arrow = _import_data()
        _configure(data)
        from ray.exceptions import RayError

        for tasks in lots:
            size = ceil(len(tasks) / MOST_BLOCKS)
            blocks = [tasks[first : first + size] for first in range(0, len(tasks), size)]
            left = {task.id for task in tasks}
            painted = _plan(data, [_table(arrow, shelf, block) for block in blocks], shelf, settings)
            try:
                for table in painted.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
                    for task_id, event in map(_last, table["content"].to_pylist()):
                        left.remove(task_id)
                        yield task_id, event
            except RayError as error:
                raise WorkerLost(f"actors that painted are gone, or could not be started: {first_line(error)}") from error
            yield from ((task.id, _deadly(size)) for task in tasks if task.id in left)


def _plan(data: Any, tables: Sequence[Any], shelf: ShelfSettings, settings: RaySettings) -> Any:
    """Return the dataset of what is painted of tables of orders; it begins when it is read."""
    low, high = settings.replicas
    return data.from_arrow(tables).map_batches(
        Painter,
        batch_size=1,
        batch_format="pyarrow",
        compute=data.ActorPoolStrategy(size=low) if low == high else data.ActorPoolStrategy(min_size=low, max_size=high),
        num_cpus=settings.cpus_for(),
        num_gpus=settings.gpus_for(shelf.target) or None,
        ray_remote_args_fn=_tries,
    )


class Painter:
    """An actor: takes and gives tables of one order."""

    def __init__(self) -> None:
        self._shelf: Shelf | None = None

    def __call__(self, table: Any) -> Any:
        """Paint an order; its last event takes its place."""
        import pyarrow as arrow

        (row,) = table.to_pylist()
        if self._shelf is None:
            self._shelf = Shelf(ShelfSettings(**json.loads(row["setup"])))
        events = paint_batch(self._shelf, decode_batch(row["content"]), tuple)
        done = [encode_event(task_id, event) for task_id, event in events if isinstance(event, LAST)]
        return arrow.table({"content": arrow.array(done, arrow.large_binary())})


def _tries() -> dict[str, Any]:
    """Return how often Ray has a block painted again when its actor dies; without, it would for ever."""
    return {"max_restarts": -1, "max_task_retries": TRIES - 1}


def _deadly(size: int) -> Failed:
    """Return how a task ended whose block did not come back."""
    others = f", or one of the {size} rows that travelled together" if size > 1 else ""
    return Failed(message=f"{TRIES} actors died of it{others}: out of memory?", status=500)


def _table(arrow: Any, shelf: ShelfSettings, tasks: Sequence[Task]) -> Any:
    setup = json.dumps(asdict(shelf))
    contents = arrow.array([encode_batch([task]) for task in tasks], arrow.large_binary())
    return arrow.table({"setup": arrow.array([setup] * len(tasks), arrow.string()), "content": contents})


def _last(content: bytes) -> tuple[str, Event]:
    task_id, event = decode_event(content)
    assert isinstance(event, LAST)
    return task_id, event


def _import_data() -> tuple[Any, Any]:
    try:
        import pyarrow
        import ray.data
    except ImportError as error:
        raise MissingDependency(f"--backend ray needs {error.name}: pip install 'sd2rt[ray]'") from error
    return ray.data, pyarrow


def _configure(data: Any) -> None:
    """Have Ray Data leave out blocks that actors die of, and keep it from drawing over the command's own progress."""
    context = data.DataContext.get_current()
    context.max_errored_blocks = MOST_DEADLY
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # what failed is told by its row
