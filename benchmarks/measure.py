"""Time whole processes and alternate contenders. Knows no model."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

Measured = TypeVar("Measured")


class ContenderFailed(RuntimeError):
    """A measured command exited with another code than 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One run of a process: seconds from its start to its end, its peak resident memory, and what it wrote to stdout."""

    wall_s: float
    peak_rss_bytes: int
    stdout: str


def run_measured(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Sample:
    """Run one command to its end, with `environment` added to ours. Raises ContenderFailed with its last words.

    The kernel counts the memory of the process that forks as the child's until it executes, so the caller must stay small:
    import no numpy and no torch where this runs.
    """
    with tempfile.TemporaryFile("w+") as words:
        start = time.perf_counter()
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=words, text=True, env={**os.environ, **(environment or {})}
        ) as process:
            stdout = process.stdout.read() if process.stdout else ""
            _, status, usage = os.wait4(process.pid, 0)
            wall_s = time.perf_counter() - start
            process.returncode = os.waitstatus_to_exitcode(status)
        words.seek(0)
        if process.returncode != 0:
            raise ContenderFailed(f"{' '.join(command)} exited with {process.returncode}: {words.read()[-2000:]}")
    unit = 1 if sys.platform == "darwin" else 1024
    return Sample(wall_s=wall_s, peak_rss_bytes=usage.ru_maxrss * unit, stdout=stdout)


def alternate(contenders: Mapping[str, Callable[[], Measured]], rounds: int) -> dict[str, list[Measured]]:
    """Call every contender once a round, every other round in reverse order, so that none profits from the machine's moods."""
    samples: dict[str, list[Measured]] = {name: [] for name in contenders}
    for number in range(rounds):
        names = list(contenders) if number % 2 == 0 else list(contenders)[::-1]
        for name in names:
            samples[name].append(contenders[name]())
            print(f"round {number + 1}/{rounds}: {name}", file=sys.stderr, flush=True)
    return samples
