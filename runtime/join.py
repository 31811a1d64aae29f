"""Several jobs as one: what an engine's batch may hold together, and whose pictures are whose afterwards.

Every image of a batch has its own prompt, seed and noise, so that a job's pictures are what they would be without the others. Knows no
engine.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import fields, replace
from itertools import chain

from sd2rt.runtime.noise import Variation
from sd2rt.runtime.request import Job
from sd2rt.runtime.result import Result

OWN = ("prompts", "negative_prompts", "seeds")
"""What an image has for itself."""
APART = ("latents", "source", "table", "variation")
"""What a key does not hold as it is: jobs with either of the first two are not joined, the table follows from steps and sampler."""
SHARED = tuple(field.name for field in fields(Job) if field.name not in OWN + APART)


def join_key(job: Job) -> Hashable | None:
    """Return what jobs of one model have in common that can be joined; None for one that must be painted by itself.

    That is one with given latents, or with a picture to begin from.
    """
    if job.latents is not None or job.source is not None:
        return None
    turned = None if job.variation is None else job.variation.strength
    return (*(getattr(job, name) for name in SHARED), turned)


def join(jobs: Sequence[Job]) -> Job:
    """Return the job that paints the images of all, in order; they have the same key, which is not None, unless there is only one."""
    first = jobs[0]
    if len(jobs) == 1:
        return first
    variations = [job.variation for job in jobs if job.variation is not None]
    seeds = tuple(chain.from_iterable(variation.seeds for variation in variations))
    return replace(
        first,
        prompts=tuple(chain.from_iterable(job.prompts for job in jobs)),
        negative_prompts=tuple(chain.from_iterable(job.negative_prompts for job in jobs)),
        seeds=tuple(chain.from_iterable(job.seeds for job in jobs)),
        variation=Variation(seeds=seeds, strength=variations[0].strength) if variations else None,
    )


def split(result: Result, jobs: Sequence[Job]) -> list[Result]:
    """Return each job's part of what their joined job came to. Timings are of all, and so is `cut`: see `prompt.find_cut`."""
    parts, first = [], 0
    for job in jobs:
        mine = slice(first, first + len(job.seeds))
        first = mine.stop
        parts.append(replace(result, images=result.images[mine], seeds=result.seeds[mine], parameters=result.parameters[mine]))
    return parts
