"""What a server is like after a thousand requests, a hundred cancels, and the death of its workers."""

from __future__ import annotations

import base64
import io
import itertools
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

from benchmarks.serving_load import everybody, order
from benchmarks.serving_server import CLIENTS, Client, Reply, Server, form_of, serving

MODELS = ("--model", "toyworld", "--model", "toyworld-inpainting", "--model", "toyworld-depth", "--model", "toyworld-upscaler")
SHORT = {"prompt": "a large red cube", "steps": 4}
LONG = {"prompt": "a large red cube", "steps": 150}
Colour = tuple[int, int, int, int]
RED, WHITE, BLACK, CLEAR = (200, 30, 30, 255), (255, 255, 255, 255), (0, 0, 0, 255), (0, 0, 0, 0)
POLL_S = 0.005
SETTLE_S = 2.5  # in which results that are kept for a second are gone
EXPIRY_S = 5
"""Results are kept for this long, so that memory tells of leaks and not of what is kept on purpose."""

Visit = Callable[[Client], list[Reply]]


def picture(left: Colour, right: Colour = RED, size: int = 64) -> bytes:
    """Return a PNG of two halves."""
    from PIL import Image

    image = Image.new("RGBA", (size, size), right)
    image.paste(left, (0, 0, size // 2, size))
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def visits() -> dict[str, Visit]:
    """Return every route by what is done with it, painting ones several times."""
    image, mask = (base64.b64encode(content).decode() for content in (picture(RED), picture(WHITE, BLACK)))
    edit, kind = form_of({"prompt": "a red cube", "steps": "4"}, [("image", picture(RED)), ("mask", picture(CLEAR))])

    def get(path: str) -> Visit:
        return lambda client: [client.ask("GET", path)]

    def post(path: str, body: dict[str, Any]) -> Visit:
        return lambda client: [client.ask("POST", path, body)]

    looks = ["/", "/health", "/ready", "/metrics", "/openapi.json", "/v1/models", "/v1/jobs"]
    looks += [f"/sdapi/v1/{name}" for name in ("progress", "samplers", "schedulers", "upscalers", "sd-models", "options", "memory")]
    found = {f"GET {path}": get(path) for path in looks}
    found |= {
        "generations": post("/v1/images/generations", SHORT),
        "generations, jpeg, 2": post("/v1/images/generations", SHORT | {"n": 2, "output_format": "jpeg"}),
        "generations, stream": post("/v1/images/generations", SHORT | {"stream": True, "partial_images": 2}),
        "edits": lambda client: [client.ask("POST", "/v1/images/edits", form=edit, kind=kind)],
        "txt2img": post("/sdapi/v1/txt2img", SHORT),
        "img2img": post("/sdapi/v1/img2img", SHORT | {"init_images": [image]}),
        "img2img, mask": post("/sdapi/v1/img2img", SHORT | {"init_images": [image], "mask": mask}),
        "extra-single-image": post("/sdapi/v1/extra-single-image", {"image": image, "upscaler_1": "Lanczos", "upscaling_resize": 2}),
        "png-info": post("/sdapi/v1/png-info", {"image": image}),
        "interrupt": post("/sdapi/v1/interrupt", {}),
        "options": post("/sdapi/v1/options", {}),
        "job": visit_job,
        "job, depth": lambda client: visit_job(client, {"model": "toyworld-depth", "depth": mask}),
        "job, upscaled": lambda client: visit_job(client, {"model": "toyworld-upscaler", "image": image, "steps": 2}),
        "job, cancelled": visit_cancelled,
    }
    return found


def visit_job(client: Client, more: dict[str, Any] | None = None) -> list[Reply]:
    """Order, watch, fetch and remove."""
    made = client.ask("POST", "/v1/jobs", SHORT | {"previews": 1} | (more or {}))
    if made.status != 202:
        return [made]
    path = f"/v1/jobs/{made.json()['id']}"
    rest = [("GET", f"{path}/events"), ("GET", path), ("GET", f"{path}/images/0"), ("GET", f"{path}/preview"), ("DELETE", path)]
    return [made, *(client.ask(method, address) for method, address in rest)]


def visit_cancelled(client: Client) -> list[Reply]:
    """Order a long one, and give it up."""
    made = client.ask("POST", "/v1/jobs", LONG)
    if made.status != 202:
        return [made]
    return [made, client.ask("DELETE", f"/v1/jobs/{made.json()['id']}")]


def measure_soak(requests: int) -> dict[str, Any]:
    """Have four clients visit every route in a random order; return failures by route, and memory after every request of the first."""
    todo = iter(itertools.islice(_shuffled(), requests))
    failures: list[dict[str, Any]] = []
    memory: list[tuple[int, int]] = []
    done: list[str] = []
    turn = threading.Lock()
    owners = iter(CLIENTS)
    with serving(*MODELS, "--results-seconds", str(EXPIRY_S), "--queue", "16") as server:

        def live() -> None:
            with turn:
                owner = next(owners)
            client = Client(server, owner)
            while True:
                with turn:
                    name, visit = next(todo, ("", None))
                if visit is None:
                    break
                for reply in visit(client):
                    done.append(name)
                    if reply.status >= 400:
                        failures.append({"route": name, "status": reply.status, "body": reply.body[:300].decode(errors="replace")})
                if owner == CLIENTS[0]:
                    memory.append((len(done), server.resident_bytes()))

        began = time.perf_counter()
        everybody(live, len(CLIENTS))
        seconds = time.perf_counter() - began
    return {"requests": len(done), "routes": len(set(done)), "seconds": seconds, "failures": failures, "memory": memory}


def _shuffled() -> itertools.chain[tuple[str, Visit]]:
    """Return visits without end: all of them in one random order after the other."""
    order_of = random.Random(7)
    found = list(visits().items())
    return itertools.chain.from_iterable(order_of.sample(found, len(found)) for _ in itertools.count())


def measure_cancels(cancels: int) -> dict[str, Any]:
    """Cancel jobs that are being painted, every other one by hanging up; return memory before and after, and how long each took."""
    with serving("--model", "toyworld", "--results-seconds", "1") as server:
        client = Client(server)
        for number in range(cancels):  # memory grows until the allocator has its fill
            _cancel_one(client, server, number)
        client.paint(order(0))
        before = settled(server)
        seconds = [_cancel_one(client, server, number) for number in range(cancels)]
        client.paint(order(0))
        after = settled(server)
    return {"cancels": cancels, "before_bytes": before, "after_bytes": after, "seconds": seconds}


def _cancel_one(client: Client, server: Server, number: int) -> float:
    """Start a long job, cancel it once it is painted or hang up, and return how long it took to end."""
    leaver = Client(server)
    leaver.begin("/v1/images/generations" if number % 2 else "/v1/jobs", LONG)
    while not (running := _running(client)):
        time.sleep(POLL_S)
    began = time.perf_counter()
    if number % 2 == 0:
        client.ask("DELETE", f"/v1/jobs/{running[0]}")
    leaver.close()
    while _running(client):
        time.sleep(POLL_S)
    return time.perf_counter() - began


def _running(client: Client) -> list[str]:
    return [job["id"] for job in client.ask("GET", "/v1/jobs").json()["data"] if job["state"] == "running"]


def settled(server: Server) -> int:
    """Return memory once results have expired."""
    time.sleep(SETTLE_S)
    return server.resident_bytes()


def measure_kills(seconds: float, kills: int) -> dict[str, Any]:
    """Kill a worker again and again while eight clients ask for pictures; return how many were answered, and how."""
    statuses: list[int] = []
    with serving("--model", "toyworld", "--workers", "2", "--queue", "64") as server:
        until = time.perf_counter() + seconds

        def ask() -> None:
            client = Client(server)
            number = 0
            while time.perf_counter() < until:
                number += 1
                statuses.append(client.ask("POST", "/v1/images/generations", order(number)).status)

        killed = []
        clients = threading.Thread(target=everybody, args=(ask, 8))
        clients.start()
        for _ in range(kills):
            time.sleep(seconds / (kills + 1))
            killed.append(server.workers[0])
            os.kill(killed[-1], signal.SIGKILL)
        clients.join()
    return {"kills": len(killed), "answered": len(statuses), "statuses": {str(status): statuses.count(status) for status in set(statuses)}}
