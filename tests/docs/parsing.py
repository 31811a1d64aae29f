"""What can be said of a page's commands without running them: that verbs, options, extras, targets and messages exist."""

from __future__ import annotations

import ast
import importlib.util
import re
import shlex
import tomllib
from functools import cache

import click

from sd2rt.cli.console import Console
from sd2rt.cli.main import sd2rt
from sd2rt.engine.errors import InvalidArgument
from tests.docs.pages import ROOT


def words(command: str) -> list[str]:
    """Return a command's words, without a comment."""
    return shlex.split(command, comments=True)


def parse_line(command: str) -> str:
    """Return what is wrong with a line that is not run, or nothing: its verb, options, extras or targets do not exist."""
    arguments = words(command)
    while arguments and re.match(r"[A-Z][A-Z0-9_]*=", arguments[0]):
        arguments.pop(0)
    if not arguments:
        return ""
    if arguments[0] == "sd2rt":
        return parse(arguments[1:])
    check = CHECKS.get(arguments[0])
    return check(arguments[1:]) if check else f"no command that this test knows: {arguments[0]}"


def parse(arguments: list[str]) -> str:
    """Parse the arguments of sd2rt as click does before it calls a verb, and return what it says against them."""
    command: click.Command = sd2rt
    above = click.Context(sd2rt, info_name="sd2rt", obj=Console(), **sd2rt.context_settings)
    while isinstance(command, click.Group) and arguments and not arguments[0].startswith("-"):
        name, *arguments = arguments
        if name not in command.commands:
            return f"no such verb: {name}"
        command = command.commands[name]
    try:
        command.make_context(command.name, arguments, parent=above)
    except click.exceptions.Exit:
        return ""  # --help and --version say what they have to while they are parsed
    except (click.ClickException, InvalidArgument) as error:
        return "" if str(error).endswith("does not exist.") else str(error)  # files that a page only speaks of
    return ""


def check_pip(arguments: list[str]) -> str:
    """Check that the extras of `pip install '.[a,b]'` exist."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    asked = re.findall(r"(?:\.|sd2rt)\[([a-z0-9,-]+)\]", " ".join(arguments))
    unknown = {name for group in asked for name in group.split(",")} - set(extras)
    return f"no such extras: {sorted(unknown)}" if unknown else ""


def check_make(arguments: list[str]) -> str:
    """Check that the targets of `make` exist."""
    makefile = (ROOT / "Makefile").read_text()
    unknown = [name for name in arguments if "=" not in name and not re.search(rf"^{name}:", makefile, re.MULTILINE)]
    return f"no such targets: {unknown}" if unknown else ""


def check_python(arguments: list[str]) -> str:
    """Check that the module of `python -m MODULE`, or the file of `python FILE`, exists."""
    if arguments[:1] == ["-m"]:
        return "" if arguments[1] == "venv" or importlib.util.find_spec(arguments[1]) else f"no such module: {arguments[1]}"
    return "" if (ROOT / arguments[0]).is_file() else f"no such file: {arguments[0]}"


CHECKS = {"pip": check_pip, "make": check_make, "python": check_python, "git": lambda arguments: "", "cd": lambda arguments: ""}
"""Programs that are not run from a page, and what is checked of them instead."""


def unsaid(message: str) -> list[str]:
    """Return the parts of a message, between colons and what stands for values, that are in no string of the sources."""
    parts = [part.strip(" ;:()") for part in re.split(r"\.\.\.|: ", message.removeprefix("sd2rt: "))]
    return [part for part in parts if not any(part in text for text in source_strings())]


@cache
def source_strings() -> tuple[str, ...]:
    """Return every string of the packages' sources; an f-string's parts one by one."""
    trees = [ast.parse(path.read_text()) for folder in ("cli", "engine", "runtime", "export") for path in (ROOT / folder).glob("*.py")]
    return tuple(node.value for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str))
