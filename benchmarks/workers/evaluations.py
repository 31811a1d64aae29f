"""What fewer UNet rows cost: toyworld captions painted with each way of leaving work out, judged, timed, and compared with all of it.

`python -m benchmarks.workers.evaluations BUNDLE CAPTIONS [OPTIONS...]`, each OPTIONS the JSON of a call's options; without any, those
of `CASES`. The first case, 50 steps of DDIM with every row guided, is what the others are compared with, from the same noise.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt

from benchmarks.records import summary
from benchmarks.workers.accuracy import fixed_noise, psnr_db
from sd2rt.runtime import load
from sd2rt.runtime.text_to_image import TextToImage
from sd2rt.toyworld.evaluate import Evaluation, evaluate

BATCH = 10
REFERENCE: dict[str, Any] = {"sampler": "ddim", "steps": 50}
CASES: tuple[dict[str, Any], ...] = (
    *(
        {"sampler": "ddim", "steps": 50, **left_out}
        for left_out in ({"guidance_interval": [0, 0.5]}, {"guidance_reuse": 2}, {"deep_cache": 3})
    ),
    *({"speed": speed} for speed in ("quality", "balanced", "fast")),
    *({"sampler": sampler, "steps": steps} for sampler in ("ddim", "euler", "dpm++ 2m", "deis", "unipc", "heun") for steps in (8, 12)),
    *({"sampler": "euler", "steps": 6, "guidance_interval": ends} for ends in ([0, 1], [0, 0.75])),
    *({"sampler": "euler", "steps": 8, "guidance_interval": ends} for ends in ([0, 0.5], [0.1, 0.8])),
    *({"sampler": "euler", "steps": 12, "guidance_interval": ends} for ends in ([0, 0.75], [0.2, 0.8])),
    *({"sampler": "euler", "steps": 12, "guidance_reuse": every} for every in (2, 3)),
    *({"sampler": "euler", "steps": steps, "deep_cache": 2} for steps in (8, 12, 15)),
    {"sampler": "euler", "steps": 12, "deep_cache": 2, "guidance_interval": [0, 0.75]},
)


class CountingPainter:
    """Paint captions with one case's options from given noise, and add up the seconds and rows of the UNet that takes."""

    def __init__(self, pipe: TextToImage, options: Mapping[str, Any]) -> None:
        self.pipe, self.options, self.noise = pipe, options, fixed_noise(pipe.bundle)
        self.seconds: list[float] = []
        self.unet_rows = 0

    def __call__(self, captions: list[str]) -> list[npt.ArrayLike]:
        result = self.pipe(captions, latents=self.noise(len(captions)), **self.options)  # type: ignore[arg-type]  # from a command line
        self.seconds.append(result.timings["total"])
        self.unet_rows = result.unet_rows
        return list(result.images)


def measure(bundle: Path, *, captions: int, cases: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Paint the same held-out captions in every case."""
    found = []
    with load(bundle, target="cpu") as pipe:
        reference: Evaluation | None = None
        for options in (REFERENCE, *cases):
            painter = CountingPainter(pipe, options)
            evaluate(painter, BATCH, batch=BATCH)  # opens what this case needs
            painter = CountingPainter(pipe, options)
            evaluation = evaluate(painter, captions, batch=BATCH)
            reference = reference or evaluation
            psnr = [psnr_db(one, other) for one, other in zip(evaluation.images, reference.images, strict=True)]
            found.append(
                {
                    "options": dict(options),
                    "unet_rows": painter.unet_rows,
                    "prompt_accuracy": evaluation.accuracy.overall,
                    "psnr_db": summary(psnr),
                    "batch_s": painter.seconds,
                }
            )
            print(summary_line(found[-1]), file=sys.stderr, flush=True)
        guidance = pipe.bundle.defaults.guidance_scale
    return {"parameters": {"captions": captions, "batch": BATCH, "guidance_scale": guidance}, "results": found}


def summary_line(found: Mapping[str, Any]) -> str:
    """Word one case in a line."""
    options, seconds = json.dumps(found["options"]), sum(found["batch_s"])
    accuracy, psnr = 100 * found["prompt_accuracy"], found["psnr_db"]["median"]
    return f"{accuracy:5.1f} % right, {found['unet_rows']:3} rows, {psnr:5.1f} dB, {seconds:6.1f} s: {options}"


if __name__ == "__main__":
    asked = [json.loads(text) for text in sys.argv[3:]]
    print(json.dumps(measure(Path(sys.argv[1]), captions=int(sys.argv[2]), cases=asked or CASES)))
