"""Export, build and paint at SD2's real size, through the command line, with random weights: minutes and up to 10 GB of disk each."""

import json
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


def assert_exports(source: list[str], bundle: Path, cache: Path) -> None:
    """Export in bounded memory; each component passes its gate there, or the command fails."""
    peak = sd2rt("export", *source, "--dtype", "fp16", "--out", str(bundle), cache=cache)
    assert peak < MAX_EXPORT_BYTES, f"export held {peak / 1e9:.1f} GB"


def assert_exports_and_paints(source: list[str], size: int, folder: Path) -> None:
    """Take `source`, arguments of `export`, to a picture of `size` x `size` pixels that is neither constant nor NaN."""
    bundle, cache, picture = folder / "bundle", folder / "cache", folder / "picture.png"
    assert_exports(source, bundle, cache)
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


@pytest.mark.parametrize(
    ("preset", "task", "native_size", "channels"),
    [
        ("sd2-inpainting", "inpainting", 512, 9),
        ("sd2-depth", "depth-to-image", 512, 5),
        ("x4-upscaler", "upscaling", 512, 7),
    ],
)
def test_full_size_models_of_the_other_tasks_export_in_8_gb(
    preset: str, task: str, native_size: int, channels: int, tmp_path: Path
) -> None:
    assert_exports(["--preset", preset, "--random-weights"], tmp_path / "bundle", tmp_path / "cache")
    facts = json.loads((tmp_path / "bundle" / "bundle.json").read_text())
    assert (facts["task"], facts["native_size"]) == (task, [native_size, native_size])
    assert facts["components"]["unet"]["inputs"][0]["shape"] == ["batch", channels, "height", "width"]
