"""Paint one batch of orders on this process's engines, telling of each step. What workers and Ray's replicas both do; knows neither."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from sd2rt.engine.errors import EngineError, InvalidArgument, Sd2rtError
from sd2rt.runtime.join import join, join_key, split
from sd2rt.runtime.picture_file import encode_picture
from sd2rt.runtime.portions import paint_in_portions, split_job
from sd2rt.runtime.prompt import find_cut
from sd2rt.runtime.request import Job
from sd2rt.runtime.result import Result, State
from sd2rt.runtime.text_to_image import TextToImage
from sd2rt.serve.backend import Task
from sd2rt.serve.order import LAST, Cancelled, Event, Failed, Finished, Previewed, Started, Stepped
from sd2rt.serve.resolve_order import resolve_order
from sd2rt.serve.shelf import Shelf

if TYPE_CHECKING:
    from PIL.Image import Image

Cancels = Callable[[], Collection[str]]
"""Returns the ids of tasks that are given up by now."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Part:
    """A task and its job; `preview_steps` are those after which it wants a preview."""

    task: Task
    job: Job
    preview_steps: frozenset[int]


def paint_batch(shelf: Shelf, tasks: Sequence[Task], cancelled: Cancels) -> Iterator[tuple[str, Event]]:
    """Paint tasks, those together that can be, and yield (id, event) until each had its last one. Raises nothing of theirs."""
    for model in dict.fromkeys(task.order.model for task in tasks):
        gone = set(cancelled())
        yield from ((task.id, Cancelled()) for task in tasks if task.order.model == model and task.id in gone)
        mine = [task for task in tasks if task.order.model == model and task.id not in gone]
        if not mine:
            continue
        try:
            pipe = shelf.open(model)
        except Exception as error:
            yield from ((task.id, _failure(task.id, error)) for task in mine)
            continue
        parts = []
        for task in mine:
            try:
                parts.append(_part(task, pipe))
            except Exception as error:  # whatever it is, nobody else's order shall fail for it
                yield task.id, _failure(task.id, error)
        for group in _groups(parts):
            yield from _paint_group(pipe, group, cancelled)
        shelf.measure(model)


def preview_steps(count: int, total: int) -> frozenset[int]:
    """Return after which of `total` steps, from 1, at most `count` previews are made: evenly spaced, never after the last one."""
    return frozenset(max(round(number * total / (count + 1)), 1) for number in range(1, count + 1)) - {total}


def _part(task: Task, pipe: TextToImage) -> Part:
    job = resolve_order(task.order, pipe.bundle)
    total = len(job.table.rows) * len(split_job(job, task.order.portion))
    return Part(task=task, job=job, preview_steps=preview_steps(task.order.previews, total))


def _groups(parts: Sequence[Part]) -> list[list[Part]]:
    """Put together what can be painted at once."""
    groups: dict[object, list[Part]] = {}
    for part in parts:
        key = join_key(part.job)
        groups.setdefault(part.task.id if key is None or part.task.order.portion else key, []).append(part)
    return list(groups.values())


def _paint_group(pipe: TextToImage, parts: list[Part], cancelled: Cancels) -> Iterator[tuple[str, Event]]:
    """Paint one batch; where that fails, paint what is left of it one by one, so that nobody fails for another."""
    gone = set(cancelled())
    yield from ((part.task.id, Cancelled()) for part in parts if part.task.id in gone)
    parts = [part for part in parts if part.task.id not in gone]
    if not parts:
        return
    left = {part.task.id: part for part in parts}
    try:
        for task_id, event in _paint_joined(pipe, parts, cancelled):
            if isinstance(event, LAST):
                del left[task_id]
            yield task_id, event
    except Exception as error:
        if len(parts) == 1:
            yield from ((task_id, _failure(task_id, error)) for task_id in left)
            return
        log.warning("a batch of %d failed (%s); painting them one by one", len(parts), error)
        for part in left.values():
            yield from _paint_group(pipe, [part], cancelled)


