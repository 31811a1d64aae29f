"""What is said of a server's figures."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks.records import read_record
from benchmarks.serving import CLIENTS, report, slope


@pytest.fixture
def record() -> dict[str, Any]:
    loads = [{"clients": count, "pictures": 10 * count, "seconds": 2.0, "latencies_s": [0.1]} for count in CLIENTS]
    parts = {
        "throughput_cpu": {"target": "cpu", "servers": [{"batch": 8, "workers": workers, "loads": loads} for workers in (1, 2)]},
        "overhead": {
            "target": "cpu",
            "rounds": 2,
            "pauses": [
                {
                    "pause_s": pause_s,
                    "seconds": {"server": [0.105 + pause_s, 0.103, 0.3], "pipeline": [0.1, 0.101, 0.1]},
                    "engines": {"server": [0.099, 0.098, 0.2], "pipeline": [0.099, 0.1, 0.098]},
                    "equal_bytes": 3,
                }
                for pause_s in (0.0, 0.02)
            ],
        },
        "refusals": {"queue": 4, "seconds": [0.001, 0.002, 0.009], "statuses": [429]},
        "soak": {"requests": 1234, "routes": 30, "seconds": 90.0, "failures": [], "memory": [[0, 5], [100, 10**8], [200, 10**8 + 500_000]]},
        "cancels": {"cancels": 100, "before_bytes": 200_000_000, "after_bytes": 201_000_000, "seconds": [0.01, 0.02]},
        "kills": {"kills": 4, "answered": 80, "statuses": {"200": 80}},
    }
    machine = {"cpu": "A processor", "cores": 2, "memory_bytes": 24 << 30}
    return {
        "parameters": {"steps": 20, "sampler": "ddim", "seconds_per_load": 2.0},
        "parts": parts,
        "machine": machine,
        "versions": {"python": "3.11.7"},
        "commit": "0123456789abcdef",
        "uncommitted_changes": False,
        "date": "2026-11-23T10:00:00+00:00",
    }


@pytest.mark.parametrize(
    "said",
    [
        "| cpu, batches of up to 8 | 5.0 | 10.0 | 20.0 | 40.0 | 80.0 | 8.00 x |",
        "| cpu, batches of up to 8, 2 workers | 5.0 |",
        "adds 5.0 ms** to a picture of a client that asks again at once: besides its engines a request takes 6.0 ms, the same call",
        "1.0 (medians of 3, in turn, over 2 starts of both)",
        "it is 105.0 ms against 100.0, by pairs 5.0 ms more",
        "After a pause of 20 ms, when the machine has gone idle, a request takes 26.0 ms besides its engines",
        "3 of the 3 files were equal byte for byte",
        "(4 waiting) is told with 429 in 2.0 ms (the slowest of 3: 9.0 ms)",
        "**1,234 requests** of four clients over 30 kinds of visits in 1.5 minutes: 0 failures, memory grew by 0.50 MB per 100 requests",
        "**100 jobs cancelled** while they were painted, half of them by hanging up: the slowest ended after 20 ms; memory +0.50 % (200 MB",
        "of 80 requests, 80 with 200",
        "20 steps of ddim, through POST /v1/images/generations",
    ],
)
def test_the_report_says_what_was_measured(record: dict[str, Any], said: str) -> None:
    assert said in report(record)


def test_what_was_measured_last_can_be_reported() -> None:
    found = read_record(Path("benchmarks/results"), "serving")
    assert found is not None
    assert "adds" in report(found)


def test_parts_that_were_not_measured_are_left_out(record: dict[str, Any]) -> None:
    record["parts"] = {"kills": record["parts"]["kills"]}
    assert "adds" not in report(record)
    assert "workers killed" in report(record)


def test_the_slope_is_that_of_the_second_half() -> None:
    assert slope([(number, 5.0 * number) for number in range(100)]) == pytest.approx(500.0)
    assert slope([(0, 0), (100, 10**9), (200, 10**9), (300, 10**9)]) == pytest.approx(0.0)
    assert slope([(1, 1)]) == 0.0
