"""The options that say which noise a picture begins from."""

from __future__ import annotations

import click

from sd2rt.cli.options import Option


def seed_options() -> list[Option]:
    """Return the options, named as in `runtime.options.Request`."""
    return [
        click.option("--seed", type=int, help="Seed of the first picture, the next ones count up.  [default: random]"),
        click.option(
            "--rng", default="torch", show_default=True, help="Whose noise a seed means: torch's on a CPU, or nv, as NVIDIA GPUs draw it."
        ),
        click.option("--variation-seed", type=int, help="A seed to vary the picture with; it counts up instead.  [default: random]"),
        click.option(
            "--variation-strength",
            type=float,
            default=0.0,
            show_default=True,
            help="From 0 to 1: how much of the noise is --variation-seed's.",
        ),
    ]
