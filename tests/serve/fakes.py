"""A backend that paints nothing: real checks, events and files of one colour, at a pace and with the mishaps that a test asks for."""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict

from PIL import Image

from sd2rt.runtime.bundle import read_bundle
from sd2rt.runtime.models import find_model
from sd2rt.runtime.picture_file import encode_picture
from sd2rt.runtime.record import record
from sd2rt.runtime.result import Timings
from sd2rt.serve.backend import Task
from sd2rt.serve.errors import WorkerLost
from sd2rt.serve.order import Cancelled, Event, Failed, Finished, Previewed, Started, Stepped
from sd2rt.serve.painting import preview_steps
from sd2rt.serve.resolve_order import resolve_order


class FakeBackend:
    """Each step takes `step_s`. `batches` holds the ids of every batch; `hold()` keeps steps from being taken until `release()`.

    A prompt with the word "fail" fails with status 500; one with "poison" loses its worker.
    """

    def __init__(self, *, slots: int = 1, step_s: float = 0.0) -> None:
        self.slots = slots
        self.batches: list[list[str]] = []
        self.started = False
        self._step_s = step_s
        self._cancelled: set[str] = set()
        self._after = 0
        self._go = asyncio.Event()
        self._go.set()

    async def start(self) -> None:
        """See `Backend`."""
        self.started = True

    async def stop(self) -> None:
        """See `Backend`."""
        self.started = False

    def hold(self, after: int = 0) -> None:
        """Let batches begin, and take no step, or `after` steps."""
        self._after = after
        self._go.clear()

    def release(self) -> None:
        """Go on."""
        self._go.set()

    def cancel(self, job_id: str) -> None:
        """See `Backend`."""
        self._cancelled.add(job_id)

    async def paint(self, batch: Sequence[Task]) -> AsyncIterator[tuple[str, Event]]:
        """See `Backend`."""
        self.batches.append([task.id for task in batch])
        jobs = {task.id: resolve_order(task.order, read_bundle(find_model(task.order.model))) for task in batch}
        total = max(len(job.table.rows) for job in jobs.values())
        live = {task.id: task for task in batch}
        for task in batch:
            yield task.id, Started(total_steps=total, rows=sum(len(job.seeds) for job in jobs.values()))
        for step in range(1, total + 1):
            await self._pause(live, step)
            for task_id in [task_id for task_id in live if task_id in self._cancelled]:
                del live[task_id]
                yield task_id, Cancelled()
            if not live:
                return
            for task in list(live.values()):
                if "poison" in task.order.options["prompt"]:
                    raise WorkerLost("the fake worker is gone")
                yield task.id, Stepped(step=step, total_steps=total)
                if step in (steps := preview_steps(task.order.previews, total)):
                    index = sorted(steps).index(step)
                    yield task.id, Previewed(index=index, step=step, pictures=tuple(_png(seed) for seed in jobs[task.id].seeds))
        for task in list(live.values()):
            yield task.id, _ending(task)

    async def _pause(self, live: dict[str, Task], step: int) -> None:
        await asyncio.sleep(self._step_s)
        while step > self._after and not self._go.is_set() and not self._cancelled & live.keys():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._go.wait(), 0.01)


def _ending(task: Task) -> Finished | Failed:
    if "fail" in task.order.options["prompt"]:
        return Failed(message=f"{task.id}: asked to fail", status=500)
    order = task.order
    bundle = read_bundle(find_model(order.model))
    job = resolve_order(order, bundle)
    size = (job.width, job.height) if job.source is None else job.source.result_size[::-1]
    records = record(job, bundle, "cpu", 2 * job.steps)
    files = tuple(
        encode_picture(Image.new("RGB", size, _colour(seed)), order.format, parameters if order.metadata else None, quality=order.quality)
        for seed, parameters in zip(job.seeds, records, strict=True)
    )
    timings = Timings(load=0.0, encode=0.0, text=0.0, steps=[0.0] * len(job.table.rows), decode=0.0, total=0.0)
    return Finished(pictures=files, parameters=tuple(map(asdict, records)), timings=dict(timings))


def _colour(seed: int) -> tuple[int, int, int]:
    return seed % 251, seed % 241, seed % 239


def _png(seed: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), _colour(seed)).save(stream, "PNG")
    return stream.getvalue()
