"""Workers that do not come up, or late: who waits, who fails, and who does not notice."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from sd2rt.serve import worker
from sd2rt.serve.backend import Task
from sd2rt.serve.errors import WorkerLost
from sd2rt.serve.messages import FromWorker, Opened
from sd2rt.serve.order import Cancelled, Failed, Finished, Order
from sd2rt.serve.service import Service
from sd2rt.serve.settings import ServeSettings
from sd2rt.serve.workers import LocalBackend
from tests.serve.core.conftest import Server, order

TIMEOUT_S = 60


def break_models(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let no worker that is started from now on open its model."""
    (folder / "file").write_text("no folder")
    patch.setenv("SD2RT_CACHE", str(folder / "file"))


async def kill_worker(server: Server) -> None:
    """Kill the one worker, and wait until the server knows."""
    os.kill(server.backend.pids[0], signal.SIGKILL)
    while server.backend._workers[0].up:
        await asyncio.sleep(0.005)


async def ending_of(server: Server, *orders: Order) -> list[object]:
    """What orders that are submitted at once come to, whatever that is."""
    jobs = [await server.service.submit(each, "me") for each in orders]
    return list(await asyncio.wait_for(asyncio.gather(*(job.wait() for job in jobs)), TIMEOUT_S))


def test_jobs_wait_for_a_worker_that_comes_up_late(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def wait() -> None:
        with monkeypatch.context() as patch:
            break_models(patch, tmp_path)
            await kill_worker(server)
            endings = asyncio.create_task(ending_of(server, *(order(seed=seed) for seed in range(5))))
            while not server.backend._workers[0].failures:
                await asyncio.sleep(0.02)
            assert not endings.done()
        assert all(isinstance(ending, Finished) for ending in await endings)

    server.runner.run(asyncio.wait_for(wait(), TIMEOUT_S))


def test_a_worker_that_does_not_come_up_takes_no_jobs_from_one_that_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        settings = ServeSettings(models=("toyworld",), target="cpu", threads=1, workers=2, drain_s=1.0)
        backend = LocalBackend(settings)
        service = Service(settings, backend)
        await service.start()
        try:
            with monkeypatch.context() as patch:
                break_models(patch, tmp_path)
                os.kill(backend.pids[0], signal.SIGKILL)
                while not backend._workers[0].failures:
                    await asyncio.sleep(0.02)
                jobs = [await service.submit(order(width=64 + 64 * (seed % 2)), "me") for seed in range(6)]
                endings = await asyncio.gather(*(job.wait() for job in jobs))
            assert all(isinstance(ending, Finished) for ending in endings)
        finally:
            await service.stop()

    asyncio.run(asyncio.wait_for(run(), TIMEOUT_S))


def test_jobs_fail_when_no_worker_comes_up_at_all_and_the_next_ones_are_painted(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail() -> None:
        with monkeypatch.context() as patch:
            break_models(patch, tmp_path)
            patch.setattr("sd2rt.serve.workers.MOST_FAILURES", 2)
            await kill_worker(server)
            endings = await ending_of(server, order(), order(width=128))
        for ending in endings:
            assert isinstance(ending, Failed)
            assert (ending.status, str(tmp_path) in ending.message) == (503, False)
        assert isinstance((await ending_of(server, order()))[0], Finished)

    server.runner.run(asyncio.wait_for(fail(), TIMEOUT_S))


def test_a_job_that_waits_for_a_worker_is_cancelled_at_once(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def cancel() -> None:
        with monkeypatch.context() as patch:
            break_models(patch, tmp_path)
            await kill_worker(server)
            job = await server.service.submit(order(), "me")
            while job.position:
                await asyncio.sleep(0.005)
            server.service.cancel(job.id, "me")
            assert isinstance(await job.wait(), Cancelled)  # while no worker comes up that could tell
            assert not server.backend._workers[0].up
        assert isinstance((await ending_of(server, order()))[0], Finished)

    server.runner.run(asyncio.wait_for(cancel(), TIMEOUT_S))


def test_words_that_cannot_be_read_cost_a_process_and_no_more(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    take = worker.Worker._take
    said: list[FromWorker] = []

    def garbled(self: worker.Worker, message: FromWorker) -> None:
        said.append(message)
        if len(said) == 2:
            raise TypeError("a field of another version")
        take(self, message)

    monkeypatch.setattr(worker.Worker, "_take", garbled)
    os.kill(server.backend.pids[0], signal.SIGKILL)  # the next one is heard by that
    assert all(isinstance(ending, Finished) for ending in server.runner.run(ending_of(server, order(), order(seed=2))))
    assert len(said) > 2
    assert sum(isinstance(message, Opened) for message in said) == 2
    assert "a field of another version" in caplog.text


def test_a_process_that_cannot_be_started_leaves_nothing_open(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*command: object, **given: object) -> None:
        raise OSError("no process to be had")

    async def fail() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(worker.subprocess, "Popen", none)
            os.kill(server.backend.pids[0], signal.SIGKILL)
            while not server.backend._workers[0].failures:
                await asyncio.sleep(0.01)
            assert server.backend.pids == ()
            assert len(os.listdir("/proc/self/fd")) == before - 1  # our end of the one that is gone
        assert isinstance((await ending_of(server, order()))[0], Finished)

    before = len(os.listdir("/proc/self/fd"))
    server.runner.run(asyncio.wait_for(fail(), TIMEOUT_S))


def test_a_batch_ends_when_the_workers_are_stopped() -> None:
    async def stop() -> None:
        backend = LocalBackend(ServeSettings(models=("toyworld",), target="cpu"))
        await backend.stop()
        with pytest.raises(WorkerLost, match="stopped"):
            await anext(backend.paint([Task(id="job-late", order=order())]))

    asyncio.run(stop())
