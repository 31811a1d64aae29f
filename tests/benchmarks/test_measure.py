"""The timer, on commands whose cost is known."""

import sys

import pytest

from benchmarks.measure import ContenderFailed, alternate, run_measured


def test_a_process_is_measured_from_outside() -> None:
    sample = run_measured([sys.executable, "-c", "import time; block = bytearray(200_000_000); time.sleep(0.3); print('done')"])
    assert 0.3 < sample.wall_s < 5.0
    assert 200_000_000 < sample.peak_rss_bytes < 300_000_000
    assert sample.stdout == "done\n"


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
