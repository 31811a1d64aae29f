"""How long jobs are kept after they ended."""

from __future__ import annotations

import pytest

from sd2rt.serve.admission import Admitted
from sd2rt.serve.errors import UnknownJob
from sd2rt.serve.jobs import OVERHEAD_BYTES, ServedJob
from sd2rt.serve.order import Finished, Order
from sd2rt.serve.results import Results


def job(owner: str = "me") -> ServedJob:
    order = Order(model="toyworld", options={"prompt": "a"}, pictures={"image": b"upload"})
    return ServedJob(Admitted(order=order, seeds=(1,), width=8, height=8, steps=1, total_steps=1, key=None), owner)


def ended(results: Results, size: int = 10) -> ServedJob:
    done = job()
    results.add(done)
    done.tell(Finished(pictures=(bytes(size),), parameters=({},), timings={}))
    results.end(done)
    return done


def test_results_expire_by_time() -> None:
    now = [5.0]
    results = Results(60, 10**9, clock=lambda: now[0])
    done, waiting = ended(results), job()
    results.add(waiting)
    done.ended = 0.0  # the clock on the wall may be set anew meanwhile
    now[0] = 5 + 59
    assert results.of("me") == (waiting, done)
    now[0] = 5 + 61
    assert results.of("me") == (waiting,)
    with pytest.raises(UnknownJob, match="after 60 s"):
        results.find(done.id, "me")


def test_results_expire_by_size_the_oldest_first() -> None:
    results = Results(10**9, 3 * (OVERHEAD_BYTES + 10_100))
    jobs = [ended(results, 10_000) for _ in range(5)]
    assert results.of("me") == tuple(reversed(jobs[2:]))


def test_only_owners_find_their_jobs() -> None:
    results = Results(60, 10**9)
    mine = ended(results)
    assert results.find(mine.id, "me") is mine
    for owner, name in (("you", mine.id), ("me", "job-0")):
        with pytest.raises(UnknownJob):
            results.find(name, owner)


def test_uploads_are_dropped_when_a_job_ends() -> None:
    results = Results(60, 10**9)
    assert not ended(results).order.pictures
    assert job().order.pictures
