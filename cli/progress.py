"""One line on a terminal that says how far a loop is: bar, speed, time left. Knows no command and no console."""

from __future__ import annotations

import os
import sys
import time

import click

BAR = 20  # characters
REDRAW_S = 0.05  # faster than that nobody reads
RECENT = 10  # rounds that the time left is judged by


class ProgressLine:
    """A loop's line on stderr, which has to be a terminal. `after_s` is how long what follows the loop will take, as far as known."""

    def __init__(self, label: str, *, after_s: float = 0.0, colour: bool = False) -> None:
        self._label = label
        self._after_s = after_s
        self._colour = colour
        self._times = [time.perf_counter()]
        self._drawn = -REDRAW_S

    def __call__(self, done: int, total: int) -> None:
        """Show that `done` rounds of `total` are done; called after each round, or after some of them."""
        now = time.perf_counter()
        self._times.append(now)
        if done < total and now - self._drawn < REDRAW_S:
            return
        self._drawn = now
        click.echo("\r" + self._line(done, total) + "\033[K", err=True, nl=False, color=True)

    def _line(self, done: int, total: int) -> str:
        """Word the line, as much of it as fits the terminal."""
        left = round_seconds(self._times[-RECENT - 1 :]) * (total - done) + self._after_s
        start, end = f"{self._label} {done}/{total} ", f" {rate_text(self._times)}"
        end += f", {duration_text(left)} left" if left else ""
        room = columns() - 1
        if len(start) + len(end) + BAR + 2 > room:
            return (start.rstrip() + end)[:room]
        filled = BAR * done // max(total, 1)
        bar = "#" * filled + "-" * (BAR - filled)
        return f"{start}[{click.style(bar, fg='cyan') if self._colour else bar}]{end}"


def columns() -> int:
    """Return the width of the terminal that stderr leads to, 80 where that cannot be told."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


def round_seconds(times: list[float]) -> float:
    """Return how long a round takes, from a loop's start and the end of each round in seconds.

    The first round is left out as soon as there is another: it pays for warming up.
    """
    first = 1 if len(times) > 2 else 0
    return max((times[-1] - times[first]) / (len(times) - 1 - first), 1e-9)


def rate_text(times: list[float]) -> str:
    """Word the speed of a loop as `8.1 it/s`, or `2.50 s/it` when slow; see `round_seconds`."""
    seconds = round_seconds(times)
    return f"{1 / seconds:.1f} it/s" if seconds < 1 else f"{seconds:.2f} s/it"


def duration_text(seconds: float) -> str:
    """Word a time as `9 s`, `2 min 5 s` or `3 h 20 min`, rounded to what is worth saying."""
    whole = max(round(seconds), 1)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
