"""The options that save time or memory, for all verbs that paint."""

from __future__ import annotations

import click

from sd2rt.cli.options import Option
from sd2rt.engine.errors import InvalidArgument


def read_interval(context: click.Context, parameter: click.Parameter, text: str | None) -> tuple[float, ...] | None:
    """Read "0.2,0.8" as two numbers. Raises InvalidArgument; the runtime checks what they are."""
    if text is None:
        return None
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise InvalidArgument(f"{parameter.opts[0]}: got {text[:80]!r}; expected two numbers from 0 to 1, such as 0.2,0.8") from None
    return low, high


def economy_options() -> list[Option]:
    """Return the options, named as in `runtime.options.Request` or `runtime.load`."""
    return [
        click.option(
            "--speed",
            type=click.Choice(("quality", "balanced", "fast")),
            default="quality",
            show_default=True,
            help="What to choose for sampler, steps and the three options that follow, where they are not given. On a GPU these three, and"
            " so `fast`, run a loop on the host, over engines of its own, built on first use.",
        ),
        click.option(
            "--guidance-interval",
            metavar="BEGIN,END",
            callback=read_interval,
            help="The part of the run that is guided, from 0, its beginning, to 1; the rest takes half the time.  [default: 0,1]",
        ),
        click.option(
            "--guidance-reuse",
            type=int,
            help="Find what guidance changes at every Nth evaluation alone; the others take half the time.  [default: 1]",
        ),
        click.option(
            "--deep-cache",
            type=int,
            help="Run the whole UNet at every Nth evaluation alone, its outer layers between them.  [default: 1]",
        ),
        click.option("--low-memory", is_flag=True, help="Open one network at a time: less memory, more time, the same picture."),
    ]
