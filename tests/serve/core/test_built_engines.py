"""Orders on a target that builds engines for sizes and numbers of pictures: joined, put in portions, or refused with what to do."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sd2rt.engine.cache import prune_engines
from sd2rt.engine.errors import EngineCacheError, InvalidArgument
from sd2rt.engine.index import EngineIndex
from sd2rt.engine.spec import Guidance
from sd2rt.engine.store import cache_root
from sd2rt.runtime.bundle import Bundle
from sd2rt.serve import built_engines, service
from sd2rt.serve.admission import Admitted, admit
from sd2rt.serve.built_engines import choose_portion
from sd2rt.serve.observers import Observers
from sd2rt.serve.offers import find_engines, read_offers
from sd2rt.serve.order import Order
from sd2rt.serve.settings import Limits, ServeSettings
from tests.fake_gpu import FakeGpu
from tests.serve.built import TARGET, machine, record_engines, toyworld
from tests.serve.fakes import FakeBackend

SETTINGS = ServeSettings(models=("toyworld",), target=TARGET, batch=4)
LONG = "a red cube, " * 30  # two parts of 75 tokens


@pytest.fixture
def bundle(tmp_path: Path) -> Iterator[Bundle]:
    """A model on a machine without engines."""
    with machine(tmp_path):
        yield toyworld()


def ask(settings: ServeSettings = SETTINGS, previews: int = 0, **options: Any) -> Admitted:
    """Have an order for toyworld admitted by a server that has just read its models."""
    offer = read_offers(settings)["toyworld"]
    order = Order(model="toyworld", options={"prompt": "a", "steps": 4, **options}, previews=previews, preview_decoder="tiny")
    return admit(order, offer, Limits(images=64))


def test_orders_are_joined_as_far_as_engines_go(bundle: Bundle) -> None:
    record_engines(bundle, largest=96, batch=(1, 3))
    assert ask().batch_sizes == ask(width=96, height=72, images_per_prompt=2).batch_sizes == (1, 2, 3)
    assert ask(settings=replace(SETTINGS, batch=2)).batch_sizes == (1, 2)
    record_engines(bundle, batch=(4, 4))
    assert ask().batch_sizes == (1, 2, 3, 4)
    assert ask(width=72).batch_sizes == (1, 2, 3)


def test_those_for_one_number_of_pictures_are_for_that_alone(bundle: Bundle) -> None:
    record_engines(bundle)
    record_engines(bundle, batch=(4, 4))
    assert ask().batch_sizes == (1, 4)


@pytest.mark.parametrize(("count", "portion", "total"), [(1, 0, 4), (3, 0, 4), (5, 3, 8), (6, 3, 8), (7, 3, 12)])
def test_more_pictures_than_engines_take_are_painted_in_portions(bundle: Bundle, count: int, portion: int, total: int) -> None:
    record_engines(bundle, batch=(1, 3))
    admitted = ask(images_per_prompt=count)
    assert (admitted.order.portion, admitted.total_steps, len(admitted.seeds)) == (portion, total, count)
    assert (admitted.key is None) is bool(portion)


@pytest.mark.parametrize(
    ("count", "sizes", "portion"), [(5, (1, 2, 4), 4), (7, (1, 2, 4), 2), (6, (2, 4), 4), (5, (2, 4), 0), (2, (4,), 0), (8, (), 0)]
)
def test_portions_are_numbers_that_there_are_engines_for(count: int, sizes: tuple[int, ...], portion: int) -> None:
    assert choose_portion(count, sizes) == portion


def test_prompts_of_several_lengths_are_put_in_portions_only_where_each_has_its_engines(bundle: Bundle) -> None:
    record_engines(bundle, chunks=(2, 2, 2))
    with pytest.raises(InvalidArgument, match="2 pictures, prompts of 2 parts"):
        ask(prompt=["a", LONG])
    assert ask(prompt=LONG, images_per_prompt=2).order.portion == 1
    record_engines(bundle, chunks=(1, 1, 2))
    assert ask(prompt=["a", LONG]).order.portion == 1


def test_orders_are_joined_with_those_whose_prompts_are_as_long(bundle: Bundle) -> None:
    record_engines(bundle, batch=(1, 2), chunks=(1, 1, 2))
    short, other, long = (ask(prompt=prompt, seed=1) for prompt in ("a", "b", LONG))
    assert short.key == other.key != long.key
    assert long.batch_sizes == (1, 2)


EXPECTED = "expected what tensorrt engines are built for: 64 x 64 to 96 x 96, 1 to 2 pictures; to change that, "
BUILD = "run `sd2rt build toyworld --target tensorrt --size "


@pytest.mark.parametrize(
    ("options", "got", "remedy"),
    [
        (
            {"width": 104},
            "104 x 64 pixels (width x height), 1 picture; ",
            BUILD + "104x64 --batch 1..4`, or restart it with --build-engines",
        ),
        ({"width": 104, "images_per_prompt": 6}, "104 x 64 pixels (width x height), 6 pictures; ", BUILD + "104x64 --batch 1..6`"),
        ({"prompt": LONG}, "1 picture, prompts of 2 parts of 75 tokens; ", BUILD + "64x64 --batch 1..4 --chunks 1..2`"),
        ({"clip_skip": 2}, "1 picture, clip_skip 2; ", "restart it with --build-engines"),
        ({"guidance_interval": [0, 0.5]}, "1 picture, steps that are not all alike; ", "restart it with --build-engines"),
        ({"previews": 1}, "1 picture, previews by the tiny decoder; ", "restart it with --build-engines"),
    ],
)
def test_what_is_not_built_is_refused_with_what_there_is(bundle: Bundle, options: dict[str, Any], got: str, remedy: str) -> None:
    record_engines(bundle, largest=96, batch=(1, 2))
    with pytest.raises(InvalidArgument) as refused:
        ask(**options)
    said = str(refused.value)
    assert said.startswith("width, height and n: got ")
    assert got in said
    assert EXPECTED + remedy in said


def test_steps_of_another_kind_have_engines_of_their_own(bundle: Bundle) -> None:
    record_engines(bundle)
    none = "expected what tensorrt engines are built for: none such of toyworld; .* --batch 1..4 --guidance plain`"
    with pytest.raises(InvalidArgument, match=f"1 picture, plain steps; {none}"):
        ask(guidance_scale=1)
    record_engines(bundle, guidance=Guidance.PLAIN, chunks=(1, 1, 3))
    assert ask(guidance_scale=1).batch_sizes == (1,)
    with pytest.raises(InvalidArgument, match=r"64 x 64, 1 picture, prompts of up to 3 parts; to change"):
        ask(guidance_scale=1, width=72)


def test_where_engines_are_built_on_demand_nothing_is_refused(bundle: Bundle) -> None:
    building = replace(SETTINGS, engines="on demand")
    assert ask(building, images_per_prompt=2).batch_sizes == (2,)
    record_engines(bundle, batch=(1, 2))
    assert ask(building).batch_sizes == (1, 2)
    assert (ask(building, images_per_prompt=5).order.portion, ask(building, width=104).batch_sizes) == (0, (1,))


def test_engines_that_come_and_go_are_seen(bundle: Bundle) -> None:
    engines = find_engines(bundle, SETTINGS)
    offer = replace(read_offers(SETTINGS)["toyworld"], engines=engines)
    order = Order(model="toyworld", options={"prompt": "a"})
    with pytest.raises(InvalidArgument, match="none such of toyworld"):
        admit(order, offer, Limits())
    record_engines(bundle)
    assert admit(order, offer, Limits()).batch_sizes == (1,)
    prune_engines(everything=True)
    with pytest.raises(InvalidArgument, match="none such of toyworld"):
        admit(order, offer, Limits())


def test_nothing_is_asked_where_others_paint_or_engines_are_for_any_size(bundle: Bundle) -> None:
    assert bundle.name == "toyworld"
    assert find_engines(bundle, replace(SETTINGS, engines="elsewhere")) is None
    assert ask(replace(SETTINGS, engines="elsewhere"), width=104).batch_sizes == (1,)
    assert find_engines(bundle, replace(SETTINGS, target="cpu")) is None
    assert ask(replace(SETTINGS, target="cpu")).batch_sizes == (1, 2, 3, 4)


def test_without_a_gpu_nothing_is_known_of_its_engines() -> None:
    assert find_engines(toyworld(), replace(SETTINGS, target="tensorrt-rtx")) is None


def test_the_cache_is_read_and_the_library_opened_before_the_first_order(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    for owner, name in ((EngineIndex, "refresh"), (FakeGpu, "fingerprint")):
        real = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda self, *given, name=name, real=real: done.append(name) or real(self, *given))
    assert find_engines(bundle, SETTINGS) is not None
    assert done == ["refresh", "fingerprint"]


async def submit(meanwhile: Callable[[], object] = lambda: None) -> list[str]:
    """Have a server that has just started take an order for toyworld; return the reasons why it refused one."""
    refused: list[str] = []
    observer = Observers()
    observer.refused = refused.append  # type: ignore[method-assign]
    served = service.Service(SETTINGS, FakeBackend(), observer)
    await served.start()
    meanwhile()
    try:
        await served.submit(Order(model="toyworld", options={"prompt": "a", "steps": 4}), "me")
    except EngineCacheError:
        return refused
    finally:
        await served.stop()
    return refused


def test_an_order_that_cannot_be_checked_is_counted_as_failed(bundle: Bundle) -> None:
    record_engines(bundle)
    assert asyncio.run(submit()) == []
    assert asyncio.run(submit(lambda: (cache_root().chmod(0o777), os.utime(cache_root())))) == ["failed"]


def test_what_is_built_is_looked_up_beside_the_event_loop(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    record_engines(bundle)
    threads: list[threading.Thread] = []
    monkeypatch.setattr(service, "admit", lambda *given: threads.append(threading.current_thread()) or admit(*given))
    assert asyncio.run(submit()) == []
    assert len(threads) == 1
    assert threads[0] is not threading.main_thread()


def test_what_is_known_has_a_bound(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    record_engines(bundle, largest=128)
    looked: list[EngineIndex] = []
    real = EngineIndex.has
    monkeypatch.setattr(EngineIndex, "has", lambda self, *given: looked.append(self) or real(self, *given))
    monkeypatch.setattr(built_engines, "MOST_KNOWN", 8)
    offer = read_offers(SETTINGS)["toyworld"]

    def looks(width: int) -> int:
        """Return how many engines are looked for."""
        before = len(looked)
        assert admit(Order(model="toyworld", options={"prompt": "a", "width": width}), offer, Limits()).batch_sizes == (1,)
        return len(looked) - before

    assert looks(64) > 0
    assert looks(64) == 0
    assert [looks(width) > 0 for width in (72, 80, 88)] == [True] * 3
    assert looks(64) > 0


def test_asking_again_takes_no_time(bundle: Bundle) -> None:
    """What is known is looked up: less than a step, on any machine."""
    record_engines(bundle, batch=(1, 4))
    offer = read_offers(SETTINGS)["toyworld"]
    order = Order(model="toyworld", options={"prompt": "a", "steps": 4})
    admit(order, offer, Limits())
    began = time.thread_time()
    for _ in range(20):
        assert admit(order, offer, Limits()).batch_sizes == (1, 2, 3, 4)
    assert time.thread_time() - began < 2
