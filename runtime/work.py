"""What the device loop is given for a job: the sampler's table packed, the noise of all rows, and the step's further inputs."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from sd2rt.engine.device_job import Work
from sd2rt.engine.step_table import pack_row, pack_table
from sd2rt.runtime.prompt import Layout
from sd2rt.runtime.prompt_weights import weigh
from sd2rt.runtime.request import Job
from sd2rt.runtime.start import Floats, Start
from sd2rt.runtime.table import Table


def make_work(job: Job, start: Start, layout: Layout) -> Work:
    """Lay out a job that begins from `start`. `layout` is of prompts as long as each other, and of negative ones when guided."""
    rows = job.table.rows
    copies = len(layout.rows[0])
    chunks = np.array([layout.column(text) for text in reversed(range(copies))]).reshape(-1)  # the UNet's rows begin with negative prompts
    weights = layout.weights[chunks]
    return Work(
        ids=layout.ids[chunks],
        weigh=partial(weigh, weights=weights) if (weights != 1).any() else None,
        latents=start.latents(job.table),
        table=pack_steps(job.table),
        rows=len(rows),
        noise={index: start.draw() for index, row in enumerate(rows) if row.uses_noise},
        guidance=(job.guidance_scale, job.guidance_rescale),
        conditions=make_conditions(start, copies=copies),
    )


def pack_steps(table: Table) -> Floats:
    """Pack a table for a step engine: float32 [TABLE_ROWS, ROW]. Raises InvalidArgument when it has more rows than fit."""
    levels = [table.level_after(index) for index in range(len(table.rows))]
    return pack_table(
        [
            pack_row(row.t, row.in_scale, row.clean, row.weights, known_alpha=alpha, known_sigma=sigma)
            for row, (alpha, sigma) in zip(table.rows, levels, strict=True)
        ]
    )


def make_conditions(start: Start, copies: int) -> dict[str, npt.NDArray[Any]]:
    """Return the step's further inputs by name; class labels `copies` times, once for each of an image's rows in the UNet."""
    conditions: dict[str, npt.NDArray[Any]] = {}
    if start.extra is not None:
        conditions["extra"] = start.extra
    if start.class_labels is not None:
        conditions["class_labels"] = np.tile(start.class_labels, copies)
    if start.kept is not None:
        mask = np.broadcast_to(start.kept.mask, (len(start.noise), *start.kept.mask.shape[1:]))
        conditions |= {"known": start.kept.clean, "known_noise": start.kept.noise, "mask": mask}
    return conditions
