"""How often steps are told."""

from collections.abc import Iterator

from sd2rt.serve.order import Cancelled, Event, Previewed, Started, Stepped
from sd2rt.serve.pace import STEPS_EVERY_S, paced


def told(seconds_per_step: float, extra: dict[int, Event] | None = None) -> list[tuple[str, Event]]:
    """What is told of ten steps of a batch of two tasks, at a clock that a step moves on; `extra` events of the first follow steps."""
    now = 0.0

    def events() -> Iterator[tuple[str, Event]]:
        nonlocal now
        yield from ((name, Started(total_steps=10, rows=2)) for name in "ab")
        for step in range(1, 11):
            now += seconds_per_step
            yield from ((name, Stepped(step=step, total_steps=10)) for name in "ab")
            if extra and step in extra:
                yield "a", extra[step]

    return list(paced(events(), lambda: now))


def steps(events: list[tuple[str, Event]], name: str) -> list[int]:
    return [event.step for task, event in events if task == name and isinstance(event, Stepped)]


def test_slow_steps_are_all_told() -> None:
    assert steps(told(2 * STEPS_EVERY_S), "a") == list(range(1, 11))


def test_fast_steps_are_told_now_and_then_and_of_all_tasks() -> None:
    found = told(STEPS_EVERY_S / 2.5)
    assert steps(found, "a") == steps(found, "b") == [3, 6, 9]
    assert [event for _, event in found[:2]] == [Started(total_steps=10, rows=2)] * 2


def test_everything_else_passes() -> None:
    extra = {2: Previewed(index=0, step=2, pictures=(b"",)), 3: Cancelled()}
    found = told(STEPS_EVERY_S / 100, extra)
    assert [event for _, event in found if not isinstance(event, Stepped)] == [Started(total_steps=10, rows=2)] * 2 + list(extra.values())
    assert not steps(found, "b")
