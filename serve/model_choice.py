"""Which of the models that are offered a request means where it names none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sd2rt.serve.errors import ServeError, UnknownModel

if TYPE_CHECKING:
    from sd2rt.serve.offers import OfferedModel

FOR_TEXT = ("text-to-image",)
FOR_PICTURE = ("text-to-image", "depth-to-image")
FOR_MASK = ("inpainting", "text-to-image")
"""Tasks of models that serve a purpose, the best first: an inpainting model sees the mask, another one blends."""


def default_model(models: Sequence[OfferedModel]) -> str:
    """Return the name of the default model. Raises ServeError before the models are known."""
    if not models:
        raise ServeError("the server is not ready yet; ask again")
    return models[0].name


def choose_model(models: Sequence[OfferedModel], tasks: Sequence[str]) -> str:
    """Return the default model if it has the best task, or else the first one with the best task there is.

    Raises UnknownModel where none has any of them, and ServeError before the models are known.
    """
    default_model(models)
    for task in tasks:
        fitting = sorted((model for model in models if model.task == task), key=lambda model: not model.default)
        if fitting:
            return fitting[0].name
    raise UnknownModel(f"model: none is offered for {tasks[0]}; start the server with one")
