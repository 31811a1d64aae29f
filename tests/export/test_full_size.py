"""Export, build and paint at SD2's real size, through the command line, with random weights: minutes and about 10 GB of disk each."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytestmark = [pytest.mark.torch, pytest.mark.slow]

MAX_EXPORT_BYTES = 8e9  # one component in float32 and its graph


def sd2rt(*arguments: str, cache: Path) -> int:
    """Run one command line in a process of its own, which must succeed, and return the most memory it held, in bytes."""
    command = [sys.executable, "-m", "sd2rt.cli", *arguments]
    process = subprocess.Popen(command, env={**os.environ, "SD2RT_CACHE": str(cache)})
    _, status, usage = os.wait4(process.pid, 0)  # this child's own, where RUSAGE_CHILDREN is the largest of all so far
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, f"{arguments[0]} exits with {process.returncode}"
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def assert_exports_and_paints(source: list[str], size: int, folder: Path) -> None:
    """Take `source`, arguments of `export`, to a picture of `size` x `size` pixels that is neither constant nor NaN."""
    bundle, cache, picture = folder / "bundle", folder / "cache", folder / "picture.png"
    peak = sd2rt("export", *source, "--dtype", "fp16", "--out", str(bundle), cache=cache)
    assert peak < MAX_EXPORT_BYTES, f"export held {peak / 1e9:.1f} GB"
    sd2rt("build", str(bundle), "--target", "cpu", cache=cache)
    options = ["--target", "cpu", "--steps", "2", "--seed", "0", "--out", str(picture)]
    sd2rt("generate", "a lighthouse at dusk", "--model", str(bundle), *options, cache=cache)
    with Image.open(picture) as image:
        assert (image.size, image.mode) == ((size, size), "RGB")
        pixels = np.asarray(image, dtype=np.float32)
    assert pixels.std() > 1  # NaN fails in `generate`, or would come out as one colour


@pytest.mark.parametrize(("preset", "size"), [("sd2-base", 512), ("sd21", 768)])
def test_full_size_models_export_in_8_gb_and_paint(preset: str, size: int, tmp_path: Path) -> None:
    assert_exports_and_paints(["--preset", preset, "--random-weights"], size, tmp_path)
