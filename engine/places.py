"""Where environment variables say that things lie."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from sd2rt.engine.errors import InvalidArgument


def chosen_path(variable: str, environment: Mapping[str, str] = os.environ) -> Path | None:
    """Return the absolute path that a variable names, ~ expanded; None where it names none. Raises InvalidArgument for a ~ of nobody."""
    chosen = environment.get(variable)
    if not chosen:
        return None
    try:
        return Path(chosen).expanduser().absolute()
    except RuntimeError:
        raise InvalidArgument(f"{variable}: got {chosen!r}, and there is no such home here; set it to a full path, or unset it") from None
