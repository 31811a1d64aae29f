"""Where a command's words go: results to stdout, messages and progress to stderr. Knows no command."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import click

from sd2rt.cli.options import Command, Option
from sd2rt.cli.progress import ProgressLine

LOGGER = "sd2rt"  # the parent of what the packages log


class Console:
    """One run's output settings. The options of `console_options` set them; commands get the object by `click.pass_obj`."""

    def __init__(self) -> None:
        self.as_json = False
        self.quiet = False
        self.debug = False
        self.offline = False  # whether `--model` may download

    def result(self, data: object, lines: Iterable[str]) -> None:
        """Write the result to stdout: `data` as JSON with `--json`, else `lines`."""
        for line in [json.dumps(data, indent=2, ensure_ascii=False)] if self.as_json else lines:
            click.echo(line)

    def item(self, data: object, lines: Iterable[str]) -> None:
        """Write one of many results to stdout as soon as it is there: `data` as one line of JSON with `--json`, else `lines`."""
        for line in [json.dumps(data, ensure_ascii=False)] if self.as_json else lines:
            click.echo(line)
        sys.stdout.flush()

    def note(self, message: str) -> None:
        """Say something on stderr, unless `--quiet`."""
        if not self.quiet:
            click.echo(message, err=True)

    def detail(self, message: str) -> None:
        """Say on stderr what only `--verbose` asks for."""
        if self.debug:
            self.note(click.style(message, dim=True) if colours() else message)

    @property
    def shows_progress(self) -> bool:
        """Whether lines that change belong on stderr: not with `--quiet`, and only on a terminal that can move its cursor."""
        return not self.quiet and on_terminal()

    @contextmanager
    def progress(self, label: str, after_s: float = 0.0) -> Iterator[Callable[[int, int], None]]:
        """Give a function that shows `label 3/20 [###---] 8.1 it/s, 2 s left` on stderr, or nothing unless `shows_progress`.

        `after_s` is how long what follows this loop will take, which counts as left.
        """
        if not self.shows_progress:
            yield lambda done, total: None
            return
        try:
            yield ProgressLine(label, after_s=after_s, colour=colours())
        finally:
            click.echo(err=True)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take what the packages log as details."""
        logger, handler = logging.getLogger(LOGGER), _Details(self)
        level = logger.level
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)
        try:
            yield
        finally:
            logger.removeHandler(handler)
            logger.setLevel(level)


class _Details(logging.Handler):
    """Gives log records to a console."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        self._console.detail(record.getMessage())


def on_terminal() -> bool:
    """Whether stderr is a terminal that can move its cursor."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def colours() -> bool:
    """Whether stderr takes colours: a terminal, unless NO_COLOR is set (no-color.org)."""
    return on_terminal() and not os.environ.get("NO_COLOR")


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

    def flag(*names: str, text: str) -> Option:
        return click.option(*names, is_flag=True, expose_value=False, callback=set_on_console, help=text)

    verbose = "Say more: engines, how long each stage took, the traceback of a failure (or set SD2RT_DEBUG=1)."
    command = flag("-v", "--verbose", "debug", text=verbose)(command)
    command = flag("-q", "--quiet", text="No progress and no messages on stderr, errors apart.")(command)
    return flag("--json", "as_json", text="Write the result to stdout as JSON.")(command)
