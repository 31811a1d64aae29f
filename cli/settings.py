"""What a user has set for good: environment variables and a TOML file, as defaults of the options.

    the command line > SD2RT_STEPS and the like > [generate] steps = 25 in the file > steps = 25 at its top > the model's or sd2rt's own

The file is the one that $SD2RT_CONFIG names, else config.toml in the user's configuration folder; a file that happens to lie in the
current folder changes nothing. Keys are the options' long names. What belongs to one call (--force, --image, --json ...) is no setting.
Knows the options from click's own description of the commands, and no command by more than its name.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from sd2rt.engine.errors import InvalidArgument
from sd2rt.engine.places import chosen_path

PREFIX, FILE_NAME = "SD2RT_", "config.toml"
OWN = ("SD2RT_CACHE", "SD2RT_MODELS", "SD2RT_CONFIG", "SD2RT_DEBUG", "SD2RT_TOKEN")  # which are no options
PAINTING = ("generate", "img2img", "inpaint", "depth2img", "upscale", "batch", "grid")  # what the top of the file is for
OTHER_MODELS = ("depth2img", "upscale")  # take no model for text to image: `model` at the top is not for them
MANY = ("batch", "grid")  # paint with models for all tasks, a cell is one picture: what is in OF_ONE_TASK is not for them
OF_ONE_TASK = ("strength", "invert", "mask-blur", "paste", "expand", "noise-level", "count")
EVERYWHERE = ("target", "precision", "low-memory", "offline", "quiet", "verbose")  # at the top for `build`, `verify` and so on too
EXACT, WORDS = ("reproduce", "export-triton"), ("quiet", "verbose")  # a picture or Triton says the rest: of the top, they take these alone
UNSET = ("config", "doctor", "completion")  # take no settings: what is set wrongly must not keep them from running
PER_CALL = (
    "force",
    "yes",
    "all",
    "json",
    "help",
    "version",
    "image",
    "mask",
    "depth",
    "save-depth",
    "show",
    "x",
    "y",
    "z",
    "cells",
    "name",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One option's default: of which command (its names joined by dots), as click takes it, as it was `given`, and where.

    `table` is that of the file, "" for its top and for the environment.
    """

    command: str
    parameter: str
    key: str
    value: Any
    given: Any
    source: str
    table: str = ""


def config_path(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the configuration file; it need not exist. Raises InvalidArgument for a wrong SD2RT_CONFIG."""
    chosen = chosen_path("SD2RT_CONFIG", environment)
    if chosen is not None:
        return chosen
    import platformdirs  # as in the engine cache

    return platformdirs.user_config_path("sd2rt") / FILE_NAME


def default_map(root: click.Group, environment: Mapping[str, str] = os.environ) -> dict[str, Any] | None:
    """Return what click takes as defaults of all commands, None where nothing is set. Raises InvalidArgument for what is set wrongly."""
    nested: dict[str, Any] = {}
    for setting in effective(read_settings(root, environment)):
        place = nested
        for name in setting.command.split("."):
            place = place.setdefault(name, {})
        place[setting.parameter] = setting.value
    return nested or None


def read_settings(root: click.Group, environment: Mapping[str, str] = os.environ) -> list[Setting]:
    """Return everything that is set, the strongest last. Raises InvalidArgument naming the file and line, or the variable."""
    path = config_path(environment)
    found: list[Setting] = []
    if environment.get("SD2RT_CONFIG") or path.is_file():
        from sd2rt.cli.settings_file import read_file

        found = read_file(root, path)
    return found + list(_from_environment(root, environment))


def effective(settings: list[Setting]) -> list[Setting]:
    """Return the strongest setting of every option."""
    return list({(setting.command, setting.parameter): setting for setting in settings}.values())


def unknown_variables(root: click.Group, environment: Mapping[str, str] = os.environ) -> list[str]:
    """Return the names of variables that look like ours and mean nothing."""
    known = {variable(key) for key in top_keys(root)} | set(OWN)
    return sorted(name for name in environment if name.startswith(PREFIX) and name not in known)


def variable(key: str) -> str:
    """Return the environment variable of a key: SD2RT_LOW_MEMORY of low-memory."""
    return PREFIX + key.upper().replace("-", "_")


def _from_environment(root: click.Group, environment: Mapping[str, str]) -> Iterator[Setting]:
    if not any(name.startswith(PREFIX) and name not in OWN for name in environment):
        return  # as nearly always: commands need not be looked through
    for key in top_keys(root):
        text = environment.get(variable(key))
        if not text:
            continue  # an empty variable is one that is not set
        for command, option in takers(root, key):
            value = convert(option, text, variable(key))
            yield Setting(command=command, parameter=str(option.name), key=key, value=value, given=text, source=variable(key))


def top_keys(root: click.Group) -> dict[str, None]:
    """Return the keys that the top of the file and the environment may have, in the order of the options."""
    options = [option for command in PAINTING for option in settable(root.commands[command]).items()]
    return dict.fromkeys(key for key, _ in options)


def takers(root: click.Group, key: str) -> Iterator[tuple[str, click.Option]]:
    """Yield the commands, and their options, that a key at the top is for."""
    for name, command in commands(root):
        option = settable(command).get(key)
        if option is not None and _is_for(name, key):
            yield name, option


def _is_for(name: str, key: str) -> bool:
    """Tell whether a key at the top is for a command that has it."""
    if name.split(".")[0] in UNSET or (name in EXACT and key not in WORDS):
        return False
    if (name in OTHER_MODELS and key == "model") or (name in MANY and key in OF_ONE_TASK):
        return False
    return name in PAINTING or key in EVERYWHERE


def commands(group: click.Group, prefix: str = "") -> Iterator[tuple[str, click.Command]]:
    """Yield every command that is no group, with its names joined by dots."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{prefix}{name}.")
        else:
            yield prefix + name, command


def settable(command: click.Command) -> dict[str, click.Option]:
    """Return a command's options that can be set for good, by key."""
    options = {key_of(option): option for option in command.params if isinstance(option, click.Option) and not option.required}
    return {key: option for key, option in options.items() if key not in PER_CALL}


def key_of(option: click.Option) -> str:
    """Return an option's key: its first long name."""
    return next((name for name in option.opts if name.startswith("--")), option.opts[0]).lstrip("-")


def own_default(option: click.Option) -> bool | int | float | str | None:
    """Return what an option is where nothing is set, in the words of its key; None where that is for others to say."""
    own = option.to_info_dict()["default"]
    if not isinstance(own, bool | int | float | str):
        return None
    return not own if turns_off(option) else own


def turns_off(option: click.Option) -> bool:
    """Tell a flag such as --no-weighting, which sets `weighting` to False."""
    return option.is_flag and option.flag_value is False and not option.secondary_opts


def convert(option: click.Option, value: Any, where: str) -> Any:
    """Return a value as click takes it for the option's default. Raises InvalidArgument."""
    try:
        values = [option.type.convert(part, option, None) for part in (value if option.multiple else [value])]
    except click.BadParameter as error:
        raise InvalidArgument(f"{where}: got {str(value)[:80]!r}; expected what --{key_of(option)} takes: {error.message}") from None
    if turns_off(option):
        values = [not part for part in values]  # "no-weighting = true" is weighting False
    return values if option.multiple else values[0]
