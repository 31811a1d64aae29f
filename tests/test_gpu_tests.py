"""The tests that need a GPU, run on the fake one, so that they work when there is a real one to run them on."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_gpu_tests_pass_on_the_fake_gpu() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "tests/gpu/test_engines.py", "tests/gpu/test_pictures.py"]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "SD2RT_FAKE_GPU": "1"}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) >= 15
