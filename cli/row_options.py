"""Options by their names and values, as rows of a file and axes of a grid have them, read as the command line's own are.

Every option of the command that says what to paint may be said so, under its name there or the runtime's; what says where and with which
model belongs to the command line. Knows no file format.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click
from click.core import ParameterSource

from sd2rt.cli.settings import turns_off
from sd2rt.engine.errors import InvalidArgument

PROMPT = "prompt"
OF_THE_COMMAND = {"model", "target", "precision", "low_memory", "out", "force", "format", "quality", "metadata"}
OF_THE_COMMAND |= {"preview", "preview_every", "preview_dir", "preview_show"}
ALIASES = {  # of the web UI's and diffusers' names
    "cfg_scale": "guidance",
    "sampler_name": "sampler",
    "batch_size": "count",
    "denoising_strength": "strength",
    "num_inference_steps": "steps",
    "subseed": "variation_seed",
    "subseed_strength": "variation_strength",
}


class RowOptions:
    """What rows may say: the options of `command` but those in OF_THE_COMMAND and `without`, and the prompt."""

    def __init__(self, command: click.Command, without: Sequence[str] = ()) -> None:
        left = OF_THE_COMMAND | set(without) | {PROMPT}
        shared = [option for option in command.params if option.expose_value and option.name not in left]
        self._command = click.Command("row", params=[click.Option([f"--{PROMPT}"]), *shared])
        self._options: dict[str, click.Parameter] = {}
        self._names: list[str] = []
        for option in self._command.params:
            if isinstance(option, click.Option) and option.name != "help":
                longest = max(option.opts, key=len)
                self._names.append(longest.lstrip("-"))
                self._options |= {_plain(name): option for name in (longest, str(option.name))}
        self._options |= {alias: self._options[name] for alias, name in ALIASES.items() if name in self._options}

    def name(self, said: str) -> str:
        """Return the runtime's name of an option. Raises InvalidArgument for none."""
        option = self._options.get(_plain(said))
        if option is None:
            raise InvalidArgument(f"{said.strip()[:80]}: no such option here; expected one of {', '.join(self._names)}")
        return str(option.name)

    def read(self, said: Mapping[str, object]) -> dict[str, Any]:
        """Return the values of what is said by the runtime's names; None and "" are as if not said. Raises InvalidArgument."""
        arguments: list[str] = []
        values: dict[str, Any] = {}
        named: dict[str, str] = {}
        for key, value in said.items():
            name = self.name(key)
            if value is None or value == "":
                continue
            if name in named:
                raise InvalidArgument(f"{key}: got it a second time, as {named[name]}; say it once")
            named[name] = key
            if name == "seed" and str(value).strip() == "-1":  # the web UI's word for a random one
                values[name] = None
                continue
            option = self._options[_plain(key)]
            if isinstance(option, click.Option) and turns_off(option) and _plain(key) == name:
                values[name] = _flag(key, value)  # "weighting", as our own records have it, and not "no-weighting"
                continue
            arguments += _arguments(option, key, value)
        return self._parse(arguments) | values

    def _parse(self, arguments: list[str]) -> dict[str, Any]:
        try:
            context = self._command.make_context("row", arguments)
        except click.UsageError as error:
            raise InvalidArgument(error.format_message()) from None
        given = {name for name in context.params if context.get_parameter_source(name) == ParameterSource.COMMANDLINE}
        return {name: context.params[name] for name in given}


def _plain(name: str) -> str:
    return name.strip().lstrip("-").lower().replace("-", "_").replace(" ", "_")


def _arguments(option: click.Parameter, key: str, value: object) -> list[str]:
    """Return one option as a command line has it. Raises InvalidArgument for values of other types."""
    assert isinstance(option, click.Option)
    if option.is_flag:
        on = _flag(key, value)
        if not on and not option.secondary_opts:
            raise InvalidArgument(f"{key}: got {str(value)[:80]}; leave it out where it is not meant")
        return [max(option.opts if on else option.secondary_opts, key=len)]
    if isinstance(value, list | tuple) and all(type(part) in (int, float) for part in value):
        value = ",".join(str(part) for part in value)
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        raise InvalidArgument(f"{key}: got {str(value)[:80]}; expected a text or a number")
    return [f"{max(option.opts, key=len)}={value}"]


def _flag(key: str, value: object) -> bool:
    words = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
    on = words.get(str(value).strip().lower())
    if on is None:
        raise InvalidArgument(f"{key}: got {str(value)[:80]!r}; expected true or false")
    return on
