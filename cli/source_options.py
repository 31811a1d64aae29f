"""The options of all verbs that begin from pictures, for verbs that paint whatever a model is for. Knows no verb of its own."""

from __future__ import annotations

from typing import Any

import click

from sd2rt.cli.inpaint import EXPAND, read_expand
from sd2rt.cli.options import Command, Option, add_options
from sd2rt.cli.paint_options import file_option, strength_option
from sd2rt.engine.errors import InvalidArgument

TASKS = ("text-to-image", "inpainting", "depth-to-image", "upscaling")
FILES = ("image", "mask", "depth")  # that a request may name


def source_options(command: Command) -> Command:
    """Give a verb the options of img2img, inpaint, depth2img and upscale, named as in `runtime.options.Request`."""
    options: list[Option] = [
        file_option("image", "The picture to begin from, to change or to upscale."),
        file_option("mask", "To inpaint: white where to paint, black where to keep."),
        file_option("depth", "The depth to paint after, brighter is nearer."),
        strength_option("the task's"),
        click.option("--invert", is_flag=True, help="Keep what is white in the mask and paint the rest."),
        click.option("--mask-blur", type=float, default=0.0, show_default=True, help="Pixels by which the mask's edge is softened."),
        click.option("--paste/--no-paste", default=None, help="Put what is kept back as it was.  [default: with --expand or --mask-blur]"),
        click.option("--expand", metavar=EXPAND, callback=read_expand, help="Pixels to paint beyond the picture's borders."),
        click.option("--noise-level", type=int, help="To upscale: noise put on the picture.  [default: the model's, or 20]"),
    ]
    return add_options(options)(command)


def require_words(asked: dict[str, Any]) -> None:
    """Refuse an empty prompt without a picture, where it is surely a mistake. Raises InvalidArgument."""
    if not asked["prompt"].strip() and not any(asked[name] for name in FILES):
        raise InvalidArgument("prompt: got an empty text and no picture; expected a description of the picture")
