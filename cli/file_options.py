"""The options of verbs that write pictures: where to, and what kind of file."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import click

Command = Callable[..., None]


def add_options(options: Sequence[Callable[[Command], Command]]) -> Callable[[Command], Command]:
    """Give a command several options, in order."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def file_options() -> list[Callable[[Command], Command]]:
    """Return the options, named as in `output.FileOptions`, besides `out` and `force`."""
    return [
        click.option("-o", "--out", help="A .png, .jpg or .webp file, or a folder for sd2rt-SEED.png.  [default: the current folder]"),
        click.option("--force", is_flag=True, help="Replace the file that --out names."),
        click.option("--format", help="png, jpeg or webp.  [default: as --out's suffix says, else png]"),
        click.option("--quality", type=int, help="Of JPEG and WebP, from 1 to 100.  [default: 90]"),
        click.option("--metadata/--no-metadata", default=True, help="Whether files tell how they were made.  [default: they do]"),
    ]
