"""The options that say how prompts are read, and a command line's alternatives put in their places."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from sd2rt.cli.options import Option

CLIP_SKIP = (
    "Layer of the text encoder that is used, counted from its last; 1 is what the model was trained with, for SD2 too (diffusers' clip_skip"
    " is one less).  [default: 1]"
)
ALTERNATIVES = (
    "What is taken of {red|blue} and of wildcards. auto: a picture of each of {red|blue}, and of a wildcard a line drawn by the picture's"
    " seed; all: pictures of all; random: all are drawn; off: braces are text."
)


def prompt_options() -> list[Option]:
    """Return the options, named as in `runtime.options.Request`; `expand` takes `wildcards` and `alternatives` away."""
    return [
        click.option("--no-weighting", "weighting", flag_value=False, default=True, help="Take (), [], : and BREAK in prompts as text."),
        click.option("--clip-skip", type=int, help=CLIP_SKIP),
        click.option("--wildcards", metavar="DIR", help="Folder of .txt files: __name__ in a prompt stands for a line of name.txt."),
        click.option(
            "--alternatives", type=click.Choice(("auto", "all", "random", "off")), default="auto", show_default=True, help=ALTERNATIVES
        ),
    ]


def expand(asked: Mapping[str, Any], most: int) -> dict[str, Any]:
    """Return what was asked with a prompt and a negative prompt for every picture where there are alternatives.

    Raises InvalidArgument, for more than `most` pictures too.
    """
    from sd2rt.runtime.alternatives import Rules, expand_prompts

    left = dict(asked)
    wildcards, choose = left.pop("wildcards"), left.pop("alternatives")
    rules = Rules(wildcards=None if wildcards is None else Path(wildcards), choose=choose)
    counts = not left.get("variation_strength")  # variations are of one picture, and so of its prompt
    pairs = expand_prompts(
        left["prompt"],
        left["negative_prompt"],
        rules,
        seed_of=lambda number: left["seed"] + number * counts,
        images=left["images_per_prompt"],
        most=most,
    )
    if len(pairs) == 1:
        return {**left, "prompt": pairs[0][0], "negative_prompt": pairs[0][1]}
    prompts, negatives = zip(*pairs, strict=True)
    return {**left, "prompt": prompts, "negative_prompt": negatives, "images_per_prompt": 1}
