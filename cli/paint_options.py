"""The options of the verbs that paint. What they mean is checked by the runtime; `paint` takes it from there. Knows no verb."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, Concatenate

import click

from sd2rt.cli.choices import offline_option, precision_option
from sd2rt.cli.console import Console, console_options
from sd2rt.cli.economy import economy_options
from sd2rt.cli.file_options import file_options, take_file
from sd2rt.cli.options import Command, Option, add_options
from sd2rt.cli.paint import Errand
from sd2rt.cli.prompt_options import prompt_options
from sd2rt.cli.seed_options import seed_options
from sd2rt.cli.watch import preview_options, take_watch
from sd2rt.engine.errors import InvalidArgument

Verb = Callable[Concatenate[Console, Errand, ...], None]
MODEL = "A name (`sd2rt models list`), an alias such as sd21, a bundle folder, or a checkpoint, which is exported once."
PICTURE_SIZE = "the picture's, at most 2 x 2 native squares; one side alone keeps its shape"
TILE = (
    "Pixels a side of what is encoded, decoded or upscaled at once; 0 is all. A GPU uses it beyond 1536 x 1536, and to upscale."
    "  [default: 512 to upscale, else 768]"
)


def paint_options(
    *tasks: str, model: str, size: str | None = "the model's", files: Sequence[Option] | None = None
) -> Callable[[Verb], Command]:
    """Give a verb the options that all share, and call it with the console, its errand and, by keyword, what `prepare` takes.

    `tasks` are those of the models that serve it, `model` is its default, `size` says what width and height are by default (None: it
    has no such options). `files` take the place of `file_options`, where a verb writes others.
    """
    sides = [click.option(f"--{side}", type=int, help=f"Pixels, a multiple of 8.  [default: {size}]") for side in ("width", "height")]
    options: list[Option] = [
        click.option("-m", "--model", default=model, show_default=True, help=MODEL),
        offline_option,
        click.option("--target", default="auto", show_default=True, help="What runs it; `sd2rt info` lists what works here."),
        precision_option,
        click.option("--negative", "negative_prompt", default="", help="What the picture should not show."),
        click.option("--steps", type=int, help="Sampling steps.  [default: the model's]"),
        click.option(
            "--guidance", "guidance_scale", type=float, help="How closely to follow the prompt; 1 is off.  [default: the model's]"
        ),
        click.option(
            "--guidance-rescale", type=float, default=0.0, show_default=True, help="From 0 to 1; tames over-exposure at high guidance."
        ),
        *prompt_options(),
        *economy_options(),
        click.option("--sampler", help="Such as 'ddim', 'euler a' or 'dpm++ 2m karras'.  [default: the model's]"),
        *seed_options(),
        *(sides if size else []),
        click.option("--decoder", default="vae", show_default=True, help="vae; or tiny, which is fast, where the model has one."),
        click.option("--tile", type=int, help=TILE),
        click.option("-n", "--count", "images_per_prompt", type=int, default=1, show_default=True, help="Number of pictures."),
        *(file_options() if files is None else files),
        *preview_options(),
    ]

    def decorate(verb: Verb) -> Command:
        """Return the command that makes an errand of what all verbs share and leaves the rest to `verb`."""

        @wraps(verb)
        def run_verb(console: Console, /, **given: Any) -> None:
            """Sort what the command line says into the errand and what `verb` takes."""
            said = {name: given.pop(name) for name in ("model", "target", "out", "low_memory", "precision")}
            said["force"] = given.pop("force", False)
            verb(console, Errand(tasks=tasks, file=take_file(given), watch=take_watch(given), **said), **given)

        return add_options(options)(console_options(click.pass_obj(run_verb)))

    return decorate


def file_option(name: str, text: str, *, required: bool = False) -> Option:
    """Give a verb an option for one file; the runtime says what is wrong with it. Twice is an error: one of the two would be lost."""

    def take_one(context: click.Context, parameter: click.Parameter, files: tuple[str, ...]) -> str | None:
        if len(files) > 1:
            raise click.BadParameter(f"got {len(files)} files; expected one", context, parameter)
        return files[0] if files else None

    return click.option(f"--{name}", metavar="FILE", multiple=True, required=required, callback=take_one, help=text)


def strength_option(default: str) -> Option:
    """Give a verb `--strength`; `default` is the runtime's, in words."""
    return click.option("--strength", type=float, help=f"How much of the picture is given up: above 0, up to 1.  [default: {default}]")


def require_text(context: click.Context, parameter: click.Parameter, prompt: str) -> str:
    """Refuse an empty PROMPT where one is surely a mistake."""
    if not prompt.strip():
        raise InvalidArgument("PROMPT: got an empty text; expected a description of the picture")
    return prompt
