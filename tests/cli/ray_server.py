"""`sd2rt serve --backend ray` in a process of its own, what three APIs ask of it, and what is left of it when it has ended."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.serve.ray.processes import descendants, listeners, replicas, sockets

PROMPT = "a large red sphere, gray floor"
OPTIONS = ("--model", "toyworld", "--target", "cpu", "--threads", "1", "--backend", "ray", "--replicas", "2", "--port", "0")
REPLY_S = 300.0
GONE_S = 15.0  # that the system may take to be done with what was killed


@dataclass(kw_only=True)
class RayServer:
    """A server's process. `statuses` are those of its replies to POST, `seen` the processes that it ever had."""

    process: subprocess.Popen[str]
    url: str
    log: Path
    start_s: float
    statuses: list[int] = field(default_factory=list)
    seen: set[int] = field(default_factory=set)

    def ask(self, path: str, body: Any = None) -> bytes:
        """Return what a reply holds. Raises HTTPError for one that is no success."""
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, content, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=REPLY_S) as reply:
            if body is not None:
                self.statuses.append(reply.status)
            return bytes(reply.read())

    def jobs(self, state: str) -> list[dict[str, Any]]:
        """Return the jobs of all APIs that are in a state."""
        return [job for job in json.loads(self.ask("/v1/jobs"))["data"] if job["state"] == state]

    def replicas(self) -> list[int]:
        """Return the ids of the processes that paint."""
        self.seen |= descendants(self.process.pid).keys()
        return replicas(self.process.pid)

    def said(self) -> list[dict[str, Any]]:
        """Return the log."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def end(self, *numbers: int, by_terminal: bool = False) -> tuple[int, list[str]]:
        """Send signals, as Ctrl-C does to the process's group `by_terminal`; return the exit code, and what is left of it afterwards."""
        ours = {inode for pid in (self.process.pid, *descendants(self.process.pid)) for inode in sockets(pid)}
        self.replicas()
        for number in numbers:
            (os.killpg if by_terminal else os.kill)(self.process.pid, number)
            time.sleep(0.2)
        code = self.process.wait(REPLY_S)
        until = time.monotonic() + GONE_S
        while (left := self._left(ours)) and time.monotonic() < until:
            time.sleep(0.1)
        return code, left

    def _left(self, ours: set[str]) -> list[str]:
        """Return the processes, listening sockets and folders that there still are."""
        processes = [f"process {pid}" for pid in self.seen if Path(f"/proc/{pid}").exists()]
        listening = [f"socket {inode}" for inode in ours & listeners().keys()]
        return processes + listening + [str(path) for path in Path("/tmp").glob(f"sd2rt-ray-{self.process.pid}-*")]


@contextlib.contextmanager
def ray_server(log: Path, *options: str) -> Iterator[RayServer]:
    """Start a server with two replicas and wait until it says where it listens; it is gone afterwards, with all of Ray's processes."""
    begun = time.monotonic()
    command = [sys.executable, "-m", "sd2rt.cli", "serve", *OPTIONS, *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with log.open("w") as stderr:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=environment, start_new_session=True)
    assert process.stdout is not None
    try:
        url = process.stdout.readline().strip()
        assert url, log.read_text()
        yield RayServer(process=process, url=url, log=log, start_s=time.monotonic() - begun)
    finally:
        process.kill()  # which ends Ray's processes too
        process.communicate()


def _generations(server: RayServer, seed: int, steps: int) -> bytes:
    asked = {"prompt": PROMPT, "seed": seed, "steps": steps, "guidance_scale": 7.5, "sampler": "euler"}
    reply = json.loads(server.ask("/v1/images/generations", asked))
    return base64.b64decode(reply["data"][0]["b64_json"])


def _txt2img(server: RayServer, seed: int, steps: int) -> bytes:
    asked = {"prompt": PROMPT, "seed": seed, "steps": steps, "cfg_scale": 7.5, "sampler_name": "Euler", "width": 64, "height": 64}
    return base64.b64decode(json.loads(server.ask("/sdapi/v1/txt2img", asked))["images"][0])


def _job(server: RayServer, seed: int, steps: int) -> bytes:
    asked = {"prompt": PROMPT, "seed": seed, "steps": steps, "guidance_scale": 7.5, "sampler": "euler"}
    path = f"/v1/jobs/{json.loads(server.ask('/v1/jobs', asked))['id']}"
    until = time.monotonic() + REPLY_S
    while (state := json.loads(server.ask(path))["state"]) in ("queued", "running") and time.monotonic() < until:
        time.sleep(0.1)
    assert state == "done"
    return server.ask(f"{path}/images/0")


APIS: tuple[Callable[[RayServer, int, int], bytes], ...] = (_generations, _txt2img, _job)
"""Each has a picture of PROMPT painted, by its seed and steps, and returns the PNG file."""
