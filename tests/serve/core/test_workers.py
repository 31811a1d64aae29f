"""Worker processes: what they paint is what the command line paints, and what happens to jobs when they die."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from sd2rt.cli.main import main
from sd2rt.serve.backend import Task
from sd2rt.serve.errors import ServeError
from sd2rt.serve.jobs import ServedJob
from sd2rt.serve.observers import Observers
from sd2rt.serve.order import Cancelled, Failed, Finished, Order, Previewed, Started, Stepped
from sd2rt.serve.service import Service
from sd2rt.serve.settings import ServeSettings
from sd2rt.serve.workers import LocalBackend
from tests.serve.core.conftest import LONG, Server, order, psnr

TIMEOUT_S = 60
SOON_S = 20
"""Less than LONG steps of four pictures of 128 x 128 take."""


def picture(colour: str) -> bytes:
    """A PNG of one colour."""
    stream = io.BytesIO()
    Image.new("RGB", (64, 64), colour).save(stream, "PNG")
    return stream.getvalue()


async def running(job: ServedJob, step: int = 1) -> None:
    """Wait until a job has taken a step."""
    async with asyncio.timeout(TIMEOUT_S):
        async for event in job.events():
            if isinstance(event, Stepped) and event.step >= step:
                return


async def submit(server: Server, *orders: Order) -> list[ServedJob]:
    """Submit orders one after the other."""
    return [await server.service.submit(each, "me") for each in orders]


async def submit_behind_one_that_runs(server: Server, *orders: Order) -> list[ServedJob]:
    """Submit orders that are painted together, however long it takes to submit them: the worker is busy until it is told to stop."""
    first = await server.service.submit(order(width=128, height=128, images_per_prompt=8, steps=LONG), "me")
    await running(first)
    jobs = await submit(server, *orders)
    assert [job.position for job in jobs] == list(range(1, len(jobs) + 1))
    server.service.cancel(first.id, "me")
    return jobs


def painted(server: Server, *orders: Order) -> list[Finished]:
    """What orders come to that are painted together where that can be."""

    async def paint() -> list[Finished]:
        jobs = await (submit_behind_one_that_runs(server, *orders) if len(orders) > 1 else submit(server, *orders))
        endings = await asyncio.wait_for(asyncio.gather(*(job.wait() for job in jobs)), TIMEOUT_S)
        assert all(isinstance(ending, Finished) for ending in endings), endings
        return [ending for ending in endings if isinstance(ending, Finished)]

    return server.runner.run(paint())


@pytest.mark.parametrize("name", ["png", "jpeg", "webp"])
def test_files_are_those_of_the_command_line(server: Server, tmp_path: Path, name: str) -> None:
    (found,) = painted(server, replace(order(seed=7, negative_prompt="a cone"), format=name))  # type: ignore[arg-type]
    path = tmp_path / f"a.{name}"
    asked = ["generate", "a large red cube", "--negative", "a cone", "--seed", "7", "--steps", "4", "--target", "cpu", "--out", str(path)]
    assert main(asked) == 0
    assert found.pictures == (path.read_bytes(),)


def test_inpainted_files_are_those_of_the_command_line(server: Server, tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), "gray").save(tmp_path / "image.png")
    Image.new("L", (64, 64), 255).save(tmp_path / "mask.png")
    pictures = {name: (tmp_path / f"{name}.png").read_bytes() for name in ("image", "mask")}
    (found,) = painted(
        server, Order(model="toyworld-inpainting", options={"prompt": "a red cube", "seed": 3, "steps": 3}, pictures=pictures)
    )
    asked = ["inpaint", "a red cube", "--model", "toyworld-inpainting", "--seed", "3", "--steps", "3", "--target", "cpu"]
    asked += ["--image", str(tmp_path / "image.png"), "--mask", str(tmp_path / "mask.png"), "--out", str(tmp_path / "a.png")]
    assert main(asked) == 0
    assert found.pictures == ((tmp_path / "a.png").read_bytes(),)


def test_pictures_of_a_batch_are_those_painted_alone(server: Server) -> None:
    texts = ["a large red cube", "a small blue sphere on the left", "a green cone, pink floor", "a (yellow:1.3) cube BREAK gray floor"]
    orders = [order(text, seed=11 * index, images_per_prompt=1 + index % 2) for index, text in enumerate(texts)]
    alone = [painted(server, each)[0] for each in orders]
    together = painted(server, *orders)
    for one, other in zip(alone, together, strict=True):
        assert one.parameters == other.parameters
        assert len(one.pictures) == len(other.pictures)
        assert min(psnr(*pair) for pair in zip(one.pictures, other.pictures, strict=True)) >= 50
    assert together[0].timings == together[-1].timings  # they were one batch


@pytest.mark.parametrize(
    ("model", "with_mask"),
    [("toyworld", False), ("toyworld", True), ("toyworld-inpainting", True), ("toyworld-upscaler", False)],
)
def test_pictures_to_begin_from_are_painted_together_as_alone(server: Server, model: str, with_mask: bool) -> None:
    pictures = [{"image": picture(colour)} | ({"mask": picture("white")} if with_mask else {}) for colour in ("red", "gray", "blue")]
    orders = [
        Order(model=model, options={"prompt": "a red cube", "seed": seed, "steps": 4, "images_per_prompt": 1 + seed % 2}, pictures=given)
        for seed, given in enumerate(pictures)
    ]
    alone = [painted(server, each)[0] for each in orders]
    together = painted(server, *orders)
    assert together[0].timings == together[-1].timings
    for one, other in zip(alone, together, strict=True):
        assert one.parameters == other.parameters
        assert min(psnr(*pair) for pair in zip(one.pictures, other.pictures, strict=True)) >= 50


def test_previews_come_between_the_steps(server: Server) -> None:
    async def watch() -> list[object]:
        (job,) = await submit_behind_one_that_runs(server, replace(order(steps=8), previews=3))
        return [event async for event in job.events()]

    events = server.runner.run(watch())
    assert [event.step for event in events if isinstance(event, Previewed)] == [2, 4, 6]
    assert [event.index for event in events if isinstance(event, Previewed)] == [0, 1, 2]
    steps = [event.step for event in events if isinstance(event, Stepped | Previewed)]
    assert steps == sorted(steps)
    assert isinstance(events[0], Started)
    assert isinstance(events[-1], Finished)


def test_a_job_is_cancelled_while_it_is_painted_and_its_neighbours_are_not(server: Server) -> None:
    """Within a step, as test_painting counts; here processes take turns, and one may have to wait for its own while another goes on."""

    async def cancel() -> None:
        orders = [order(seed=seed, width=128, height=128, images_per_prompt=2, steps=LONG) for seed in (1, 5)]
        doomed, neighbour = await submit_behind_one_that_runs(server, *orders)
        await running(doomed)
        server.service.cancel(doomed.id, "me")
        assert isinstance(await asyncio.wait_for(doomed.wait(), TIMEOUT_S), Cancelled)
        assert doomed.step < LONG // 10
        assert neighbour.state == "running"
        server.service.cancel(neighbour.id, "me")
        assert isinstance(await asyncio.wait_for(neighbour.wait(), TIMEOUT_S), Cancelled)
        (after,) = await submit(server, order())
        assert isinstance(await asyncio.wait_for(after.wait(), SOON_S), Finished)  # nothing of the long ones is painted on

    server.runner.run(cancel())


def test_a_worker_that_is_killed_costs_no_job(server: Server) -> None:
    async def kill() -> None:
        (pid,) = server.backend.pids
        first, *others = await submit_behind_one_that_runs(server, order(steps=100), *(order(seed=seed) for seed in range(5)))
        await running(first)
        os.kill(pid, signal.SIGKILL)
        endings = await asyncio.wait_for(asyncio.gather(*(job.wait() for job in (first, *others))), TIMEOUT_S)
        assert all(isinstance(ending, Finished) for ending in endings)
        assert [job.lost for job in (first, *others)] == [1, 0, 0, 0, 0, 0]
        assert server.backend.pids != (pid,)

    server.runner.run(kill())


def test_a_worker_killed_while_idle_is_started_anew(server: Server) -> None:
    (pid,) = server.backend.pids
    os.kill(pid, signal.SIGKILL)
    painted(server, order())
    assert server.backend.pids != (pid,)


def test_a_job_that_kills_its_workers_fails_and_takes_nobody_along(server: Server) -> None:
    async def poison() -> None:
        culprit, *neighbours = await submit_behind_one_that_runs(server, *(order(steps=LONG, seed=seed) for seed in range(3)))
        for lost in range(1, 4):
            await running(culprit)
            os.kill(server.backend.pids[0], signal.SIGKILL)
            while culprit.lost < lost:
                await asyncio.sleep(0.005)
        assert isinstance(culprit.ending, Failed)
        assert culprit.ending.status == 503
        assert culprit.id in culprit.ending.message
        assert [neighbour.lost for neighbour in neighbours] == [1, 1]
        for neighbour in neighbours:
            server.service.cancel(neighbour.id, "me")
        endings = await asyncio.wait_for(asyncio.gather(*(neighbour.wait() for neighbour in neighbours)), TIMEOUT_S)
        assert all(isinstance(ending, Cancelled) for ending in endings)

    server.runner.run(asyncio.wait_for(poison(), TIMEOUT_S))


def test_a_batch_that_nobody_listens_to_ends_with_its_process(server: Server) -> None:
    async def leave() -> None:
        async for _ in server.backend.paint([Task(id="job-left", order=order(steps=LONG))]):
            break

    (pid,) = server.backend.pids
    server.runner.run(leave())
    painted(server, order())
    assert server.backend.pids != (pid,)


def test_interrupts_are_for_the_server_alone(server: Server) -> None:
    (pid,) = server.backend.pids
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(pid, number)
    painted(server, order())
    assert server.backend.pids == (pid,)
    assert os.getpgid(pid) != os.getpgid(0)


def test_a_model_that_cannot_be_opened_stops_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SD2RT_CACHE", str(tmp_path / "file"))
    (tmp_path / "file").write_text("no folder")
    backend = LocalBackend(ServeSettings(models=("toyworld",), target="cpu"))
    with pytest.raises(ServeError, match="did not come up"):
        asyncio.run(backend.start())


PARENT = """
import asyncio, sys
from sd2rt.serve.service import Service
from sd2rt.serve.settings import ServeSettings
from sd2rt.serve.workers import LocalBackend

