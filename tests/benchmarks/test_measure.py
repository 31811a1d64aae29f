"""The timer, on commands whose cost is known."""

import re
import subprocess
import sys

import pytest

from benchmarks.machine import ROOT
from benchmarks.measure import QUIET_CORES, ContenderFailed, Sample, alternate, busy_seconds, run_measured, undisturbed


def test_a_process_is_measured_from_outside() -> None:
    """In a small process of its own: this one's memory would count as the child's until it executes."""
    measured = "import time; block = bytearray(200_000_000); time.sleep(0.3); print('done')"
    script = f"import sys; from benchmarks.measure import run_measured; print(run_measured([sys.executable, '-c', {measured!r}]))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    found = re.fullmatch(r"Sample\(wall_s=(.+), peak_rss_bytes=(.+), stdout='done\\n', others_cores=(.+)\)\n", done.stdout)
    assert found is not None
    assert 0.3 < float(found[1]) < 10.0
    assert 200_000_000 < int(found[2]) < 300_000_000
    assert found[3] == "None" or float(found[3]) >= 0.0


@pytest.mark.skipif(busy_seconds() is None, reason="the system does not tell how busy it is")
def test_a_busy_neighbour_is_noticed() -> None:
    spin = [sys.executable, "-c", "while True: pass"]
    with subprocess.Popen(spin) as neighbour:
        sample = run_measured([sys.executable, "-c", "import time; time.sleep(1)"])
        neighbour.kill()
    assert sample.others_cores is not None
    assert sample.others_cores > QUIET_CORES


def test_disturbed_samples_are_left_out_unless_all_are() -> None:
    quiet, loud, unknown = (Sample(wall_s=1.0, peak_rss_bytes=1, stdout="", others_cores=cores) for cores in (0.1, 1.5, None))
    assert undisturbed([loud, quiet, unknown]) == [quiet, unknown]
    assert undisturbed([loud, loud]) == [loud, loud]


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
