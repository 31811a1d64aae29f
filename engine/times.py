"""How long each engine took to build the last time: one small file per key in the cache, which stays when the engine goes."""

from __future__ import annotations

import contextlib
from pathlib import Path

FOLDER = ".times"


def last_seconds(root: Path, key: str) -> float | None:
    """Return how long the last build of this key took; None when it is not known."""
    try:
        seconds = float((root / FOLDER / key).read_text())
    except (OSError, ValueError):
        return None
    return seconds if 0 <= seconds < float("inf") else None


def remember_seconds(root: Path, key: str, seconds: float) -> None:
    """Keep how long a build took, whole or not at all. Where that cannot be written, nobody misses it."""
    with contextlib.suppress(OSError):
        (root / FOLDER).mkdir(mode=0o700, exist_ok=True)
        temporary = root / FOLDER / f".{key}"  # call with the lock held: nobody else writes it
        temporary.write_text(f"{seconds:.3f}\n")
        temporary.replace(root / FOLDER / key)
