"""How many pictures a server paints in how much time, what it adds to the pipeline, and how fast it refuses."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import cache
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

from benchmarks.serving_server import Client, Server, serving

if TYPE_CHECKING:
    from sd2rt.runtime.text_to_image import TextToImage

STEPS, SAMPLER = 20, "ddim"
PROMPTS = (
    "a large red sphere on the left and a small blue cube on the right, gray floor",
    "a small green cone",
    "a large white cube, brown floor",
    "a small yellow cone on the left and a large purple cylinder on the right, pink floor",
    "a large orange cylinder, black floor",
    "a small blue sphere on the left",
)
FULL_QUEUE = 4
Painted = tuple[float, float, bytes]
"""Seconds, seconds of the engines, and the file."""


def order(number: int, **more: Any) -> dict[str, Any]:
    """Return the request for picture `number`: prompts take turns, every picture has a seed of its own."""
    return {"prompt": PROMPTS[number % len(PROMPTS)], "seed": number, "steps": STEPS, "sampler": SAMPLER, **more}


def measure_throughput(target: str, batch: int, workers: int, clients: Sequence[int], seconds: float) -> list[dict[str, Any]]:
    """Return, for each number of clients who each ask again as soon as they are answered, the pictures painted and the seconds taken."""
    options = ("--target", target, "--batch", str(batch), "--workers", str(workers), "--model", "toyworld", "--queue", "64")
    with serving(*options) as server:
        found = []
        for count in clients:
            load(server, count, seconds)  # engines for the sizes of batches that come up
            found.append({"clients": count, **load(server, count, seconds)})
        return found


def load(server: Server, clients: int, seconds: float) -> dict[str, Any]:
    """Have clients ask for pictures for so long; return how many were answered in which time, and how long each answer took."""
    until = time.perf_counter() + seconds
    taken: list[float] = []
    counter = iter(range(1_000_000))
    turn = threading.Lock()

    def ask() -> None:
        client = Client(server)
        while (began := time.perf_counter()) < until:
            with turn:
                number = next(counter)
            client.paint(order(number))
            taken.append(time.perf_counter() - began)
        client.close()

    began = time.perf_counter()
    everybody(ask, clients)
    return {"pictures": len(taken), "seconds": time.perf_counter() - began, "latencies_s": sorted(taken)}


def everybody(work: Callable[[], None], count: int) -> None:
    """Run a function in so many threads at once. Raises what one of them raises."""
    with ThreadPoolExecutor(count) as pool:
        for done in [pool.submit(work) for _ in range(count)]:
            done.result()


PAUSES_S = (0.0, 0.02)  # before each call: a client that asks again at once, and one that finds a machine gone idle


def measure_overhead(target: str, rounds: int, requests: int) -> dict[str, Any]:
    """Ask a server for a picture and paint the same one with a pipeline, in turns; return the seconds of each, pair by pair, by pause.

    `engines` is what of them the engines say they took. Each round has a new server and a new pipeline: how fast engines are differs by
    some percent from one process to the next, which is no cost of serving.
    """
    found: dict[str, Any] = {"target": target, "rounds": rounds, "pauses": []}
    for pause_s in PAUSES_S:
        pairs = [pair for _ in range(rounds) for pair in overhead_of_pair(target, requests, pause_s)]
        calls = {name: [pair[name] for pair in pairs] for name in ("server", "pipeline")}
        seconds = {name: [call[0] for call in taken] for name, taken in calls.items()}
        engines = {name: [call[1] for call in taken] for name, taken in calls.items()}
        equal = sum(pair["server"][2] == pair["pipeline"][2] for pair in pairs)
        found["pauses"].append({"pause_s": pause_s, "seconds": seconds, "engines": engines, "equal_bytes": equal})
    return found


def overhead_of_pair(target: str, requests: int, pause_s: float) -> Iterator[dict[str, Painted]]:
    """Yield, for each request, what a new server and a pipeline in a new process took."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool, serving("--target", target, "--model", "toyworld") as server:
        client = Client(server)
        for number in range(-3, requests):  # the first three warm both up
            asked = order(number + 3)
            time.sleep(pause_s)
            began = time.perf_counter()
            served = client.paint(asked)
            served_s = time.perf_counter() - began
            engines_s = client.ask("GET", "/v1/jobs?limit=1").json()["data"][0]["timings"]["total"]
            time.sleep(pause_s)
            painted = pool.submit(paint, target, asked).result()
            if number >= 0:
                yield {"server": (served_s, engines_s, served), "pipeline": painted}


@cache
def pipeline(target: str) -> TextToImage:
    """Return this process's pipeline."""
    from sd2rt.runtime import load as load_model

    return load_model("toyworld", target)


def paint(target: str, asked: dict[str, Any]) -> Painted:
    """Paint with this process's pipeline, to the file."""
    from sd2rt.runtime.picture_file import encode_picture

    pipe = pipeline(target)
    began = time.perf_counter()
    result = pipe(**asked)
    painted = encode_picture(result.images[0], "png", result.parameters[0])  # type: ignore[arg-type]
    return time.perf_counter() - began, result.timings["total"], painted


def measure_refusals(requests: int) -> dict[str, Any]:
    """Fill the queue of a server that paints, and ask it again and again; return how long each refusal took."""
    options = ("--queue", str(FULL_QUEUE), "--model", "toyworld", "--max-steps", "900")
    with serving(*options) as server:
        client = Client(server)
        job = {"prompt": "a red cube", "steps": 900, "n": 8}
        first = client.ask("POST", "/v1/jobs", job).json()
        while client.ask("GET", f"/v1/jobs/{first['id']}").json()["state"] != "running":
            time.sleep(0.01)
        waiting = [client.ask("POST", "/v1/jobs", job).status for _ in range(FULL_QUEUE)]
        taken, statuses, retry_after = [], [], []
        for _ in range(requests):
            began = time.perf_counter()
            reply = client.ask("POST", "/v1/jobs", job)
            taken.append(time.perf_counter() - began)
            statuses.append(reply.status)
            retry_after.append(reply.headers.get("retry-after"))
        running = client.ask("GET", f"/v1/jobs/{first['id']}").json()["state"]
        for found in client.ask("GET", "/v1/jobs").json()["data"]:
            client.ask("DELETE", f"/v1/jobs/{found['id']}")
    return {
        "queue": FULL_QUEUE,
        "taken_statuses": waiting,
        "seconds": taken,
        "statuses": sorted(set(statuses)),
        "retry_after": sorted({str(value) for value in retry_after}),
        "still_painting": running == "running",
    }
