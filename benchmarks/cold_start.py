"""From the shell to a PNG on toyworld, each time in a fresh process: `sd2rt generate` against diffusers on the same weights.

Files are in the page cache and our engine is built; nothing else is warm. Stays small, see `measure.run_measured`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.measure import Sample, alternate, run_measured, undisturbed
from benchmarks.records import Record, conditions_line, rounds_text, summary, table
from benchmarks.schedulers import SCHEDULERS

PROMPT = "a large red sphere on the left and a small blue cube on the right, gray floor"
SEED = 7


def measure(bundle: Path, *, rounds: int, captions: int) -> dict[str, Any]:
    """Time both `rounds` times in turn, then judge what they paint on `captions` captions. Raises ContenderFailed."""
    defaults = json.loads((bundle / "bundle.json").read_text())["defaults"]
    scheduler = SCHEDULERS[defaults["sampler"]]
    with TemporaryDirectory() as temporary:
        work = Path(temporary)
        model = str(work / "diffusers")
        environment = {"SD2RT_CACHE": str(work / "cache"), "HF_HUB_OFFLINE": "1"}

        def run(*command: str) -> Sample:
            return run_measured(command, environment)

        run(sys.executable, "-m", "benchmarks.workers.diffusers_folder", str(bundle), model)
        commands = {
            "sd2rt": sd2rt_command(bundle, work / "sd2rt.png"),
            "diffusers": diffusers_command(model, scheduler, defaults, work / "diffusers.png"),
        }
        first = {name: run(*command) for name, command in commands.items()}
        samples = alternate({name: partial(run, *command) for name, command in commands.items()}, rounds)
        judged = run(sys.executable, "-m", "benchmarks.workers.accuracy", str(bundle), model, scheduler, str(captions))
    return {
        "parameters": {"prompt": PROMPT, "seed": SEED, "rounds": rounds, "scheduler": scheduler, "defaults": defaults},
        "first_run": {name: plain(sample) for name, sample in first.items()},
        "contenders": {name: contender(commands[name], samples[name]) for name in commands},
        "accuracy": json.loads(judged.stdout),
    }


def sd2rt_command(bundle: Path, out: Path) -> list[str]:
    """Return the command a user types; everything else is the bundle's default."""
    command = str(Path(sys.executable).with_name("sd2rt"))
    return [command, "generate", PROMPT, "--model", str(bundle), "--target", "cpu", "--seed", str(SEED), "--out", str(out), "--force"]


def diffusers_command(folder: str, scheduler: str, defaults: dict[str, Any], out: Path) -> list[str]:
    """Return the same done by the contender's script."""
    script = str(Path(__file__).parent / "workers" / "diffusers_text_to_image.py")
    steps, guidance = str(defaults["steps"]), str(defaults["guidance_scale"])
    return [sys.executable, script, folder, scheduler, PROMPT, steps, guidance, str(SEED), str(out)]


def contender(command: Sequence[str], samples: Sequence[Sample]) -> dict[str, Any]:
    """Put one contender's command, samples and the summary of the undisturbed ones together."""
    quiet = undisturbed(samples)
    return {
        "command": list(command),
        "samples": [plain(sample) for sample in samples],
        "undisturbed": len(quiet),
        "wall_s": summary([sample.wall_s for sample in quiet]),
        "peak_rss_bytes": summary([sample.peak_rss_bytes for sample in quiet]),
    }


def plain(sample: Sample) -> dict[str, float | None]:
    """Return the figures of a sample as JSON values."""
    return {"wall_s": sample.wall_s, "peak_rss_bytes": sample.peak_rss_bytes, "others_cores": sample.others_cores}


def report(record: Record) -> str:
    """Make the README's table from a result file."""
    contenders, accuracy = record["contenders"], record["accuracy"]
    rows = [
        [
            name,
            f"{found['wall_s']['median']:.2f} ({found['wall_s']['min']:.2f} to {found['wall_s']['max']:.2f})",
            f"{found['peak_rss_bytes']['median'] / 1e6:.0f}",
            f"{100 * accuracy['prompt_accuracy'][name]:.1f} %",
        ]
        for name, found in contenders.items()
    ]
    wall = {name: found["wall_s"]["median"] for name, found in contenders.items()}
    given, psnr = record["parameters"], accuracy["psnr_db"]
    settings = f"{given['defaults']['sampler']}, {given['defaults']['steps']} steps, guidance {given['defaults']['guidance_scale']}"
    head = ["", "seconds, shell to PNG", "peak memory, MB", "prompt accuracy"]
    return (
        f"{table(head, rows)}\n\nsd2rt is {wall['diffusers'] / wall['sd2rt']:.1f} times faster. "
        f"Medians (and ranges) of {rounds_text(record)} cold processes, toyworld, 64 x 64 pixels, {settings}. "
        f"Accuracy on {accuracy['captions']} held-out captions from the same noise; there the PNGs of the two agree to "
        f"{psnr['min']:.0f} dB or better (median {psnr['median']:.0f} dB, 99 for equal ones). {conditions_line(record)}"
    )
