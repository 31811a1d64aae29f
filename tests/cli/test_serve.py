"""`sd2rt serve` as people start it: a process that says where it listens, and ends as it is told to."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import pytest

from sd2rt.cli.byte_size import ByteSize
from sd2rt.cli.console import Console
from sd2rt.cli.main import sd2rt as root
from sd2rt.cli.serve import choose_engines
from sd2rt.cli.settings import default_map
from sd2rt.serve.ray_settings import RaySettings
from sd2rt.serve.server import Ended
from sd2rt.serve.settings import ServeSettings
from tests.cli.conftest import Command, assert_refused, start, wait_for

pytest.importorskip("fastapi", reason="needs the serve extra")
QUICK = ("--model", "toyworld", "--target", "cpu", "--threads", "1", "--port", "0")
SECRET = "a-secret-of-20-letters"
LONG = {"prompt": "a red cube", "steps": 150, "n": 8, "width": 128, "height": 128}
"""Twenty seconds of work."""


class Served:
    """A server's process, its address, and what it has said on stderr."""

    def __init__(self, process: "subprocess.Popen[str]", said: str) -> None:
        self.process = process
        self.said = said
        self.url = json.loads(said)["url"] if said.startswith("{") else said.strip()

    def ask(self, method: str, path: str, body: Any = None, token: str = "") -> tuple[int, Any]:
        """Return a status and what JSON says."""
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, content, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as reply:
                return reply.status, json.load(reply)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def begin_to_end(self, number: int) -> None:
        """Send a signal, and wait until the server says that it stops."""
        self.process.send_signal(number)
        wait_for(self.process, lambda: self.ask("GET", "/ready")[0] == 503)

    def end(self, number: int) -> tuple[int, str]:
        """Send a signal, and return the exit code and stderr once it has ended; raises TimeoutExpired after a minute."""
        self.process.send_signal(number)
        return self.ended()

    def ended(self) -> tuple[int, str]:
        """Wait for its end, and return the exit code and stderr."""
        _, err = self.process.communicate(timeout=60)
        return self.process.returncode, err


@contextmanager
def served(*options: str, **environment: str) -> Iterator[Served]:
    """Start a server and wait until it says where it listens; it is gone afterwards, and so are its workers."""
    command = [sys.executable, "-m", "sd2rt.cli", "serve", *QUICK, *options]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1", **environment}
    )
    assert process.stdout is not None
    try:
        said = process.stdout.readline()
        assert said, process.communicate(timeout=10)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        yield Served(process, said)
        assert children
        until = time.monotonic() + 30  # it has not waited for them when it was told to end at once
        while living := [child for child in children if not is_gone(child)]:
            assert time.monotonic() < until, living
            time.sleep(0.01)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate(timeout=10)


