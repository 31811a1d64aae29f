"""Build an engine in a process of its own.

TensorRT ends the process it runs in when memory runs out, and answers no Ctrl-C while it builds. So a child does the work: it may die
without harm, is stopped at once, and gives all its memory back. It leaves by itself when its parent is gone.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading

from sd2rt.engine.errors import BuildError, EngineError
from sd2rt.engine.trt_build import Job, build_plan
from sd2rt.engine.trt_errors import build_failure, quote

CHILD = "from sd2rt.engine.trt_process import main; main()"
LAST_BYTES = 2000  # of what a dying process says


def build_in_child(job: Job) -> None:
    """Have a child build the job's plan, and wait for it. Raises as `build_plan` does, and BuildError when the child dies."""
    path = os.pathsep.join(folder for folder in sys.path if folder)  # -P: nothing is imported from the current folder
    with tempfile.TemporaryFile() as words:
        child = subprocess.Popen(
            [sys.executable, "-P", "-c", CHILD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=words,
            env={**os.environ, "PYTHONPATH": path},
        )
        with child:
            try:
                answer = _ask(child, job)
            except BaseException:  # Ctrl-C above all
                child.kill()
                raise
        if not answer:
            words.seek(max(0, words.tell() - LAST_BYTES))
            raise death(job.component, child.returncode, words.read().decode(errors="replace"))
    outcome = pickle.loads(answer)
    if outcome is not None:
        raise outcome


def _ask(child: subprocess.Popen[bytes], job: Job) -> bytes:
    """Send the job; return the child's answer, nothing if it dies. Its input stays open meanwhile: that tells it that we are here."""
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        pickle.dump(job, child.stdin)
        child.stdin.flush()
        return child.stdout.read()
    except BrokenPipeError:
        return b""


def death(component: str, code: int, words: str) -> EngineError:
    """Return the error of a build whose process died, by its exit code and last words."""
    last = [line.strip() for line in words.splitlines() if line.strip()]
    if code == -signal.SIGKILL:
        return build_failure(component, "out of memory: the system killed the process that built it")
    failure = build_failure(component, " ".join(last[-3:]))
    if isinstance(failure, BuildError) and "memory ran out" in str(failure):
        return failure
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    return BuildError(f"{component}: the process that built the engine died ({how}): {quote(last[-1] if last else '')}")


def main() -> None:
    """Read a job from stdin, build it, and write what came of it to stdout: None or an exception."""
    with os.fdopen(os.dup(1), "wb") as answer:
        os.dup2(2, 1)  # what TensorRT prints by itself is no answer
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
        job = pickle.load(sys.stdin.buffer)
        threading.Thread(target=_leave_with_parent, daemon=True).start()
        answer.write(pickle.dumps(_outcome(job)))


def _outcome(job: Job) -> Exception | None:
    try:
        build_plan(job)
    except (EngineError, OSError, ValueError) as error:
        return error.with_traceback(None)
    return None


def _leave_with_parent() -> None:
    """End this process as soon as stdin does, which its parent holds open."""
    os.read(0, 1)
    os._exit(1)
