"""Time whole processes, notice when others disturb them, and alternate contenders. Knows no model."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

Measured = TypeVar("Measured")
QUIET_CORES = 0.25


class ContenderFailed(RuntimeError):
    """A measured command exited with another code than 0; `words` is the end of what it said."""

    def __init__(self, message: str, words: str = "") -> None:
        super().__init__(message)
        self.words = words or message


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One run of a process: seconds from its start to its end, its peak resident memory, and what it wrote to stdout.

    `others_cores` is how many cores the rest of the machine kept busy meanwhile (stolen time included), None where unknown.
    """

    wall_s: float
    peak_rss_bytes: int
    stdout: str
    others_cores: float | None = None


def run_measured(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Sample:
    """Run one command to its end, with `environment` added to ours. Raises ContenderFailed with its last words.

    The kernel counts the memory of the process that forks as the child's until it executes, so the caller must stay small:
    import no numpy and no torch where this runs.
    """
    with tempfile.TemporaryFile("w+") as words:
        start, busy = time.perf_counter(), busy_seconds()
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=words, text=True, env={**os.environ, **(environment or {})}
        ) as process:
            stdout = process.stdout.read() if process.stdout else ""
            _, status, usage = os.wait4(process.pid, 0)
            wall_s = time.perf_counter() - start
            process.returncode = os.waitstatus_to_exitcode(status)
        words.seek(0)
        if process.returncode != 0:
            said = words.read()[-2000:]
            raise ContenderFailed(f"{' '.join(command)} exited with {process.returncode}: {said}", said)
    others = None if busy is None else max((busy_seconds() or 0.0) - busy - usage.ru_utime - usage.ru_stime, 0.0) / wall_s
    unit = 1 if sys.platform == "darwin" else 1024
    return Sample(wall_s=wall_s, peak_rss_bytes=usage.ru_maxrss * unit, stdout=stdout, others_cores=others)


def busy_seconds() -> float | None:
    """Return the seconds that all cores together have been busy since the machine started, or None where the system does not tell."""
    try:
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    except OSError:
        return None
    user, nice, system, _idle, _iowait, irq, softirq, steal = (int(field) for field in fields)
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def undisturbed(samples: Sequence[Sample]) -> list[Sample]:
    """Return the samples during which the rest of the machine used less than a quarter of a core; all of them where none is."""
    return [sample for sample in samples if (sample.others_cores or 0.0) < QUIET_CORES] or list(samples)


def alternate(contenders: Mapping[str, Callable[[], Measured]], rounds: int) -> dict[str, list[Measured]]:
    """Call every contender once a round, every other round in reverse order, so that none profits from the machine's moods."""
    samples: dict[str, list[Measured]] = {name: [] for name in contenders}
    for number in range(rounds):
        names = list(contenders) if number % 2 == 0 else list(contenders)[::-1]
        for name in names:
            samples[name].append(contenders[name]())
            print(f"round {number + 1}/{rounds}: {name}", file=sys.stderr, flush=True)
    return samples