def is_gone(pid: str) -> bool:
    """Whether a process has ended, also where nobody has asked how."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def lines(err: str) -> list[dict[str, Any]]:
    """The log."""
    return [json.loads(line) for line in err.splitlines()]


def test_it_says_where_paints_and_ends_when_what_it_took_is_done() -> None:
    with served("--json", "--verbose") as server:
        said = json.loads(server.said)
        assert (said["models"], said["pid"]) == (["toyworld"], server.process.pid)
        assert server.ask("GET", "/ready") == (200, {"status": "ok"})
        status, job = server.ask("POST", "/v1/jobs", {"prompt": "a red cube", "steps": 150})
        assert status == 202
        code, err = server.end(signal.SIGTERM)
    assert code == 0
    log = lines(err)
    [ended] = [line for line in log if line["event"] == "job"]
    assert (ended["job"], ended["state"]) == (job["id"], "done")
    assert {"job taken", "batch", "request"} <= {line["event"] for line in log}
    assert "cube" not in err


def test_while_it_finishes_nothing_new_is_taken() -> None:
    with served() as server:
        assert server.said == f"{server.url}\n"
        status, job = server.ask("POST", "/v1/jobs", LONG)
        assert status == 202
        server.begin_to_end(signal.SIGTERM)
        assert server.ask("POST", "/v1/jobs", {"prompt": "x"})[0] == 503
        assert server.ask("GET", "/health")[0] == 200
        assert server.ask("DELETE", f"/v1/jobs/{job['id']}")[0] == 200  # nobody waits for it
        code, _ = server.ended()
    assert code == 0


def test_ctrl_c_and_a_drain_that_takes_too_long() -> None:
    with served("--drain-seconds", "0") as server:
        server.ask("POST", "/v1/jobs", LONG)
        code, err = server.end(signal.SIGINT)
    assert code == 130
    assert [line["state"] for line in lines(err) if line["event"] == "job"] == ["cancelled"]


def test_a_second_signal_ends_it_at_once() -> None:
    with served() as server:
        for _ in range(10):
            server.ask("POST", "/v1/jobs", LONG)
        server.begin_to_end(signal.SIGTERM)
        code, err = server.end(signal.SIGINT)  # within a minute, and the jobs take several
    assert code == 130
    assert err.endswith("sd2rt: interrupted\n")


def test_tokens_of_a_file_and_of_the_environment(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text(f"ann:{SECRET}\n")
    tokens.chmod(0o600)
    with served("--token-file", str(tokens), "--log-prompts", SD2RT_TOKEN=SECRET + "-2") as server:
        assert server.ask("GET", "/v1/jobs")[0] == 401
        assert server.ask("GET", "/v1/jobs", token=SECRET + "-2")[0] == 200
        status, job = server.ask("POST", "/v1/jobs", {"prompt": "a red cube", "steps": 1}, token=SECRET)
        assert status == 202
        code, err = server.end(signal.SIGTERM)
    assert code == 0
    assert SECRET not in err
    assert next((line["owner"], line["prompt"]) for line in lines(err) if line["event"] == "job") == ("ann", "a red cube")
    assert job["id"] in err


def test_a_port_in_use_is_one_line(sd2rt: Command) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        found = sd2rt("serve", "--model", "toyworld", "--port", str(port))
    assert_refused(found, 1, f"cannot listen on 127.0.0.1, port {port}: Address already in use")
    assert found.err.endswith("; another --port may be free, 0 finds one\n")


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--model", "nowhere"), 1, "nowhere"),
        (("--model", "./toyworld"), 1, "toyworld"),
        (("--host", "0.0.0.0"), 2, "without a token; give one with --token-file, or serve on 127.0.0.1"),
        (("--token-file", "none.txt"), 2, "none.txt cannot be read"),
        (("--memory-limit", "much"), 2, "'much' is no size such as 8GB"),
        (("--port", "65536"), 2, "--port"),
        (("--backend", "cloud"), 2, "'cloud' is not one of 'local', 'ray'"),
        (("--backend", "ray", "--build-engines"), 2, "--build-engines: got it for --backend ray, whose replicas always build"),
        (("--target", "nothing"), 2, "target: got 'nothing'; expected auto or one of"),
    ],
    ids=str,
)
def test_what_cannot_be_served(options: tuple[str, ...], code: int, words: str, sd2rt: Command) -> None:
    found = sd2rt("serve", "--port", "0", "--quiet", *options)
    assert_refused(found, code, words)
    assert "http://" not in found.err


def test_a_token_that_is_too_short(sd2rt: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SD2RT_TOKEN", "short")
    found = sd2rt("serve", "--port", "0")
    assert_refused(found, 2, "token of 'token': got 5 characters; expected at least 16")
    assert "short" not in found.err


@pytest.mark.parametrize(
    ("missing", "options", "words"),
    [
        ("fastapi", (), 'serving needs fastapi: pip install "sd2rt[serve]"'),
        ("uvicorn", (), 'serving needs uvicorn: pip install "sd2rt[serve]"'),
        ("ray", ("--backend", "ray"), 'needs ray: pip install "sd2rt[ray]"'),
    ],
)
def test_without_what_it_needs_one_line_says_what_to_install(missing: str, options: tuple[str, ...], words: str) -> None:
    process = start("serve", "--port", "0", *options, blocked=missing)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, ""), err
    assert words in err
    assert err.count("\n") == 1


def test_help_needs_nothing() -> None:
    process = start("serve", "--help", blocked="fastapi uvicorn prometheus_client python_multipart")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert "--token-file" in out


def test_it_can_be_set_for_good(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text(
        'target = "cpu"\nsteps = 3\n[serve]\nport = 0\nmodel = ["toyworld", "sd21"]\nallowed-host = ["a", "b"]\nmemory-limit = "8GB"\n'
    )
    found = default_map(root, {"SD2RT_CONFIG": str(file), "SD2RT_TOKEN": SECRET})
    assert found is not None
    assert found["serve"] == {
        **{"target": "cpu", "port": 0, "models": ["toyworld", "sd21"], "allowed_hosts": ["a", "b"], "memory_bytes": 8_000_000_000}
    }


@pytest.mark.parametrize(
    ("text", "count"), [("8GB", 8 * 10**9), ("512 mb", 512 * 10**6), ("4GiB", 4 * 2**30), ("1.5k", 1500), ("123", 123), ("0", 0)]
)
def test_sizes(text: str, count: int) -> None:
    assert ByteSize().convert(text, None, None) == count


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "8 XB", "1e9", "8GBs", "8,5GB"])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is no size such as 8GB"):
        ByteSize().convert(text, None, None)


@pytest.mark.parametrize(
    ("build", "ray", "engines"),
    [(False, None, "built"), (True, None, "on demand"), (False, RaySettings(), "elsewhere")],
)
def test_what_becomes_of_orders_without_engines(build: bool, ray: RaySettings | None, engines: str) -> None:
    assert choose_engines(build, ray) == engines


def test_what_engines_and_workers_get_is_taken_from_the_options(sd2rt: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[ServeSettings] = []

    async def listen(console: Console, settings: ServeSettings, ray: RaySettings | None, *, log_prompts: bool) -> Ended:
        found.append(settings)
        return Ended(signal=signal.SIGTERM, at_once=False)

    monkeypatch.setattr("sd2rt.cli.serve.listen", listen)
    assert sd2rt("serve").code == sd2rt("serve", "--build-engines", "--hang-seconds", "12.5").code == 0
    assert [(settings.engines, settings.hang_s) for settings in found] == [("built", 900), ("on demand", 12.5)]
