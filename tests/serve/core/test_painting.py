"""One batch on fake engines: who fails, who is cancelled, who is told what."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from sd2rt.engine.errors import BundleError, EngineError
from sd2rt.runtime.bundle import read_bundle
from sd2rt.runtime.host import HostPainter
from sd2rt.runtime.networks import Networks
from sd2rt.runtime.prompt import MOST_CHUNKS
from sd2rt.runtime.text_to_image import TextToImage
from sd2rt.runtime.tokenizer import PromptTokenizer
from sd2rt.serve import painting
from sd2rt.serve.backend import Task
from sd2rt.serve.order import LAST, Cancelled, Event, Failed, Finished, Order, Previewed, Started, Stepped
from sd2rt.serve.painting import paint_batch, preview_steps
from sd2rt.serve.shelf import Shelf, ShelfSettings
from tests.runtime.bundles import write_bundle
from tests.runtime.fakes import COMPUTE, FakeEngine, byte_tokenizer

BROKEN = "@"
"""Prompts with it come to NaN."""


def text_states(feeds: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """NaN for every text that holds BROKEN."""
    ids = byte_tokenizer().frame(byte_tokenizer().encode(BROKEN)[0])
    states = COMPUTE["text_encoder"](feeds)
    states[(feeds["input_ids"] == ids[1]).any(axis=1)] = np.nan
    return states


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    """One model, "small", on fake engines."""
    folder = write_bundle(tmp_path / "small")

    def open_model(model: str) -> TextToImage:
        bundle = read_bundle(folder)
        compute = {**COMPUTE, "text_encoder": text_states}
        networks = Networks("fake", lambda name, form: FakeEngine(name, compute[name]))
        return TextToImage(bundle, HostPainter(bundle, byte_tokenizer(), networks))

    return Shelf(ShelfSettings(models={"small": str(folder)}), open_model=open_model)


def task(name: str, prompt: str = "a", previews: int = 0, **options: Any) -> Task:
    return Task(id=name, order=Order(model="small", options={"prompt": prompt, "steps": 4, **options}, previews=previews))


def paint(shelf: Shelf, *tasks: Task) -> dict[str, list[Event]]:
    """What each task is told."""
    told: dict[str, list[Event]] = {each.id: [] for each in tasks}
    for name, event in paint_batch(shelf, tasks, set):
        told[name].append(event)
    assert all(sum(isinstance(event, LAST) for event in events) == 1 and isinstance(events[-1], LAST) for events in told.values())
    return told


def test_a_batch_is_told_of_every_step(shelf: Shelf) -> None:
    told = paint(shelf, task("one"), task("two", seed=4, images_per_prompt=2))
    for events in told.values():
        assert events[0] == Started(total_steps=4, rows=3)
        assert [event.step for event in events if isinstance(event, Stepped)] == [1, 2, 3, 4]
    ending = told["two"][-1]
    assert isinstance(ending, Finished)
    assert [parameters["seed"] for parameters in ending.parameters] == [4, 5]


def test_one_that_breaks_fails_alone(shelf: Shelf, caplog: pytest.LogCaptureFixture) -> None:
    told = paint(shelf, task("good"), task("bad", BROKEN), task("other", seed=3))
    assert isinstance(told["good"][-1], Finished)
    assert isinstance(told["other"][-1], Finished)
    failed = told["bad"][-1]
    assert isinstance(failed, Failed)
    assert failed.status == 500
    assert "not finite" in failed.message
    assert "one by one" in caplog.text


def broken(*given: object, **options: object) -> Any:
    raise RuntimeError("a library's own, of /a/path")


def test_an_error_that_nobody_thought_of_fails_nobody_else(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    join = painting.join
    monkeypatch.setattr(painting, "join", lambda jobs: broken() if BROKEN in "".join(map(str, jobs)) else join(jobs))
    told = paint(shelf, task("good"), task("bad", f"a {BROKEN}"), task("other", seed=3))
    assert [type(events[-1]) for events in told.values()] == [Finished, Failed, Finished]
    assert told["bad"] == [Failed(message="bad: the server failed; its log says why", status=500)]
    assert "of /a/path" in caplog.text


@pytest.mark.parametrize("name", ["resolve_order", "encode_picture"])
def test_an_error_before_or_after_painting_fails_its_order_alone(shelf: Shelf, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    real, calls = getattr(painting, name), []

    def first_breaks(*given: Any, **options: Any) -> Any:
        calls.append(given)
        return broken() if len(calls) == 1 else real(*given, **options)

    monkeypatch.setattr(painting, name, first_breaks)
    told = paint(shelf, task("bad"), task("good"))
    assert [type(events[-1]) for events in told.values()] == [Failed, Finished]


def test_a_model_that_opens_with_an_error_that_nobody_thought_of_fails_its_orders(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelf, "open", broken)
    assert [event.status for (event,) in paint(shelf, task("one"), task("two")).values()] == [500, 500]  # type: ignore[union-attr]


def test_those_given_up_before_it_begins_open_no_model(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelf, "open", broken)
    told = list(paint_batch(shelf, [task("one"), task("two")], lambda: {"one", "two"}))
    assert told == [("one", Cancelled()), ("two", Cancelled())]


def test_those_given_up_before_it_begins_are_not_painted(shelf: Shelf) -> None:
    looks = iter([set(), {"one"}, *[{"one", "three"}] * 99])  # as the model is opened, then as each group begins
    tasks = [task("one"), task("two"), task("three", steps=2)]
    told = list(paint_batch(shelf, tasks, lambda: next(looks)))
    assert told[:2] == [("one", Cancelled()), ("two", Started(total_steps=4, rows=1))]
    assert told[-1] == ("three", Cancelled())
    assert isinstance(told[-2][1], Finished)


def test_wrong_values_are_the_fault_of_their_order_alone(shelf: Shelf) -> None:
    told = paint(shelf, task("good"), task("bad", steps=-1))
    assert isinstance(told["good"][-1], Finished)
    assert told["bad"] == [Failed(message=told["bad"][-1].message, status=400)]  # type: ignore[union-attr]


def test_orders_that_cannot_be_joined_are_painted_one_after_the_other(shelf: Shelf) -> None:
    told = paint(shelf, task("one"), task("two", steps=2))
    assert [events[0] for events in told.values()] == [Started(total_steps=4, rows=1), Started(total_steps=2, rows=1)]


def test_those_given_up_end_and_nothing_is_painted_for_nobody(shelf: Shelf) -> None:
    gone: set[str] = set()
    events = []
    for name, event in paint_batch(shelf, [task("one"), task("two")], lambda: gone):
        events.append((name, event))
        if isinstance(event, Stepped):
            gone.add("one" if event.step == 1 else "two")
    last = {name: event for name, event in events if isinstance(event, LAST)}
    assert last == {"one": Cancelled(), "two": Cancelled()}
    assert [event.step for name, event in events if name == "two" and isinstance(event, Stepped)] == [1, 2]


def test_previews_go_to_those_who_want_them(shelf: Shelf) -> None:
    told = paint(shelf, task("none"), task("two", previews=2, images_per_prompt=2), task("all", previews=9))
    shown = {name: [event for event in events if isinstance(event, Previewed)] for name, events in told.items()}
    assert [len(events) for events in shown.values()] == [0, 2, 3]
    assert [event.index for event in shown["two"]] == [0, 1]
    assert all(len(event.pictures) == 2 and event.pictures[0].startswith(b"\x89PNG") for event in shown["two"])


@pytest.mark.parametrize(
    ("count", "total", "steps"),
    [(0, 10, set()), (1, 10, {5}), (3, 8, {2, 4, 6}), (9, 4, {1, 2, 3}), (2, 1, set()), (1, 2, {1})],
)
def test_previews_are_spread_evenly(count: int, total: int, steps: set[int]) -> None:
    assert preview_steps(count, total) == steps


def test_ends_that_were_cut_are_told_to_their_owner_alone(monkeypatch: pytest.MonkeyPatch, shelf: Shelf) -> None:
    monkeypatch.setattr(PromptTokenizer, "from_bundle", lambda bundle, length: byte_tokenizer())
    told = paint(shelf, task("short"), task("long", "x" * 75 * MOST_CHUNKS + "secret"))
    notes = {name: events[-1].notes for name, events in told.items()}  # type: ignore[union-attr]
    assert notes["short"] == ()
    assert "'secret'" in notes["long"][0]


def test_a_model_that_cannot_be_opened_fails_its_jobs_and_tells_no_path(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def open_model(model: str) -> TextToImage:
        raise BundleError(f"{tmp_path}/secret.onnx is damaged")

    broken = Shelf(ShelfSettings(models={"small": str(write_bundle(tmp_path / "small"))}), open_model=open_model)
    with caplog.at_level(logging.ERROR):
        told = paint(broken, task("one"))
    failed = told["one"][-1]
    assert isinstance(failed, Failed)
    assert failed.status == 500
    assert str(tmp_path) not in failed.message
    assert str(tmp_path) in caplog.text


def test_memory_that_runs_out_is_said(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: TextToImage, job: object) -> None:
        raise MemoryError

    monkeypatch.setattr(TextToImage, "paint", fail)
    told = paint(shelf, task("one"))
    assert "memory ran out" in told["one"][-1].message  # type: ignore[union-attr]


def test_engines_that_fail_say_why(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: TextToImage, job: object) -> None:
        raise EngineError("unet: it broke")

    monkeypatch.setattr(TextToImage, "paint", fail)
    assert paint(shelf, task("one"))["one"][-1] == Failed(message="unet: it broke", status=500)
