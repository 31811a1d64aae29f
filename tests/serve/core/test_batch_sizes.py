"""How many pictures are joined, by target, model and what waits."""

from __future__ import annotations

import pytest

from sd2rt.runtime.bundle import read_bundle
from sd2rt.runtime.models import find_model
from sd2rt.serve import batch_sizes as sizes
from sd2rt.serve.admission import Admitted
from sd2rt.serve.jobs import ServedJob
from sd2rt.serve.order import Order
from sd2rt.serve.queue import WaitingJobs


@pytest.mark.parametrize(
    ("target", "most", "expected"),
    [
        ("cpu", 4, (1, 2, 3, 4)),
        ("cpu", 1, (1,)),
        ("auto", 3, (1, 2, 3)),  # toyworld is small
        ("openvino", 8, (1, 2, 4, 8)),
        ("openvino", 7, (1, 2, 4)),
        ("openvino", 1, (1,)),
        ("tensorrt", 8, (1,)),
        ("cuda", 8, (1,)),
    ],
)
def test_sizes_depend_on_the_target(target: str, most: int, expected: tuple[int, ...]) -> None:
    assert sizes.batch_sizes(read_bundle(find_model("toyworld")), target, most) == expected


def test_large_models_are_painted_one_at_a_time_on_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "SMALL_BYTES", 1 << 20)
    assert sizes.batch_sizes(read_bundle(find_model("toyworld")), "openvino", 8) == (1,)
    assert sizes.batch_sizes(read_bundle(find_model("toyworld")), "cpu", 2) == (1, 2)


def queue(counts: list[int], batch_sizes: tuple[int, ...], keys: str = "") -> WaitingJobs:
    """A queue of orders for so many pictures."""
    waiting = WaitingJobs(len(counts))
    for count, key in zip(counts, keys or "a" * len(counts), strict=True):
        assert waiting.reserve()
        seeds = tuple(range(count))
        order = Order(model="toyworld", options={})
        admitted = Admitted(order=order, seeds=seeds, width=8, height=8, steps=1, total_steps=1, key=key, batch_sizes=batch_sizes)
        waiting.add(ServedJob(admitted, "me"))
    return waiting


@pytest.mark.parametrize(
    ("counts", "batch_sizes", "taken"),
    [
        ([1] * 5, (1, 2, 4), 4),
        ([1] * 3, (1, 2, 4), 2),
        ([1] * 9, (1, 2, 3, 4), 4),
        ([3, 1, 1], (1, 2, 4), 2),
        ([3, 2, 1], (1, 2, 4), 2),  # the second one is too many, the third is not
        ([8, 1], (1, 2, 4), 1),
        ([2, 1], (1, 2, 4), 1),
        ([1, 1], (1,), 1),
    ],
)
def test_batches_have_one_of_the_sizes(counts: list[int], batch_sizes: tuple[int, ...], taken: int) -> None:
    waiting = queue(counts, batch_sizes)
    assert len(waiting.take()) == taken
    assert len(waiting) == len(counts) - taken
    assert [job.position for job in waiting] == list(range(1, len(waiting) + 1))


def test_a_batch_is_full_when_nothing_can_join_it() -> None:
    assert queue([1, 1], (1, 2)).full()
    assert not queue([1, 1], (1, 2, 4)).full()
    assert queue([1], (1,)).full()
    assert queue([], (1,)).full()


def test_places_are_bounded_and_given_back() -> None:
    waiting = WaitingJobs(1)
    assert waiting.reserve()
    assert not waiting.reserve()
    waiting.give_back()
    assert waiting.reserve()
