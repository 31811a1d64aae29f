"""`sd2rt serve --backend ray` as people start it: a replica is killed under load, everybody is answered, and nothing of Ray stays."""

from __future__ import annotations

import io
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.cli.conftest import Command
from tests.cli.ray_server import APIS, PROMPT, RayServer, ray_server
from tests.serve.ray.processes import require_ray

require_ray()

pytestmark = pytest.mark.slow  # a cluster takes ten seconds to start
STEPS = 60
SEEDS = range(8)  # of each API
CLIENTS = 12
SOON_S = 120.0
Record = Callable[[str, float], None]  # into the report of --junitxml
SAME_DB = 50.0  # what is painted beside others may differ in its last bits


def pixels(file: bytes) -> NDArray[np.float64]:
    """Return a picture's values, shape [height, width, 3], 0 to 255."""
    return np.asarray(Image.open(io.BytesIO(file)).convert("RGB"), np.float64)


def decibels(file: bytes, other: bytes) -> float:
    """Return how near two pictures are to each other: infinity for the same pixels."""
    error = float(np.square(pixels(file) - pixels(other)).mean())
    return float("inf") if error == 0 else 10 * float(np.log10(255**2 / error))


def kill_one_that_paints(server: RayServer) -> int:
    """Kill a replica when both are in the middle of a batch of two."""
    until = time.monotonic() + SOON_S
    while time.monotonic() < until:
        painting = [job for job in server.jobs("running") if 2 < job["step"] < STEPS // 2]
        if len(painting) > 2 and server.jobs("done"):
            victim = server.replicas()[0]
            os.kill(victim, signal.SIGKILL)
            return victim
        time.sleep(0.02)
    raise AssertionError("never were both replicas painting")


def test_a_replica_killed_under_load_costs_nobody_a_picture_and_nothing_stays(
    sd2rt: Command, tmp_path: Path, record_property: Record
) -> None:
    with ThreadPoolExecutor(CLIENTS) as clients, ray_server(tmp_path / "log", "--batch", "2", "--queue", "64") as server:
        orders = {clients.submit(api, server, seed, STEPS): (api, seed) for seed in SEEDS for api in APIS}
        first = server.replicas()
        victim = kill_one_that_paints(server)
        killed_at, waiting = time.monotonic(), sum(not order.done() for order in orders)
        painted = {orders[order]: order.result() for order in as_completed(orders)}
        record_property("start_s", server.start_s)
        record_property("kill_to_answered_s", time.monotonic() - killed_at)
        until = time.monotonic() + SOON_S
        while len(now := server.replicas()) < 2 and time.monotonic() < until:
            time.sleep(0.1)
        alone = [api(server, 99, STEPS) for api in APIS]
        code, left = server.end(signal.SIGTERM)

    assert waiting > 0
    assert sorted(server.statuses) == [200] * (2 * len(SEEDS) + 2) + [202] * (len(SEEDS) + 1)
    assert (len(first), len(now), victim in now, set(now) - set(first) != set()) == (2, 2, False, True)
    assert [line["event"] for line in server.said() if line["event"].startswith("lost a worker")] != []
    assert (code, left) == (0, [])
    for seed in (0, 7, 99):
        options = ("--model", "toyworld", "--target", "cpu", "--steps", str(STEPS), "--guidance", "7.5", "--sampler", "euler")
        assert sd2rt("generate", PROMPT, *options, "--seed", str(seed), "--out", f"{seed}.png").code == 0
    expected = {seed: Path(f"{seed}.png").read_bytes() for seed in (0, 7, 99)}
    assert min(decibels(file, expected[seed]) for (_, seed), file in painted.items() if seed in expected) >= SAME_DB
    assert [decibels(file, expected[99]) for file in alone] == [float("inf")] * len(APIS)
    assert len({pixels(file).tobytes() for (api, _), file in painted.items() if api is APIS[0]}) == len(SEEDS)


@pytest.mark.parametrize(
    ("numbers", "by_terminal", "code"),
    [((signal.SIGINT,), True, 130), ((signal.SIGINT,) * 2, True, 130), ((signal.SIGTERM,) * 2, False, 143)],
    ids=("ctrl-c", "ctrl-c twice", "sigterm twice"),
)
def test_other_ways_to_end_leave_nothing_either(numbers: tuple[int, ...], by_terminal: bool, code: int, tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as clients, ray_server(tmp_path / "log", "--max-steps", "1000") as server:
        order = clients.submit(APIS[0], server, 1, 300 if len(numbers) == 1 else 900)
        until = time.monotonic() + SOON_S
        while not (running := server.jobs("running")) and time.monotonic() < until:
            time.sleep(0.05)
        found, left = server.end(*numbers, by_terminal=by_terminal)
    assert len(running) == 1
    assert (found, left) == (code, [])
    assert (order.exception() is None) == (len(numbers) == 1)  # a second signal ends it at once


def test_a_replica_that_hangs_costs_nobody_a_picture(tmp_path: Path) -> None:
    options = ("--max-steps", "1000", "--batch", "1", "--hang-seconds", "20")
    with ThreadPoolExecutor(2) as clients, ray_server(tmp_path / "log", *options) as server:
        orders = [clients.submit(APIS[0], server, seed, 400) for seed in (1, 2)]
        until = time.monotonic() + SOON_S
        while len(running := [job for job in server.jobs("running") if job["step"]]) < 2 and time.monotonic() < until:
            time.sleep(0.02)
        victim = server.replicas()[0]
        os.kill(victim, signal.SIGSTOP)
        painted = [order.result() for order in orders]
        while (victim in server.replicas() or len(server.replicas()) < 2) and time.monotonic() < until:
            time.sleep(0.1)
        now = server.replicas()
        found, left = server.end(signal.SIGTERM)
    assert (len(running), len(painted), server.statuses) == (2, 2, [200, 200])
    assert [line["event"] for line in server.said() if line["event"].endswith("it said nothing for 20 s")] != []
    assert (victim in now, len(now)) == (False, 2)
    assert (found, left) == (0, [])


def test_replicas_that_hang_do_not_keep_it_from_ending(tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as clients, ray_server(tmp_path / "log", "--max-steps", "1000", "--drain-seconds", "1") as server:
        orders = [clients.submit(APIS[0], server, seed, 900) for seed in (1, 2)]
        until = time.monotonic() + SOON_S
        while not (running := server.jobs("running")) and time.monotonic() < until:
            time.sleep(0.05)
        for replica in server.replicas():
            os.kill(replica, signal.SIGSTOP)
        found, left = server.end(signal.SIGTERM)
    assert running != []
    assert (found, left) == (0, [])
    assert all(order.exception() is not None for order in orders)
