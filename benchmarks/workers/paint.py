"""Paint a job in one process and time each call: `python -m benchmarks.workers.paint JOB.json [PICTURE.png]`.

With a picture's name, the first one is saved there, as a user would. JSON comes to stdout.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from benchmarks.workers.painting import Floats, Job, Painter, Part, Pictures, read_job


def work(job: Job) -> dict[str, Any]:
    """Load the painter and do every part; seconds throughout."""
    start = perf_counter()
    painter: Painter = import_module(f"benchmarks.workers.painters.{job.painter}").open_painter(job)
    load_s = perf_counter() - start
    return {"load_s": load_s, "one_prompt": painter.one_prompt, "parts": {part.name: do_part(painter, job, part) for part in job.parts}}


def do_part(painter: Painter, job: Job, part: Part) -> dict[str, Any]:
    """Prepare, warm up, and time a part's calls, and of each the mean of all steps but the first; its pictures go to the job's folder."""
    noise: Floats = np.load(f"{job.noise}-{part.height}x{part.width}.npy")
    start = perf_counter()
    painter.prepare(part)
    times, pictures, step_s = [perf_counter()], [], []
    for number in range(-part.warm_ups, part.calls):
        painter.step_ends.clear()
        painted = call(painter, job, part, max(number, 0), noise)
        times.append(perf_counter())
        if number >= 0:
            pictures.append(painted)
            step_s.append(float(np.mean(np.diff(painter.step_ends))))
    if pictures:
        np.save(Path(job.out) / f"{part.name}.npy", np.concatenate(pictures))
    seconds = np.diff(times).tolist()
    return {"prepare_s": times[0] - start, "warm_up_s": seconds[: part.warm_ups], "call_s": seconds[part.warm_ups :], "step_s": step_s}


def call(painter: Painter, job: Job, part: Part, number: int, noise: Floats) -> Pictures:
    """Paint the next `batch` captions; a painter that takes one prompt gets the first of them for all."""
    chosen = range(number * part.batch, (number + 1) * part.batch)
    prompts = [job.captions[chosen[0] if painter.one_prompt else k] for k in chosen]
    return painter.paint(prompts, noise[chosen.start : chosen.stop], [job.seed + k for k in chosen], part)


def main(job_file: str, *picture: str) -> None:
    """Work, and save the first picture where that is asked for."""
    job = read_job(Path(job_file))
    found = work(job)
    for path in picture:
        from PIL import Image

        Image.fromarray(np.load(Path(job.out) / f"{job.parts[0].name}.npy")[0]).save(path)
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
