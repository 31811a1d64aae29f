"""Options that verbs of several kinds share."""

from __future__ import annotations

import click

precision_option = click.option(
    "--precision", default="auto", show_default=True, help="openvino: bf16 or f32; auto is bf16 where CPU and model allow it."
)
