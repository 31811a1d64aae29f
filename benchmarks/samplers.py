"""Prompt accuracy and time per picture of every sampler at several numbers of steps, on toyworld with our CPU engine."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.measure import run_measured
from benchmarks.records import Record, conditions_line, table

STEPS = (5, 10, 20)


def measure(bundle: Path, *, captions: int) -> dict[str, Any]:
    """Paint the same held-out captions with every sampler and number of steps, in one process. Raises ContenderFailed."""
    worker = run_measured([sys.executable, "-m", "benchmarks.workers.samplers", str(bundle), str(captions), *map(str, STEPS)])
    return dict(json.loads(worker.stdout))


def report(record: Record) -> str:
    """Make the README's table from a result file: per cent of the pictures right, and milliseconds per picture."""
    given = record["parameters"]
    rows: dict[str, list[str]] = {}
    for found in record["results"]:
        milliseconds = 1000 * sum(found["batch_s"]) / given["captions"]
        rows.setdefault(found["sampler"], []).append(f"{100 * found['prompt_accuracy']:.0f} % / {milliseconds:.0f} ms")
    head = ["sampler", *(f"{steps} steps" for steps in given["steps"])]
    return (
        f"{table(head, [[name, *cells] for name, cells in rows.items()])}\n\n"
        f"Pictures that are right in every part, of {given['captions']} held-out captions, and time per picture in batches of "
        f"{given['batch']}; toyworld, guidance {given['guidance_scale']}. {conditions_line(record)}"
    )
