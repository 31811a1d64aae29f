"""The runtime: prompts to pictures over engines, on numpy alone.

    pipe = load("toyworld")
    result = pipe("a large red sphere", seed=7)
    result.images[0].save("out.png")

Importing this package imports next to nothing; `load` does.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sd2rt.runtime.options import Expected
    from sd2rt.runtime.text_to_image import TextToImage

__all__ = ["load"]


def load(
    model: str | Path = "toyworld",
    target: str = "auto",
    threads: int = 0,
    notify: Callable[[str], None] = lambda message: None,
    *,
    low_memory: bool = False,
    precision: str = "auto",
    expect: Expected | None = None,
) -> TextToImage:
    """Open a model of any task; see `sd2rt.runtime.loading.load`."""
    from sd2rt.runtime.loading import load as open_model

    return open_model(model, target, threads, notify, low_memory=low_memory, precision=precision, expect=expect)
