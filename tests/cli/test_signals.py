"""Ctrl-C and its like, sent to real processes: within a step they end, and nothing half-written stays."""

import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sd2rt.cli.signals import stopping
from tests.cli.conftest import Command, start, wait_for

SEEN = "out-preview.png"
MANY = ("--steps", "900", "--seed", "7", "--preview", "latent", "--out", "out.png")


def cpu_s(pid: int) -> float:
    """How long a process has computed, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def cpu_of_those_that_ended_s() -> float:
    """How long this process's children have computed, once they were waited for, in seconds."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.parametrize(
    ("verb", "number"),
    [
        (["generate", "a red cube"], signal.SIGINT),
        (["generate", "a red cube"], signal.SIGTERM),
        (["generate", "a red cube", "--low-memory"], signal.SIGHUP),
        (["img2img", "a red cube", "--image", "rgb.png"], signal.SIGTERM),
        (["inpaint", "a red cube", "--image", "rgb.png", "--mask", "mask.png", "--low-memory"], signal.SIGINT),
        (["depth2img", "a red cube", "--depth", "gray.png"], signal.SIGINT),
        (["upscale", "a red cube", "--image", "rgb.png"], signal.SIGINT),
    ],
    ids=lambda value: value.name if isinstance(value, signal.Signals) else "-".join(value[:1] + value[-1:]),
)
def test_a_verb_ends_within_a_step(verb: list[str], number: signal.Signals, sd2rt: Command, pictures: list[str]) -> None:
    warm = sd2rt(*verb, "--steps", "2", "--seed", "7", "--out", "warm.png")
    assert warm.code == 0, warm.err
    others_s = cpu_of_those_that_ended_s()
    process = start(*verb, *MANY)
    wait_for(process, Path(SEEN).exists)
    before_s = cpu_s(process.pid)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert cpu_of_those_that_ended_s() - others_s - before_s < 5  # a step takes 20 to 300 ms here, leaving Python the rest
    assert (process.returncode, out) == (128 + number, "")
    assert err.endswith("sd2rt: interrupted\n")
    assert sorted(path.name for path in Path().iterdir()) == sorted([*pictures, "warm.png"])


ONCE = """
import signal, sys
from sd2rt.cli.signals import Stopped, stopping
number = int(sys.argv[1])
signal.signal(number, signal.SIG_DFL)
with stopping():
    try:
        signal.raise_signal(number)
    except Stopped as stopped:
        print("stopped", stopped.exit_code)
    print(*(int(signal.getsignal(other)) for other in (number, signal.SIGTERM)))
    if sys.argv[2] == "twice":
        signal.raise_signal(number)
print(int(signal.getsignal(number)))
"""
LEFT_ALONE = """
import signal
from sd2rt.cli.signals import stopping
heard = []
signal.signal(signal.SIGHUP, signal.SIG_IGN)
signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
with stopping():
    signal.raise_signal(signal.SIGHUP)
    signal.raise_signal(signal.SIGTERM)
print(*map(int, heard))
"""


def run(code: str, *arguments: object) -> tuple[int, list[str], str]:
    """Run code that raises signals in a process of its own: there they cannot end the tests. Return its exit code, lines and errors."""
    command = [sys.executable, "-u", "-c", code, *map(str, arguments)]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return found.returncode, found.stdout.splitlines(), found.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_raised_once_and_the_next_ends_the_process(number: signal.Signals) -> None:
    default = str(int(signal.SIG_DFL))
    seen = [f"stopped {128 + number}", f"{default} {default}"]
    assert run(ONCE, int(number), "once") == (0, [*seen, default], "")
    assert run(ONCE, int(number), "twice") == (-number, seen, "")


def test_what_is_ignored_stays_ignored_and_what_is_handled_stays_handled() -> None:
    assert run(LEFT_ALONE) == (0, [str(int(signal.SIGTERM))], "")


def test_other_threads_leave_signals_alone() -> None:
    handlers: list[object] = []

    def enter() -> None:
        with stopping():
            handlers.append(signal.getsignal(signal.SIGTERM))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert handlers == [before]
