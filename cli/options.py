"""What options are to the modules that define them, and how a command gets several. Knows no option."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

Command = Callable[..., Any]
Option = Callable[[Command], Command]
"""What gives a command an option, as `click.option` returns it."""


def add_options(options: Sequence[Option]) -> Option:
    """Give a command several options, in order."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate
