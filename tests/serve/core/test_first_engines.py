"""A server that has no engines builds those for its model's own size, and paints with them what it said that it would."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sd2rt.engine.cache import list_engines
from sd2rt.runtime.bundle import Bundle
from sd2rt.serve.admission import admit
from sd2rt.serve.backend import Task
from sd2rt.serve.first_engines import build_first
from sd2rt.serve.offers import read_offers
from sd2rt.serve.order import Event, Finished, Order, Previewed, Started, Stepped
from sd2rt.serve.painting import paint_batch
from sd2rt.serve.settings import Limits, ServeSettings
from sd2rt.serve.shelf import Shelf, ShelfSettings
from tests.serve.built import TARGET, machine, record_engines, toyworld


@pytest.fixture
def bundle(tmp_path: Path) -> Iterator[Bundle]:
    """A model on a machine without engines."""
    with machine(tmp_path):
        yield toyworld()


def test_they_are_built_where_there_are_none_for_that_size(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[tuple[str, object]] = []
    monkeypatch.setattr("sd2rt.serve.first_engines.build_engine", lambda files, options, notify: built.append((files.name, options)))
    told: list[str] = []
    build_first(bundle, TARGET, 4, told.append)
    assert [name for name, _ in built] == list(bundle.components)
    assert dict(built)["unet"].axes["images"] == (1, 1, 4)  # type: ignore[attr-defined]
    assert told == ["toyworld has no tensorrt engines for 64 x 64 pixels: building them for 1 to 4 pictures, once"]


@pytest.mark.parametrize(("target", "batch"), [(TARGET, (1, 1)), (TARGET, (3, 3)), ("cpu", None)])
def test_they_are_not_built_where_there_are_some_or_for_any_size(
    bundle: Bundle, target: str, batch: tuple[int, int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if batch is not None:
        record_engines(bundle, batch=batch)
    built: list[object] = []
    monkeypatch.setattr("sd2rt.serve.first_engines.build_engine", lambda *given: built.append(given))
    build_first(bundle, target, 4, lambda message: None)
    assert built == []


def test_what_was_said_to_be_built_is_painted_without_building(bundle: Bundle) -> None:
    """The first model's engines for up to two pictures, and five of one order in portions."""
    told: list[str] = []
    shelf = Shelf(ShelfSettings(models={"toyworld": "toyworld"}, target=TARGET, first_batch=2), notify=told.append)
    shelf.open("toyworld")
    assert sum(line.startswith("building the tensorrt engine of ") for line in told) == len(bundle.components) == len(list_engines())
    told.clear()
    offer = read_offers(ServeSettings(models=("toyworld",), target=TARGET, batch=2))["toyworld"]
    admitted = admit(Order(model="toyworld", options={"prompt": "a", "steps": 2, "images_per_prompt": 3}, previews=2), offer, Limits())
    assert (admitted.order.portion, admitted.total_steps) == (2, 4)
    events: list[Event] = [event for _, event in paint_batch(shelf, [Task(id="job", order=admitted.order)], set)]
    assert events[0] == Started(total_steps=4, rows=2)
    assert [(event.step, event.total_steps) for event in events if isinstance(event, Stepped)] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert [(event.index, event.step, len(event.pictures)) for event in events if isinstance(event, Previewed)] == [(0, 1, 2), (1, 3, 3)]
    ending = events[-1]
    assert isinstance(ending, Finished)
    assert [parameters["seed"] for parameters in ending.parameters] == list(admitted.seeds)
    assert len(set(ending.pictures)) == 3
    assert [line for line in told if "building" in line] == []
    shelf.close()


def test_models_but_the_first_have_none_built(bundle: Bundle) -> None:
    models = {"toyworld-inpainting": "toyworld-inpainting", "toyworld": "toyworld"}
    shelf = Shelf(ShelfSettings(models=models, target=TARGET, first_batch=2))
    shelf.open("toyworld")
    assert (bundle.name, list_engines()) == ("toyworld", ())
    shelf.close()
