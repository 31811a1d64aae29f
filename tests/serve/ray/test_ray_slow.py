"""What takes a cluster of its own: strangers, models that cannot be opened, orders that kill actors, more replicas for more work."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sd2rt.runtime.models import find_model
from sd2rt.serve import ray_backend, ray_batch
from sd2rt.serve.backend import Task
from sd2rt.serve.errors import ServeError, WorkerLost
from sd2rt.serve.order import Failed, Finished, Order, Started
from sd2rt.serve.ray_backend import RayBackend
from sd2rt.serve.ray_batch import paint_with_ray
from sd2rt.serve.ray_cluster import cluster
from sd2rt.serve.ray_deployment import deployment_options
from sd2rt.serve.ray_settings import RaySettings
from sd2rt.serve.settings import ServeSettings
from sd2rt.serve.shelf import ShelfSettings
from tests.serve.ray.processes import descendants, own_environment, replicas, require_ray

require_ray()

pytestmark = pytest.mark.slow
CONNECT = "import sys, ray; ray.init(address=sys.argv[1], log_to_driver=False); print(sorted(ray.cluster_resources())[:1])"
SHELF = ShelfSettings(models={"toyworld": "toyworld"}, target="cpu", threads=1)


@pytest.fixture(autouse=True)
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with own_environment(SD2RT_CACHE=str(tmp_path_factory.getbasetemp() / "ray-cache"), OMP_NUM_THREADS="1"):
        yield


def make(seed: int, steps: int = 4, count: int = 1) -> Order:
    return Order(model="toyworld", options={"prompt": "a red cube", "seed": seed, "steps": steps, "images_per_prompt": count})


@pytest.mark.parametrize(("token", "code"), [(None, 0), ("f" * 64, 1), ("", 1)])
def test_only_who_has_the_token_gets_in(token: str | None, code: int) -> None:
    with cluster(RaySettings()) as found:
        address = found.ray.get_runtime_context().gcs_address
        assert address.startswith("127.0.0.1:")
        environment = dict(os.environ)
        if token is not None:
            environment |= {"RAY_AUTH_MODE": "token" if token else "disabled", "RAY_AUTH_TOKEN": token}
        stranger = subprocess.run([sys.executable, "-c", CONNECT, address], env=environment, capture_output=True, timeout=120, text=True)
    assert stranger.returncode == code, stranger.stderr


def test_a_model_that_cannot_be_opened_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(find_model("toyworld"), folder)
    (folder / "unet" / "model.onnx.data").write_bytes(b"short")
    backend = RayBackend(ServeSettings(models=(str(folder),), target="cpu"), RaySettings())
    with pytest.raises(ServeError, match=r"the replicas did not come up: .*model\.onnx\.data is damaged"):
        asyncio.run(backend.start())


def test_more_work_brings_more_replicas() -> None:
    backend = RayBackend(ServeSettings(models=("toyworld",), target="cpu", threads=1), RaySettings(replicas=(1, 2), cpus=0.5))

    async def paint(name: str, until: float) -> None:
        number = 0
        while len(replicas()) < 2 and time.monotonic() < until:
            number += 1
            async for _ in backend.paint([Task(id=f"{name}-{number}", order=make(number, 100))]):
                pass

    async def load() -> tuple[int, int]:
        await backend.start()
        try:
            before = len(replicas())
            until = time.monotonic() + 60
            await asyncio.gather(paint("a", until), paint("b", until))
            return before, len(replicas())
        finally:
            await backend.stop()

    assert asyncio.run(load()) == (1, 2)


@pytest.fixture
def quick_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have replicas ended a second after there is too little work for them, and those that end wait for their batch."""

    def quick(ray: RaySettings, target: str) -> dict[str, Any]:
        found = deployment_options(ray, target)
        found["autoscaling_config"] |= {"downscale_delay_s": 1.0, "upscale_delay_s": 0.5, "look_back_period_s": 2.0}
        return found

    monkeypatch.setattr(ray_backend, "deployment_options", quick)


