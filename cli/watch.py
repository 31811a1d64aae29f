"""What a command line asks of previews: its options, and what is wrong with them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import click

from sd2rt.cli.options import Option
from sd2rt.engine.errors import InvalidArgument

if TYPE_CHECKING:
    from sd2rt.cli.terminal_pictures import Graphics
    from sd2rt.runtime.bundle import Bundle
    from sd2rt.runtime.options import Preview as Kind

Show = Literal["auto", "kitty", "iterm", "sixel", "off"]
KINDS = ("none", "latent", "tiny", "vae")
PREVIEW = (
    "Show the picture while it is painted: latent is rough, and free where the model's autoencoder is known; tiny and vae decode it. In a"
    " terminal that draws pictures, else in NAME-preview.png beside the result, until that is there."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """What is asked for: `kind` "none" is nothing, `every` how many steps apart, `folder` keeps every preview instead of the last one."""

    kind: str = "none"
    every: int = 1
    show: str = "auto"
    folder: Path | None = None


def preview_options() -> list[Option]:
    """Return the options; `take_watch` makes a Watch of them."""
    return [
        click.option("--preview", default="none", show_default=True, help=f"{PREVIEW} One of {', '.join(KINDS)}."),
        click.option("--preview-every", type=int, default=1, show_default=True, help="Steps from one preview to the next."),
        click.option("--preview-dir", type=click.Path(path_type=Path), help="Keep every preview there, as NAME-step-003.png."),
        click.option(
            "--preview-show", default="auto", show_default=True, help=f"What the terminal draws with: {', '.join(get_args(Show))}."
        ),
    ]


def take_watch(given: dict[str, object]) -> Watch:
    """Take the options out of what a command line gave."""
    kind, every, show, folder = (given.pop(name) for name in ("preview", "preview_every", "preview_show", "preview_dir"))
    assert isinstance(every, int)
    return Watch(kind=str(kind), every=every, show=str(show), folder=folder if isinstance(folder, Path) else None)


def check_kind(watch: Watch, bundle: Bundle) -> Kind | None:
    """Return what to show pictures with, None for nothing. Raises InvalidArgument."""
    if watch.kind not in KINDS:
        raise InvalidArgument(f"--preview: got {watch.kind!r}; expected one of {', '.join(KINDS)}")
    if watch.every < 1:
        raise InvalidArgument(f"--preview-every: got {watch.every}; expected a number of steps, 1 or more")
    if watch.kind == "none":
        return None
    if watch.kind == "latent":
        return "latent"
    from sd2rt.runtime.decoders import check_decoder

    try:
        return check_decoder("tiny" if watch.kind == "tiny" else "vae", bundle)
    except InvalidArgument as error:
        raise InvalidArgument(f"--preview: {error}; or --preview latent, which needs no other than the picture's") from None


def choose_graphics(show: str) -> Graphics | None:
    """Return what the terminal on stderr is drawn on with, None for files. Raises InvalidArgument where that was asked for and is none."""
    from sd2rt.cli.console import on_terminal
    from sd2rt.cli.terminal_pictures import find_graphics

    if show not in get_args(Show):
        raise InvalidArgument(f"--preview-show: got {show!r}; expected one of {', '.join(get_args(Show))}")
    if show == "off":
        return None
    if show == "auto":
        return find_graphics(os.environ) if on_terminal() else None
    if not on_terminal():
        raise InvalidArgument(f"--preview-show: got {show}, but stderr is no terminal; leave it out to have previews written to a file")
    return show  # type: ignore[return-value]


def make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidArgument(f"--preview-dir: got {str(folder)[:200]}: {error.strerror}; choose another folder") from None