def _paint_joined(pipe: TextToImage, parts: list[Part], cancelled: Cancels) -> Iterator[tuple[str, Event]]:
    """Paint until nobody wants it any more, or it is finished. Raises what its engines do."""
    joined = join([part.job for part in parts])
    live = {part.task.id: part for part in parts}
    portion = parts[0].task.order.portion  # of an order that is alone
    portions = split_job(joined, portion)
    shown = frozenset[int]().union(*(part.preview_steps for part in parts))
    started = Started(total_steps=len(joined.table.rows) * len(portions), rows=len(portions[0].seeds))
    yield from ((task_id, started) for task_id in live)
    with closing(paint_in_portions(pipe, joined, portion)) as states:  # type: ignore[type-var]  # a generator, typed as an iterator
        for state in states:
            for task_id in [task_id for task_id in cancelled() if task_id in live]:
                del live[task_id]
                yield task_id, Cancelled()
            if not live:
                return
            yield from ((task_id, Stepped(step=state.index + 1, total_steps=state.total)) for task_id in live)
            if state.index + 1 in shown:
                yield from _previews(state, parts, live)
        result = state.result()
    for part, mine in zip(parts, split(result, [part.job for part in parts]), strict=True):
        if part.task.id in live:
            yield part.task.id, _finish(part, mine, pipe, alone=len(parts) == 1)


def _previews(state: State, parts: list[Part], live: Collection[str]) -> Iterator[tuple[str, Event]]:
    """Show the unfinished pictures to those who want them after this step; every decoder is run once, for all of them."""
    step = state.index + 1
    wanting = {part.task.id for part in parts if part.task.id in live and step in part.preview_steps}
    decoders = dict.fromkeys(part.task.order.preview_decoder for part in parts if part.task.id in wanting)
    for decoder in decoders:
        images = state.preview(decoder)
        first = 0
        for part in parts:
            mine = images[first : first + len(part.job.seeds)]
            first += len(part.job.seeds)
            if part.task.id in wanting and part.task.order.preview_decoder == decoder:
                index = sum(earlier < step for earlier in part.preview_steps)
                yield part.task.id, Previewed(index=index, step=step, pictures=tuple(map(_png, mine)))


def _png(image: Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG", compress_level=1)  # previews are looked at once
    return stream.getvalue()


def _finish(part: Part, result: Result, pipe: TextToImage, *, alone: bool) -> Event:
    """Encode a task's pictures."""
    order = part.task.order
    cut = result.cut
    try:
        if cut and not alone:  # whose text it was, nobody else may see
            cut = find_cut(pipe.bundle, part.job.texts, weighting=part.job.weighting)
        pictures = tuple(
            encode_picture(image, order.format, parameters if order.metadata else None, quality=order.quality)
            for image, parameters in zip(result.images, result.parameters, strict=True)
        )
    except Exception as error:
        return _failure(part.task.id, error)
    return Finished(
        pictures=pictures,
        parameters=tuple(asdict(parameters) for parameters in result.parameters),
        timings=dict(result.timings),
        notes=_notes(part.job, cut),
    )


def _notes(job: Job, cut: Sequence[str]) -> tuple[str, ...]:
    """Say what is worth a warning."""
    notes = [f"too long for the model, which did not see the end: {text.strip()!r}" for text in cut]
    if job.source is not None and job.source.scaled_from is not None:
        (height, width), (own_height, own_width) = job.source.result_size, job.source.scaled_from
        notes.append(f"got {own_width:,} x {own_height:,} pixels, scaled down to {width} x {height}")
    return tuple(notes)


def _failure(task_id: str, error: Exception) -> Failed:
    """Say what went wrong: to the client what is of use to it, to the log all of it, paths included."""
    if isinstance(error, InvalidArgument):
        return Failed(message=str(error), status=400)
    if not isinstance(error, (Sd2rtError, MemoryError)):
        log.error("%s failed", task_id, exc_info=error)
        return Failed(message=f"{task_id}: the server failed; its log says why", status=500)
    log.error("%s failed: %s", task_id, error)
    if type(error) is EngineError:  # those of opening and building name files
        return Failed(message=str(error), status=500)
    why = "memory ran out" if isinstance(error, MemoryError) else "its model cannot be used; the server's log says why"
    return Failed(message=f"{task_id}: {why}", status=500)
