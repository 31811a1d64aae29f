"""The options of verbs that write pictures: where to, and what kind of file."""

from __future__ import annotations

from typing import Any

import click

from sd2rt.cli.choices import on_command_line
from sd2rt.cli.options import Option
from sd2rt.cli.output import FileOptions


def file_options() -> list[Option]:
    """Return all options: `place_options` and `kind_options`."""
    return [*place_options(), *kind_options()]


def place_options() -> list[Option]:
    """Return `--out` and `--force`."""
    return [
        click.option("-o", "--out", help="A .png, .jpg or .webp file, or a folder for sd2rt-SEED.png.  [default: the current folder]"),
        click.option("--force", is_flag=True, help="Replace the file that --out names."),
    ]


def kind_options() -> list[Option]:
    """Return the options that are named as in `output.FileOptions`."""
    return [
        click.option("--format", help="png, jpeg or webp.  [default: as --out's suffix says, else png]"),
        click.option("--quality", type=int, help="Of JPEG and WebP, from 1 to 100.  [default: 90]"),
        click.option("--metadata/--no-metadata", default=True, help="Whether files tell how they were made.  [default: they do]"),
    ]


def take_file(given: dict[str, Any]) -> FileOptions:
    """Take the options out of what the running command got, `out` and `force` apart."""
    loose = tuple(name for name in ("format", "quality") if not on_command_line(name))
    return FileOptions(**{name: given.pop(name) for name in ("format", "quality", "metadata")}, loose=loose)
