"""What takes a cluster of its own: strangers, models that cannot be opened, orders that kill actors, more replicas for more work."""

from __future__ import annotations

import asyncio
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
from sd2rt.serve import ray_batch
from sd2rt.serve.backend import Task
from sd2rt.serve.errors import ServeError, WorkerLost
from sd2rt.serve.order import Finished, Order
from sd2rt.serve.ray_backend import RayBackend
from sd2rt.serve.ray_batch import paint_with_ray
from sd2rt.serve.ray_cluster import cluster
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


def make(seed: int, steps: int = 4) -> Order:
    return Order(model="toyworld", options={"prompt": "a red cube", "seed": seed, "steps": steps})


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


class Deadly:
    """An actor that dies of whatever it is given."""

    def __call__(self, table: Any) -> Any:
        os._exit(1)


def test_an_order_that_actors_die_of_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_batch, "Painter", Deadly)
    with pytest.raises(WorkerLost, match="an actor that painted is gone"):
        list(paint_with_ray([Task(id="1", order=make(1))], SHELF, RaySettings()))


def test_rows_travel_together_where_there_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_batch, "MOST_BLOCKS", 2)
    tasks = [Task(id=str(number), order=make(number)) for number in range(5)]
    done = dict(paint_with_ray(tasks, SHELF, RaySettings()))
    assert {name: type(event) for name, event in done.items()} == {str(number): Finished for number in range(5)}
