"""The timer, on commands whose cost is known."""

import re
import subprocess
import sys

import pytest

from benchmarks.machine import ROOT
from benchmarks.measure import ContenderFailed, alternate, run_measured


def test_a_process_is_measured_from_outside() -> None:
    """In a small process of its own: this one's memory would count as the child's until it executes."""
    measured = "import time; block = bytearray(200_000_000); time.sleep(0.3); print('done')"
    script = f"import sys; from benchmarks.measure import run_measured; print(run_measured([sys.executable, '-c', {measured!r}]))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    found = re.fullmatch(r"Sample\(wall_s=(.+), peak_rss_bytes=(.+), stdout='done\\n'\)\n", done.stdout)
    assert found is not None
    assert 0.3 < float(found[1]) < 10.0
    assert 200_000_000 < int(found[2]) < 300_000_000


def test_environment_is_added() -> None:
    sample = run_measured([sys.executable, "-c", "import os; print(os.environ['PATH'] != '', os.environ['MARK'])"], {"MARK": "x"})
    assert sample.stdout == "True x\n"


def test_a_failed_command_gives_its_last_words() -> None:
    with pytest.raises(ContenderFailed, match=r"exited with 3.*no such model"):
        run_measured([sys.executable, "-c", "import sys; print('no such model', file=sys.stderr); sys.exit(3)"])


def test_contenders_alternate_and_every_sample_is_kept() -> None:
    order: list[str] = []

    def contender(name: str) -> int:
        order.append(name)
        return len(order)

    samples = alternate({"a": lambda: contender("a"), "b": lambda: contender("b")}, rounds=3)
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert samples == {"a": [1, 4, 5], "b": [2, 3, 6]}
