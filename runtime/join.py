"""Several jobs as one: what an engine's batch may hold together, and whose pictures are whose afterwards.

Every image of a batch has its own prompt, seed and noise, so that a job's pictures are what they would be without the others. Knows no
engine.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import fields, replace
from hashlib import sha256
from itertools import chain

import numpy as np

from sd2rt.runtime.noise import Variation
from sd2rt.runtime.request import Job
from sd2rt.runtime.result import Result
from sd2rt.runtime.source import Source
from sd2rt.runtime.start import repeat_rows

OWN = ("prompts", "negative_prompts", "seeds")
"""What an image has for itself."""
APART = ("latents", "source", "table", "variation")
"""What a key does not hold as it is. The table follows from steps, sampler and strength."""
SHARED = tuple(field.name for field in fields(Job) if field.name not in OWN + APART)
OWN_OF_SOURCE = ("images", "originals", "image_sha256", "scaled_from")
MAPS = ("mask", "paste")
"""What a source has once for all of its pictures."""
SHARED_OF_SOURCE = tuple(field.name for field in fields(Source) if field.name not in (*OWN_OF_SOURCE, *MAPS, "depth"))


def join_key(job: Job) -> Hashable | None:
    """Return what jobs of one model have in common that can be joined; None for one that must be painted by itself.

    That is one with given latents or a depth map. Pictures to begin from may differ; their sizes, and the mask where there is one, may not.
    """
    if job.latents is not None or (job.source is not None and job.source.depth is not None):
        return None
    turned = None if job.variation is None else job.variation.strength
    return (*(getattr(job, name) for name in SHARED), turned, None if job.source is None else _source_key(job.source))


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
        source=None if first.source is None else _join_sources(jobs),
    )


def split(result: Result, jobs: Sequence[Job]) -> list[Result]:
    """Return each job's part of what their joined job came to. Timings are of all, and so is `cut`: see `prompt.find_cut`."""
    parts, first = [], 0
    for job in jobs:
        mine = slice(first, first + len(job.seeds))
        first = mine.stop
        parts.append(replace(result, images=result.images[mine], seeds=result.seeds[mine], parameters=result.parameters[mine]))
    return parts


def _source_key(source: Source) -> Hashable:
    digests = [None if (values := getattr(source, name)) is None else sha256(values.tobytes()).digest() for name in MAPS]
    originals = None if source.originals is None else source.originals.shape[1:]
    return (*(getattr(source, name) for name in SHARED_OF_SOURCE), *digests, originals)


def _join_sources(jobs: Sequence[Job]) -> Source:
    """Return the source of a joined job: a picture for each image, in order, whatever the jobs had in common."""
    pairs = [(job.source, len(job.seeds)) for job in jobs if job.source is not None]
    first, _ = pairs[0]
    images = [repeat_rows(source.images, count) for source, count in pairs if source.images is not None]
    originals = [repeat_rows(source.originals, count) for source, count in pairs if source.originals is not None]
    hashes = [sha for source, count in pairs for sha in source.image_sha256 for _ in range(count // len(source.image_sha256))]
    return replace(
        first,
        images=np.concatenate(images),
        originals=np.concatenate(originals) if originals else None,
        image_sha256=tuple(hashes),
        scaled_from=None,
    )
