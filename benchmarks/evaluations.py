"""What fewer rows of the UNet cost on toyworld: prompt accuracy, likeness to 50 guided steps of DDIM, and time per picture."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.measure import run_measured
from benchmarks.records import Record, conditions_line, table

CASES: tuple[dict[str, Any], ...] = (
    *({"speed": speed} for speed in ("quality", "balanced", "fast")),
    *(
        {"sampler": "ddim", "steps": 50, **left_out}
        for left_out in ({"guidance_interval": [0, 0.5]}, {"guidance_reuse": 2}, {"deep_cache": 3})
    ),
    {"sampler": "euler", "steps": 8},
    {"sampler": "euler", "steps": 6, "guidance_interval": [0, 0.75]},
    {"sampler": "euler", "steps": 15, "deep_cache": 2},
    {"sampler": "euler", "steps": 12, "deep_cache": 2, "guidance_interval": [0, 0.75]},
    {"speed": "fast", "decoder": "tiny"},
)
WORDS = {"speed": "--speed", "guidance_interval": "guidance interval", "guidance_reuse": "guidance reuse", "deep_cache": "deep cache"}


def measure(bundle: Path, *, captions: int) -> dict[str, Any]:
    """Paint the same held-out captions in every case, in one process. Raises ContenderFailed."""
    command = [sys.executable, "-m", "benchmarks.workers.evaluations", str(bundle), str(captions)]
    return dict(json.loads(run_measured([*command, *map(json.dumps, CASES)]).stdout))


def report(record: Record) -> str:
    """Make the table from a result file; the first case is the reference."""
    given, found = record["parameters"], record["results"]
    whole, captions = found[0], given["captions"]
    rows = [
        [
            describe(case["options"]),
            f"{case['unet_rows']} ({case['unet_rows'] / whole['unet_rows']:.2f})",
            f"{100 * case['prompt_accuracy']:.1f} %",
            "reference" if case is whole else f"{case['psnr_db']['median']:.1f} dB",
            f"{1000 * sum(case['batch_s']) / captions:.0f}",
        ]
        for case in found
    ]
    return (
        f"{table(['', 'UNet rows (share)', 'all parts right', 'PSNR', 'ms per picture'], rows)}\n\n"
        f"{captions} held-out captions of toyworld in batches of {given['batch']}, guidance {given['guidance_scale']}, target cpu; PSNR "
        "(median) against the first row, from the same noise. Of the rows that deep cache counts, most are of the outer layers alone. "
        f"{conditions_line(record)}"
    )


def describe(options: Mapping[str, Any]) -> str:
    """Word a case's options: sampler and steps first."""
    rest = {name: value for name, value in options.items() if name not in ("sampler", "steps")}
    words = [f"{options['sampler']}, {options['steps']} steps"] if "sampler" in options else []
    for name, value in rest.items():
        text = ",".join(f"{end:g}" for end in value) if isinstance(value, list) else str(value)
        words.append(f"{WORDS.get(name, name)} {text}")
    return ", ".join(words)
