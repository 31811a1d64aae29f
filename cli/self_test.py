"""Paint a picture of toyworld on a target and see whether it is right: in a process of its own, as a library may crash it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from sd2rt.cli.doctor_checks import Check
from sd2rt.cli.settings import OWN, PREFIX

CAPTION = "a large red sphere on the left and a small blue cube on the right, gray floor"
SEED = 7
MOST_S = 300  # engines of a GPU are built the first time
REMEDY = "run it again with -v: sd2rt generate 'a red cube' --target"


def paint_and_check(target: str, *, most_s: float = MOST_S) -> Check:
    """Paint with the model's own steps and compare with what the caption asks for."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="sd2rt-doctor-") as folder:
        picture = Path(folder) / "picture.png"
        command = [sys.executable, "-m", "sd2rt.cli", "generate", CAPTION, "--model", "toyworld", "--target", target]
        command += ["--seed", str(SEED), "--out", str(picture), "--json", "--quiet"]
        try:
            done = subprocess.run(command, env=plain_environment(os.environ), capture_output=True, text=True, timeout=most_s, check=False)
        except subprocess.TimeoutExpired:
            return _failed(target, f"no picture after {most_s:.0f} s")
        seconds = time.perf_counter() - started
        if done.returncode:
            said = done.stderr.strip().splitlines()
            return _failed(target, said[-1] if said else f"ended with code {done.returncode} and said nothing")
        verdict = judge(picture)
        painted = json.loads(done.stdout)["timings"]["total"]
    if verdict != "right":
        return _failed(target, f"painted something else: {verdict}")
    detail = f"the picture is right; painted in {painted:.2f} s, {seconds:.1f} s with starting"
    return Check(topic="self-test", name=target, state="ok", detail=detail)


def judge(picture: Path) -> str:
    """Return "right", or what is wrong with the picture in one line."""
    import numpy as np
    from PIL import Image

    from sd2rt.toyworld.checker import check

    with Image.open(picture) as image:
        return check(np.asarray(image.convert("RGB")), CAPTION).describe()


def plain_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without settings of ours: what is tested is the target."""
    kept = {name: value for name, value in environment.items() if not name.startswith(PREFIX) or name in OWN}
    return {**kept, "SD2RT_CONFIG": os.devnull, "SD2RT_DEBUG": ""}


def _failed(target: str, detail: str) -> Check:
    return Check(topic="self-test", name=target, state="failed", detail=detail, remedy=f"{REMEDY} {target}")
