"""Options that verbs of several kinds share."""

from __future__ import annotations

import click
from click.core import ParameterSource

from sd2rt.cli.console import Console
from sd2rt.cli.options import Command

precision_option = click.option(
    "--precision", default="auto", show_default=True, help="openvino: bf16 or f32; auto is bf16 where CPU and model allow it."
)


def on_command_line(name: str) -> bool:
    """Tell whether the running command got a parameter on its command line, and not from what is set for good."""
    return click.get_current_context().get_parameter_source(name) is ParameterSource.COMMANDLINE


def offline_option(command: Command) -> Command:
    """Give a command `--offline`."""

    def set_on_console(context: click.Context, parameter: click.Parameter, value: bool) -> None:
        if value:
            context.ensure_object(Console).offline = True

    text = "Download no model; so does HF_HUB_OFFLINE=1."
    return click.option("--offline", is_flag=True, expose_value=False, callback=set_on_console, help=text)(command)
