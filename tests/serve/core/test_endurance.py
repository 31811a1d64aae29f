"""A server under many requests, cancels and lost workers: what the benchmarks measure, in small; in full size when asked for (slow)."""

from __future__ import annotations

import pytest

from benchmarks import serving
from benchmarks.serving_endurance import measure_cancels, measure_kills, measure_soak
from benchmarks.serving_load import measure_refusals

MOST_SLOPE = 1e6  # bytes per 100 requests
WARM = 100  # requests in which every model was opened
MOST_GROWTH = 8e6  # bytes after them


@pytest.mark.parametrize("requests", [160, pytest.param(1000, marks=pytest.mark.slow)])
def test_every_route_answers_and_memory_stays(requests: int) -> None:
    found = measure_soak(requests)
    assert found["failures"] == []
    assert found["requests"] >= requests
    warm = next(held for done, held in found["memory"] if done >= WARM)
    assert found["memory"][-1][1] - warm < MOST_GROWTH
    assert requests < 1000 or serving.slope(found["memory"]) < MOST_SLOPE


@pytest.mark.slow
def test_cancelled_jobs_leave_nothing_behind() -> None:
    found = measure_cancels(100)
    assert len(found["seconds"]) == 100
    assert found["after_bytes"] / found["before_bytes"] - 1 < 0.01


@pytest.mark.slow
def test_killed_workers_cost_no_request() -> None:
    found = measure_kills(4.0, 2)
    assert found["kills"] == 2
    assert found["statuses"] == {"200": found["answered"]}


@pytest.mark.parametrize(("most_s", "slowest_s"), [(5.0, 20.0), pytest.param(0.05, 0.5, marks=pytest.mark.slow)])
def test_a_full_queue_is_told_while_all_cores_paint(most_s: float, slowest_s: float) -> None:
    """At once, while what is painted takes a minute; how soon that is, a machine that does nothing else is to say."""
    found = measure_refusals(20)
    assert found["statuses"] == [429]
    assert all(int(seconds) >= 1 for seconds in found["retry_after"])
    assert found["still_painting"]
    slowest = sorted(found["seconds"])
    assert slowest[18] < most_s  # of 20
    assert slowest[-1] < slowest_s
