"""Where a command's words go: results to stdout, messages and progress to stderr. Knows no command."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


class Console:
    """One run's output settings. The options of `console_options` set them; commands get the object by `click.pass_obj`."""

    def __init__(self) -> None:
        self.as_json = False
        self.quiet = False
        self.debug = False

    def result(self, data: object, lines: Iterable[str]) -> None:
        """Write the result to stdout: `data` as JSON with `--json`, else `lines`."""
        for line in [json.dumps(data, indent=2, ensure_ascii=False)] if self.as_json else lines:
            click.echo(line)

    def note(self, message: str) -> None:
        """Say something on stderr, unless `--quiet`."""
        if not self.quiet:
            click.echo(message, err=True)

    @contextmanager
    def progress(self, label: str) -> Iterator[Callable[[int, int], None]]:
        """Give a function that shows `label 3/20 8.1 it/s` on stderr; it is silent with `--quiet` or when stderr is no terminal."""
        times = [time.perf_counter()]

        def show(done: int, total: int) -> None:
            times.append(time.perf_counter())
            click.echo(f"\r{label} {done}/{total} {rate_text(times)}\033[K", err=True, nl=False)

        if self.quiet or not sys.stderr.isatty():
            yield lambda done, total: None
            return
        try:
            yield show
        finally:
            click.echo(err=True)


def rate_text(times: list[float]) -> str:
    """Word the speed of a loop as `8.1 it/s`, or `2.50 s/it` when slow, from its start and the end of each round in seconds.

    The first round is left out as soon as there is another: it pays for warming up.
    """
    first = 1 if len(times) > 2 else 0
    seconds = max((times[-1] - times[first]) / (len(times) - 1 - first), 1e-9)
    return f"{1 / seconds:.1f} it/s" if seconds < 1 else f"{seconds:.2f} s/it"


def size_text(count: int) -> str:
    """Word a number of bytes with a decimal unit."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"


def console_options(command: Command) -> Command:
    """Give a command `--json`, `--quiet` and `--verbose`."""

    def set_on_console(context: click.Context, parameter: click.Parameter, value: bool) -> None:
        if value:
            setattr(context.ensure_object(Console), str(parameter.name), True)

    def flag(*names: str, text: str) -> Callable[[Command], Command]:
        return click.option(*names, is_flag=True, expose_value=False, callback=set_on_console, help=text)

    command = flag("-v", "--verbose", "debug", text="Show the traceback of a failure (or set SD2RT_DEBUG=1).")(command)
    command = flag("-q", "--quiet", text="No progress and no messages on stderr, errors apart.")(command)
    return flag("--json", "as_json", text="Write the result to stdout as JSON.")(command)