def test_a_replica_that_is_ended_for_little_work_ends_its_batch_first(quick_to_end: None) -> None:
    backend = RayBackend(ServeSettings(models=("toyworld",), target="cpu", threads=1), RaySettings(replicas=(1, 2), cpus=0.5))

    async def paint(name: str, steps: int, count: int = 1) -> Any:
        return [event async for _, event in backend.paint([Task(id=name, order=make(1, steps, count))])][-1]

    async def load() -> None:
        await backend.start()
        try:
            while len(replicas()) < 2:
                await asyncio.gather(paint("a", 100), paint("b", 100))
            both = [asyncio.create_task(paint(name, 900, 8)) for name in ("c", "d")]
            await asyncio.sleep(2)
            backend.cancel("c")  # whichever of the two that has the newer replica
            assert isinstance(await both[1], Finished)
        finally:
            await backend.stop()

    asyncio.run(asyncio.wait_for(load(), 200))


def test_a_cluster_that_goes_on_is_left_soon_also_while_something_is_painted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_backend.Cluster, "local", False)
    backend = RayBackend(ServeSettings(models=("toyworld",), target="cpu", threads=1), RaySettings(replicas=(1, 2), cpus=0.5))

    async def stop() -> float:
        await backend.start()
        painting = backend.paint([Task(id="x", order=make(1, 900, 8))])
        assert isinstance((await anext(painting))[1], Started)
        began = time.monotonic()
        await backend.stop()
        return time.monotonic() - began

    assert asyncio.run(stop()) < 15  # of the 40 s that it takes to paint


def test_what_is_painted_when_it_stops_is_lost_and_nothing_of_ray_stays() -> None:
    async def stop() -> None:
        backend = RayBackend(ServeSettings(models=("toyworld",), target="cpu", threads=1), RaySettings())
        await backend.start()
        painting = backend.paint([Task(id="x", order=make(1, 500))])
        await anext(painting)
        await backend.stop()
        with pytest.raises(WorkerLost):
            async for _ in painting:
                pass
        with pytest.raises(WorkerLost, match="stopped"):
            await anext(backend.paint([Task(id="y", order=make(1))]))

    asyncio.run(stop())
    assert not [command for command in descendants().values() if "ray" in command.partition(" ")[0]]


needs_data = pytest.mark.skipif(not all(map(importlib.util.find_spec, ("pyarrow", "pandas"))), reason="needs the ray extra")


def deadly(seed: int) -> type:
    """Return an actor that dies of a seed; a class of a function's own travels whole, since actors cannot import this module."""

    class Deadly:
        def __init__(self) -> None:
            from sd2rt.serve.ray_batch import Painter

            self.painter = Painter()

        def __call__(self, table: Any) -> Any:
            from sd2rt.serve.wire import decode_batch

            if decode_batch(table.to_pylist()[0]["content"])[0].order.options["seed"] == seed:
                os._exit(1)
            return self.painter(table)

    return Deadly


@needs_data
def test_orders_that_actors_die_of_end_the_run_where_they_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_batch, "Painter", deadly(1))
    monkeypatch.setattr(ray_batch, "MOST_DEADLY", 0)
    with pytest.raises(WorkerLost, match="actors that painted are gone"):
        list(paint_with_ray([[Task(id="1", order=make(1))]], SHELF, RaySettings()))


@needs_data
def test_an_order_that_actors_die_of_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_batch, "Painter", deadly(2))
    lots = [[Task(id=str(seed), order=make(seed)) for seed in seeds] for seeds in ((1, 2, 3), (4,))]
    done = dict(paint_with_ray(lots, SHELF, RaySettings()))
    assert {name: type(event) for name, event in done.items()} == {"1": Finished, "2": Failed, "3": Finished, "4": Finished}
    assert done["2"] == Failed(message="3 actors died of it: out of memory?", status=500)


@needs_data
def test_rows_travel_together_where_there_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_batch, "MOST_BLOCKS", 2)
    tasks = [Task(id=str(number), order=make(number)) for number in range(5)]
    done = dict(paint_with_ray([tasks], SHELF, RaySettings()))
    assert {name: type(event) for name, event in done.items()} == {str(number): Finished for number in range(5)}