async def main():
    backend = LocalBackend(ServeSettings(models=("toyworld",), target="cpu", workers=2))
    await backend.start()
    print(*backend.pids, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


def test_workers_end_when_their_server_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        parent.kill()
    assert len(pids) == 2
    until = time.monotonic() + 30  # the server itself would have slept for a minute
    while any(Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids):
        assert time.monotonic() < until
        time.sleep(0.05)


def test_models_make_room_for_others() -> None:
    class Evictions(Observers):
        """Keeps what was closed."""

        def __init__(self) -> None:
            super().__init__()
            self.models: list[str] = []

        def evicted(self, model: str) -> None:
            self.models.append(model)

    async def paint() -> None:
        settings = ServeSettings(models=("toyworld", "toyworld-inpainting"), target="cpu", memory_bytes=1)
        observer = Evictions()
        service = Service(settings, LocalBackend(settings, observer), observer)
        await service.start()
        try:
            pictures = {"image": picture("red"), "mask": picture("white")}
            other = Order(model="toyworld-inpainting", options={"prompt": "a", "steps": 1}, pictures=pictures)
            for each in (order(steps=1), other, other, order(steps=1)):
                job = await service.submit(each, "me")
                assert isinstance(await asyncio.wait_for(job.wait(), TIMEOUT_S), Finished)
        finally:
            await service.stop()
        assert observer.models == ["toyworld", "toyworld-inpainting"]

    asyncio.run(paint())
