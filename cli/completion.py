"""`sd2rt completion bash|zsh|fish`: what a shell loads to complete commands, options and their values; click does the shells' part.

`teach` tells click the values. It is called only in a shell's question, so that no other command pays for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import import_module
from typing import TYPE_CHECKING, get_args

import click

from sd2rt.engine.errors import InvalidArgument

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

VARIABLE = "_SD2RT_COMPLETE"  # what click reads the shell's question from
SHELLS = ("bash", "zsh", "fish")
FILES = (
    *("image", "mask", "depth", "out", "out-dir", "cells", "save-depth", "save-outputs", "preview-dir"),
    *("lora", "tiny-vae", "prompts", "wildcards", "batch file", "reproduce picture", "export source"),
)


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print what SHELL loads to complete sd2rt's commands, options, models, samplers and targets.

    \b
    Examples:
      sd2rt completion bash >> ~/.bashrc
      sd2rt completion zsh >> ~/.zshrc
      sd2rt completion fish > ~/.config/fish/completions/sd2rt.fish
    """
    from click.shell_completion import get_completion_class

    maker = get_completion_class(shell)
    assert maker is not None  # click knows these shells
    root = click.get_current_context().find_root().command
    try:
        click.echo(maker(root, {}, "sd2rt", VARIABLE).source())
    except RuntimeError as error:  # what click raises for a bash that is too old
        raise InvalidArgument(f"SHELL: {error}; expected bash 4.4 or newer, zsh or fish") from None


def teach(root: click.Group) -> None:
    """Have the parameters of all commands complete their values. They are told by name, as twenty modules define them."""
    from sd2rt.cli.settings import commands, key_of

    for name, command in commands(root):
        for parameter in command.params:
            key = key_of(parameter) if isinstance(parameter, click.Option) else f"{name} {parameter.name}"
            values = VALUES.get(key)
            if values is not None:
                parameter.shell_complete = _completer(values)  # type: ignore[method-assign, assignment]
            elif key in FILES:
                parameter.shell_complete = _files  # type: ignore[method-assign, assignment]


def _completer(values: Callable[[], Iterable[str]]) -> Callable[[click.Context, str], list[CompletionItem[str]]]:
    """Return click's hook for values that are known, and files where none of them begins like the word."""

    def complete(context: click.Context, incomplete: str) -> list[CompletionItem[str]]:
        from click.shell_completion import CompletionItem

        fitting = [CompletionItem(value) for value in dict.fromkeys(values()) if value.startswith(incomplete)]
        return fitting or _files(context, incomplete)

    return complete


def _files(context: click.Context, incomplete: str) -> list[CompletionItem[str]]:
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="file")]


def models() -> list[str]:
    """Return the names that `--model` knows: those of bundles, and aliases."""
    return [*bundles(), *aliases()]


def bundles() -> list[str]:
    """Return the names of models that are bundles: embedded ones, and those of the models folder."""
    from sd2rt.runtime.models import embedded_models

    return [*embedded_models(), *stored()]


def stored() -> list[str]:
    """Return the names of the models folder."""
    from sd2rt.runtime.model_store import stored_names

    return stored_names()


def aliases() -> list[str]:
    """Return the short names of the hub's models."""
    from sd2rt.export.aliases import ALIASES

    return list(ALIASES)


def samplers() -> list[str]:
    """Return the samplers' names, with the sigmas that they take; dashes stand for spaces, which shells would split."""
    from sd2rt.runtime.samplers_names import NO_SIGMAS, SOLVERS

    spaced = [
        f"{solver} {sigmas}".strip()
        for solver in SOLVERS
        for sigmas in ("", "karras", "exponential")
        if not sigmas or solver not in NO_SIGMAS
    ]
    return [name.replace(" ", "-") for name in spaced]


def verbs() -> list[str]:
    """Return the commands that `config show` takes."""
    from sd2rt.cli.main import sd2rt
    from sd2rt.cli.settings import commands

    return [name.replace(".", " ") for name, _ in commands(sd2rt)]


def words(owner: str, name: str, *before: str) -> Callable[[], Iterable[str]]:
    """Return what gives some words, then those of a tuple, mapping or Literal of another module, which is imported only then."""

    def known() -> Iterable[str]:
        owned = getattr(import_module(f"sd2rt.{owner}"), name)
        return (*before, *(get_args(owned) or owned))

    return known


VALUES: dict[str, Callable[[], Iterable[str]]] = {
    "model": models,
    "upscaler": models,
    "build bundle": models,
    "verify bundle": bundles,
    "info bundle": bundles,
    "quantize bundle": bundles,
    "models.pull source": aliases,
    "models.show name": stored,
    "models.rm name": stored,
    "config.show verb": verbs,
    "sampler": samplers,
    "target": words("engine.targets", "TARGETS", "auto"),
    "preset": words("export.options", "PRESETS"),
    "precision": words("engine.spec", "PRECISIONS"),
    "decoder": words("runtime.options", "Decoder"),
    "dtype": words("export.options", "DTYPES"),
    "format": words("runtime.picture_file", "SUFFIXES"),
    "rng": words("runtime.options", "Rng"),
    "preview": words("cli.watch", "KINDS"),
    "preview-show": words("cli.watch", "Show"),
    "task": words("export.options", "TASKS", "auto"),
}
"""What completes an option, by its long name without dashes, or an argument, by its command and name."""
