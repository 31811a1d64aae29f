"""`sd2rt config show|path|init`: what is set for good, and where."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

from sd2rt.cli.console import Console, console_options
from sd2rt.engine.errors import InvalidArgument

if TYPE_CHECKING:
    from sd2rt.cli.settings import Setting

OPEN = "the model, or what --help says"  # decides where nothing is set
EXAMPLE = """\
# Settings of sd2rt: defaults of its options, by their long names. `sd2rt config show` says what holds.
# What is given on the command line comes first, then environment variables (SD2RT_MODEL, SD2RT_STEPS ...), then the tables
# below, then the top of this file, then what the model says.

# The top is for all commands that paint; target, precision, low-memory, offline, quiet and verbose are for all that have them.
# `model` is for those that take a model for text to image; name others in their commands' tables. count, and what is for pictures to
# begin from (strength and so on), is not for batch and grid unless it is in theirs.

# model = "sd21"            # a name (`sd2rt models list`), an alias or a folder
# target = "auto"           # `sd2rt info` lists them
# steps = 30
# guidance = 7.5
# sampler = "dpm++ 2m karras"
# negative = "blurry, low quality"
# out = "/home/me/pictures/"
# format = "png"
# offline = true            # download no models
# quiet = false

# [generate]
# width = 768
# height = 768
# upscaler = "x4-upscaler"  # what --upscale uses

# [img2img]
# strength = 0.6

# [upscale]
# model = "x4-upscaler"

# [build]
# low-memory = true
"""


@click.group()
def config() -> None:
    """Look after the settings: defaults of options, from a file and from environment variables.

    The command line comes first, then SD2RT_STEPS and the like, then the file: a command's table before its top. The file is the one that
    $SD2RT_CONFIG names, else config.toml in the user's configuration folder.
    """


@config.command()
@click.argument("verb", required=False)
@console_options
@click.pass_context
def show(context: click.Context, /, verb: str | None) -> None:
    """List what is set and where; with VERB all of its options, with what holds for each and whose it is.

    \b
    Examples:
      sd2rt config show
      sd2rt config show generate
      sd2rt config show "engines prune" --json
    """
    from sd2rt.cli.settings import commands, effective, read_settings, unknown_variables

    console, root = context.ensure_object(Console), root_of(context)
    settings = effective(read_settings(root))
    for name in unknown_variables(root):
        console.note(f"{name} means nothing to sd2rt")
    if verb is None:
        rows = list(all_settings(settings))
    else:
        found = dict(commands(root)).get(verb.replace(" ", "."))
        if found is None:
            raise InvalidArgument(f"VERB: got {verb!r}; expected a command of sd2rt, such as generate or 'engines prune'")
        rows = list(all_options(verb.replace(" ", "."), found, settings))
    if not rows:
        console.note("nothing is set; `sd2rt config init` writes an example")
    console.result({"settings": rows}, table(rows))


@config.command()
@console_options
@click.pass_obj
def path(console: Console, /) -> None:
    """Print where the file is, or would be.

    \b
    Examples:
      sd2rt config path
      $EDITOR "$(sd2rt config path)"
    """
    from sd2rt.cli.settings import config_path

    file = config_path()
    if not file.is_file():
        console.note("there is none; `sd2rt config init` writes an example")
    console.result({"path": str(file), "exists": file.is_file()}, [str(file)])


@config.command()
@click.option("--force", is_flag=True, help="Replace the file.")
@console_options
@click.pass_obj
def init(console: Console, /, force: bool) -> None:
    """Write an example to fill in, and print where it is.

    \b
    Examples:
      sd2rt config init
      SD2RT_CONFIG=./studio.toml sd2rt config init
    """
    from sd2rt.cli.settings import config_path

    file = config_path()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("w" if force else "x", encoding="utf-8") as stream:
            stream.write(EXAMPLE)
    except OSError as error:
        if isinstance(error, FileExistsError) and file.is_file():
            raise InvalidArgument(f"{file} exists; edit it, or replace it with --force") from None
        raise InvalidArgument(f"{file} cannot be written ({error.strerror}); set SD2RT_CONFIG to another place") from None
    console.result({"path": str(file)}, [str(file)])


def root_of(context: click.Context) -> click.Group:
    """Return the group of all commands."""
    root = context.find_root().command
    assert isinstance(root, click.Group)
    return root


def all_settings(settings: Iterable[Setting]) -> Iterator[dict[str, Any]]:
    """Yield what is set, each once with the commands that it holds for."""
    rows: dict[tuple[str, str, str], dict[str, Any]] = {}
    for setting in settings:
        row = {"table": setting.table, "key": setting.key, "value": setting.given, "source": setting.source, "commands": []}
        rows.setdefault((setting.table, setting.key, setting.source), row)["commands"].append(setting.command)
    yield from rows.values()


def all_options(name: str, command: click.Command, settings: Iterable[Setting]) -> Iterator[dict[str, Any]]:
    """Yield every option of a command that can be set, with its value and whose that is."""
    from sd2rt.cli.settings import own_default, settable

    given = {setting.parameter: setting for setting in settings if setting.command == name}
    for key, option in settable(command).items():
        setting, own = given.get(str(option.name)), own_default(option)
        source = setting.source if setting else OPEN if own is None else "sd2rt"
        yield {"table": name, "key": key, "value": setting.given if setting else own, "source": source, "commands": [name]}


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Lay settings out for reading, as TOML with dotted keys."""
    names = [f"{row['table']}.{row['key']}".lstrip(".") for row in rows]
    lines = [f"{name} = {text(row['value'])}" if row["value"] is not None else f"# {name}" for name, row in zip(names, rows, strict=True)]
    width = max(map(len, lines), default=0)
    return [f"{line:<{width}}  # {row['source']}" for line, row in zip(lines, rows, strict=True)]


def text(value: Any) -> str:
    """Write a value as TOML would."""
    return str(value) if isinstance(value, float) else json.dumps(value, ensure_ascii=False)  # of a float, JSON has no inf
