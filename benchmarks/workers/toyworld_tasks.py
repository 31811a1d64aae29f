"""How well the embedded models of the other tasks paint scenes that no training run saw, with their own defaults; judged without torch.

`python -m benchmarks.workers.toyworld_tasks inpainting|depth|upscaler COUNT [SHEET.png] [OPTION=VALUE...]`. Prints JSON; a sheet shows the
first forty cases. Options are a call's, such as steps=10 or guidance_scale=3.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from sd2rt.runtime import load
from sd2rt.runtime.text_to_image import TextToImage
from sd2rt.toyworld.evaluate_tasks import (
    enlargements,
    exchanges,
    gain_over_bicubic_db,
    judge_exchange,
    judge_recolouring,
    recolourings,
)

Picture = npt.NDArray[np.uint8]
Rows = list[list[Picture]]
Options = Mapping[str, Any]
SHOWN, COLUMNS = 40, 4


def paint(pipe: TextToImage, caption: str, seed: int, options: Options) -> Picture:
    """Paint one picture, [H, W, 3]."""
    return np.asarray(pipe(caption, seed=seed, **options).images[0])


def inpainting(pipe: TextToImage, count: int, options: Options) -> tuple[dict[str, float], Rows]:
    """Exchange a solid; nothing is pasted back."""
    cases = exchanges(count)
    painted = [paint(pipe, c.caption, k, {"image": c.image, "mask": c.mask, "paste": False, **options}) for k, c in enumerate(cases)]
    verdicts = [judge_exchange(case, picture) for case, picture in zip(cases, painted, strict=True)]
    outside = [verdict.outside_db for verdict in verdicts]
    found = {
        "solid_right": float(np.mean([verdict.solid_right for verdict in verdicts])),
        "all_right": float(np.mean([verdict.passed for verdict in verdicts])),
        "outside_db": float(np.mean(outside)),
        "least_outside_db": min(outside),
    }
    masked = [np.where(case.mask[:, :, None], 128, case.image).astype(np.uint8) for case in cases]
    return found, [[case.image, hidden, picture] for case, hidden, picture in zip(cases, masked, painted, strict=True)]


def depth(pipe: TextToImage, count: int, options: Options) -> tuple[dict[str, float], Rows]:
    """Recolour a scene, from its picture and depth."""
    cases = recolourings(count)
    painted = [paint(pipe, c.caption, k, {"image": c.image, "depth": c.depth, **options}) for k, c in enumerate(cases)]
    verdicts = [judge_recolouring(case, picture) for case, picture in zip(cases, painted, strict=True)]
    overlaps = [verdict.overlap for verdict in verdicts]
    found = {
        "colours_right": float(np.mean([verdict.colours_right for verdict in verdicts])),
        "all_right": float(np.mean([verdict.report.passed for verdict in verdicts])),
        "floor_right": float(np.mean([verdict.report.floor_right for verdict in verdicts])),
        "overlap": float(np.mean(overlaps)),
        "least_overlap": min(overlaps),
    }
    return found, [[case.image, picture] for case, picture in zip(cases, painted, strict=True)]


def upscaler(pipe: TextToImage, count: int, options: Options) -> tuple[dict[str, float], Rows]:
    """Enlarge a picture without a prompt."""
    cases = enlargements(count)
    painted = [paint(pipe, "", k, {"image": case.small, **options}) for k, case in enumerate(cases)]
    gains = [gain_over_bicubic_db(case, picture) for case, picture in zip(cases, painted, strict=True)]
    bicubic = [np.asarray(Image.fromarray(case.small).resize(case.large.shape[:2], Image.Resampling.BICUBIC)) for case in cases]
    found = {
        "gain_over_bicubic_db": float(np.mean(gains)),
        "least_gain_db": min(gains),
        "part_above_bicubic": float(np.mean(np.greater(gains, 0))),
    }
    return found, [[soft, picture, case.large] for soft, picture, case in zip(bicubic, painted, cases, strict=True)]


MEASURES: dict[str, Callable[[TextToImage, int, Options], tuple[dict[str, float], Rows]]] = {
    "inpainting": inpainting,
    "depth": depth,
    "upscaler": upscaler,
}


def save_sheet(path: Path, rows: Rows) -> None:
    """Lay the first cases out, each its pictures side by side."""
    cases = [np.concatenate(row, 1) for row in rows[: SHOWN // COLUMNS * COLUMNS]]
    columns = [np.concatenate(cases[k::COLUMNS]) for k in range(COLUMNS)]
    shortest = min(len(column) for column in columns)
    Image.fromarray(np.concatenate([column[:shortest] for column in columns], 1)).save(path)


def main(task: str, count: str, *more: str) -> None:
    """Measure one task and print what was found."""
    options = {name: json.loads(value) for name, _, value in (option.partition("=") for option in more if "=" in option)}
    with load(f"toyworld-{task}", target="cpu") as pipe:
        found, rows = MEASURES[task](pipe, int(count), options)
    for sheet in [option for option in more if "=" not in option]:
        save_sheet(Path(sheet), rows)
    print(json.dumps({"model": f"toyworld-{task}", "pictures": int(count), **options, **found}))


if __name__ == "__main__":
    main(*sys.argv[1:])
