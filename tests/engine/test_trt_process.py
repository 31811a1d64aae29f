"""Builds in a process of their own: what comes back from it, and what becomes of it when it, or its parent, dies."""

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sd2rt.engine import trt_process
from sd2rt.engine.errors import BuildError, InvalidArgument
from sd2rt.engine.spec import TensorRTOptions
from sd2rt.engine.trt_build import Job
from sd2rt.engine.trt_process import build_in_child
from tests.engine.graphs import block, component

AXES = {"batch": (1, 1, 1), "height": (8, 8, 8), "width": (8, 8, 8)}
READY = "ready"  # a file beside the plan: the child has begun
PARENT = "import pickle, sys; from sd2rt.engine import trt_process; {patch}; trt_process.build_in_child(pickle.load(sys.stdin.buffer))"


@pytest.fixture
def job(tmp_path: Path) -> Job:
    files = component(tmp_path / "unet", block("float16"))
    options = TensorRTOptions(compute_capabilities=("sm89",))
    folder, plan = files.onnx.parent, tmp_path / "engine.plan"
    return Job(
        target="tensorrt-rtx", component="unet", graph=files.onnx.read_bytes(), weights=folder, plan=plan, axes=AXES, options=options
    )


def child_that(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Let another program be the child."""
    monkeypatch.setattr(trt_process, "CHILD", f"import os, sys, time; {code}")


def test_plan_is_built(rtx: Any, job: Job) -> None:
    build_in_child(job)
    assert job.plan.stat().st_size > 10_000


def test_errors_come_back_as_they_were_raised(rtx: Any, job: Job) -> None:
    with pytest.raises(InvalidArgument, match="unet: got sizes of no axes; expected those of batch, height, width"):
        build_in_child(replace(job, axes={}))


def test_error_of_the_disk_comes_back_with_its_number(rtx: Any, job: Job, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="No such file or directory"):
        build_in_child(replace(job, plan=tmp_path / "nowhere" / "engine.plan"))


def test_nothing_is_imported_from_the_current_folder(rtx: Any, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tensorrt_rtx_bindings.py").write_text("raise SystemExit('taken from the current folder')")
    monkeypatch.chdir(tmp_path)
    build_in_child(job)
    assert job.plan.stat().st_size > 0


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("sys.stdin.buffer.read(1); os.kill(os.getpid(), 9)", r"memory ran out .+the system killed the process .+try --low-memory"),
        ("print('terminate: std::bad_alloc', file=sys.stderr); os.abort()", r"memory ran out .+\(terminate: std::bad_alloc\); try"),
        ("print('free(): invalid pointer', file=sys.stderr); os.abort()", r"died \(signal 6\): free\(\): invalid pointer$"),
        ("sys.stdin.buffer.read(1); raise TypeError('what')", r"died \(exit code 1\): TypeError: what$"),
        ("os.close(0); os._exit(3)", r"died \(exit code 3\): it gives no reason$"),
    ],
)
def test_death_of_the_child_is_a_build_error(code: str, expected: str, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    child_that(monkeypatch, code)
    with pytest.raises(BuildError, match=f"^unet: .*{expected}"):
        build_in_child(job)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads its own size from /proc")
@pytest.mark.parametrize("spare_mb", [16, 40])
def test_real_lack_of_memory_is_told_as_such(spare_mb: int, rtx: Any, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it strikes: sometimes TensorRT reports it, sometimes it ends the process."""
    limit = f"int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize() + {spare_mb << 20}"
    warm = "import resource, sd2rt.engine.trt_process as p; from sd2rt.engine.trt_library import open_library; open_library('tensorrt-rtx')"
    child_that(monkeypatch, f"{warm}; size = {limit}; resource.setrlimit(resource.RLIMIT_AS, (size, size)); p.main()")
    with pytest.raises(BuildError, match=r"unet: memory ran out while its engine was built \(.+\); try --low-memory, a smaller --size"):
        build_in_child(job)


def test_what_tensorrt_prints_is_no_answer(rtx: Any, job: Job, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    child_that(monkeypatch, "import sd2rt.engine.trt_process as p; p._outcome = lambda job: (os.system('echo noise'), None)[1]; p.main()")
    build_in_child(job)
    assert capfd.readouterr() == ("", "")


@pytest.fixture
def parent(job: Job) -> Iterator[subprocess.Popen[bytes]]:
    """A process whose child is busy for a minute."""
    wait = f"(open({str(job.plan.with_name(READY))!r}, 'x').close(), time.sleep(60))"
    busy = f"import time, sd2rt.engine.trt_process as p; p._outcome = lambda job: {wait}; p.main()"
    code = PARENT.format(patch=f"trt_process.CHILD = {busy!r}")
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(pickle.dumps(job))
    process.stdin.close()
    with process:
        yield process
        process.kill()


def child_of(process: subprocess.Popen[bytes], job: Job) -> int:
    """Wait until the process has a child that has begun its job, and return its id."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if job.plan.with_name(READY).exists():
            return int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])
        time.sleep(0.02)
    raise AssertionError("no child")


def is_gone(pid: int) -> bool:
    deadline = time.monotonic() + 20  # a third of the time for which it is busy
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":  # dead; in a container nobody may fetch it
            return True
        time.sleep(0.02)
    return False


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("blow", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_child_goes_with_its_parent(blow: signal.Signals, parent: subprocess.Popen[bytes], job: Job) -> None:
    child = child_of(parent, job)
    parent.send_signal(blow)
    parent.wait(20)
    assert is_gone(child)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for processes in /proc")
def test_ctrl_c_is_the_parents_to_answer(parent: subprocess.Popen[bytes], job: Job) -> None:
    """The terminal sends it to both."""
    child = child_of(parent, job)
    os.kill(child, signal.SIGINT)
    time.sleep(0.3)
    assert parent.poll() is None
    parent.send_signal(signal.SIGINT)
    assert parent.stderr is not None
    assert parent.stderr.read().endswith(b"KeyboardInterrupt\n")
