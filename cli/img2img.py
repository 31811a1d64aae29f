"""`sd2rt img2img`: a picture and a prompt to a picture."""

from __future__ import annotations

from typing import Any

import click

from sd2rt.cli.console import Console
from sd2rt.cli.paint import Errand, paint
from sd2rt.cli.paint_options import PICTURE_SIZE, file_option, paint_options, require_text, strength_option


@click.command()
@click.argument("prompt", callback=require_text)
@file_option("image", "The picture to begin from.", required=True)
@strength_option("the model's, or 0.8")
@paint_options("text-to-image", model="toyworld", size=PICTURE_SIZE)
def img2img(console: Console, errand: Errand, /, **asked: Any) -> None:
    """Paint a picture anew, after PROMPT.

    A strength of 0.3 keeps most of the picture, 0.8 little but its layout; it is also the part of the steps that are taken.
    Any model for text to image will do.

    \b
    Examples:
      sd2rt img2img "a large green cube" --image red.png --strength 0.7 --out green.png
      sd2rt img2img "a lighthouse, oil painting" --model ./sd21 --image photo.jpg --width 768 --height 512 -n 4 --out pictures/
    """
    paint(console, errand, asked)
