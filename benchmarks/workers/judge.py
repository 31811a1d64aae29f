"""Judge what the contenders painted: `python -m benchmarks.workers.judge CASES.json`, from a list of cases to a list of verdicts.

A case has `pictures` (an .npy file [N, H, W, 3] or one .png) and perhaps a `reference`, painted from the same noise, `captions` to
hold toyworld's pictures against, and `same`: which pictures show the reference's caption (all where it is missing).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from benchmarks.records import summary
from benchmarks.workers.difference import psnr_db
from sd2rt.toyworld.checker import check, sum_up

Pictures = npt.NDArray[np.uint8]


def read_pictures(path: str) -> Pictures:
    """Read [N, H, W, 3] bytes."""
    return np.load(path) if path.endswith(".npy") else np.asarray(Image.open(path).convert("RGB"))[None]


def judge(case: Mapping[str, Any]) -> dict[str, Any]:
    """Return the number of pictures, the part of them that is right where there are captions, and PSNR to the reference in dB."""
    pictures = read_pictures(case["pictures"])
    found: dict[str, Any] = {"pictures": len(pictures)}
    if captions := case.get("captions"):
        reports = [check(picture, caption) for picture, caption in zip(pictures, captions, strict=True)]
        found["prompt_accuracy"] = sum_up(reports).overall
    if "reference" in case:
        reference = read_pictures(case["reference"])
        found["psnr_db"] = summary([psnr_db(pictures[k], reference[k]) for k in case.get("same", range(len(pictures)))])
    return found


if __name__ == "__main__":
    print(json.dumps([judge(case) for case in json.loads(Path(sys.argv[1]).read_text())]))
