"""`sd2rt inpaint`: a part of a picture painted anew, or more of it around."""

from __future__ import annotations

from typing import Any

import click

from sd2rt.cli.console import Console
from sd2rt.cli.paint import Errand, paint
from sd2rt.cli.paint_options import PICTURE_SIZE, file_option, paint_options, strength_option
from sd2rt.engine.errors import InvalidArgument

EXPAND = "LEFT,TOP,RIGHT,BOTTOM"


def read_expand(context: click.Context, parameter: click.Parameter, text: str | None) -> tuple[int, ...] | None:
    """Read "0,0,64,0" as four integers. Raises InvalidArgument; the runtime checks what they are."""
    if text is None:
        return None
    try:
        left, top, right, bottom = (int(part) for part in text.split(","))
    except ValueError:
        raise InvalidArgument(f"--expand: got {text[:80]!r}; expected {EXPAND} in whole pixels, such as 0,0,64,0") from None
    return left, top, right, bottom


@click.command()
@click.argument("prompt")
@file_option("image", "The picture.", required=True)
@file_option("mask", "White where to paint, black where to keep; any size.")
@click.option("--invert", is_flag=True, help="Keep what is white and paint the rest.")
@click.option("--mask-blur", type=float, default=0.0, show_default=True, help="Pixels by which the edge of what is painted is softened.")
@click.option("--paste/--no-paste", default=None, help="Put what is kept back as it was.  [default: with --expand or --mask-blur]")
@click.option("--expand", metavar=EXPAND, callback=read_expand, help="Pixels to paint beyond the picture's borders.")
@strength_option("the model's, or 1")
@paint_options("inpainting", "text-to-image", model="toyworld-inpainting", size=PICTURE_SIZE)
def inpaint(console: Console, errand: Errand, /, **asked: Any) -> None:
    """Paint a part of a picture anew, after PROMPT, or more of it around with --expand.

    PROMPT describes the whole picture; it may be "". A model for inpainting sees what is kept; any model for text to image does it too, by
    putting what is kept back after every step.

    \b
    Examples:
      sd2rt inpaint "a small blue cube" --image scene.png --mask right.png --out new.png
      sd2rt inpaint "a red sphere on a beach" --image scene.png --mask sphere.png --invert --paste --mask-blur 4
      sd2rt inpaint "a wide beach" --model ./sd2-inpainting --image beach.png --expand 128,0,128,0 --out wide.png
    """
    if asked["mask"] is None and asked["expand"] is None:
        raise InvalidArgument("--mask: got none; expected a picture that is white where to paint, or --expand")
    paint(console, errand, asked)
