"""One job as several, painted one after the other: for engines that take fewer pictures at once. Every picture is what it would be.

`join` is the other way round. Knows no engine.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from sd2rt.runtime.options import Preview
from sd2rt.runtime.request import Job
from sd2rt.runtime.result import Result, State, Timings
from sd2rt.runtime.source import Source
from sd2rt.runtime.start import repeat_rows

if TYPE_CHECKING:
    from PIL.Image import Image

    from sd2rt.runtime.text_to_image import TextToImage


def split_job(job: Job, most: int) -> tuple[Job, ...]:
    """Return jobs of `most` images of a job's, in order, the last one of what is left; 0: the job itself."""
    count = len(job.seeds)
    if most == 0 or most >= count:
        return (job,)
    return tuple(_take(job, slice(first, first + most)) for first in range(0, count, most))


def paint_in_portions(pipe: TextToImage, job: Job, most: int) -> Iterator[State]:
    """Paint as `pipe.paint` does, `most` images at a time, as one run of all their steps. Give PIL images: others are not put together.

    A preview shows what was begun so far: pictures of later portions are not in it.
    """
    jobs = split_job(job, most)
    if len(jobs) == 1:
        yield from pipe.paint(job)  # closed with this one
        return
    done: list[Result] = []
    for number, portion in enumerate(jobs):
        before = number * len(job.table.rows)
        with closing(pipe.paint(portion)) as states:  # type: ignore[type-var]  # a generator, typed as an iterator
            for state in states:
                yield replace(
                    state,
                    index=before + state.index,
                    total=len(jobs) * state.total,
                    decode=partial(_preview, done, state),
                    result=partial(_finish, done, state),
                )
            if number + 1 < len(jobs):
                done.append(state.result())


def merge_results(results: Sequence[Result]) -> Result:
    """Return what portions came to as one result, of PIL images."""
    first = results[0]
    if len(results) == 1:
        return first
    timings = [result.timings for result in results]
    return replace(
        first,
        images=[image for result in results for image in result.images],
        seeds=tuple(chain.from_iterable(result.seeds for result in results)),
        timings=Timings(
            load=first.timings["load"],
            encode=sum(each["encode"] for each in timings),
            text=sum(each["text"] for each in timings),
            steps=[seconds for each in timings for seconds in each["steps"]],
            decode=sum(each["decode"] for each in timings),
            total=sum(each["total"] for each in timings),
        ),
        parameters=tuple(chain.from_iterable(result.parameters for result in results)),
        cut=tuple(dict.fromkeys(chain.from_iterable(result.cut for result in results))),
    )


def _preview(done: Sequence[Result], state: State, decoder: Preview | None) -> list[Image]:
    finished: list[Any] = [image for result in done for image in result.images]
    return [*finished, *state.preview(decoder)]


def _finish(done: Sequence[Result], state: State) -> Result:
    return merge_results([*done, state.result()])


def _take(job: Job, mine: slice) -> Job:
    """Return the job of some of a job's images."""
    return replace(
        job,
        prompts=job.prompts[mine],
        negative_prompts=job.negative_prompts[mine],
        seeds=job.seeds[mine],
        latents=None if job.latents is None else job.latents[mine],
        variation=None if job.variation is None else replace(job.variation, seeds=job.variation.seeds[mine]),
        source=None if job.source is None else _take_source(job.source, len(job.seeds), mine),
    )


def _take_source(source: Source, count: int, mine: slice) -> Source:
    """Return the pictures of some of `count` images; one picture is for all."""
    if source.images is None or len(source.images) == 1:
        return source
    hashes = np.repeat(np.array(source.image_sha256, object), count // len(source.image_sha256))
    return replace(
        source,
        images=repeat_rows(source.images, count)[mine],
        originals=None if source.originals is None else repeat_rows(source.originals, count)[mine],
        image_sha256=tuple(hashes[mine]),
    )
