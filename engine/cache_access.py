"""Who may read and write the engine cache: what the system refuses is one error, and what others could have written is not trusted."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from sd2rt.engine.errors import EngineCacheError


@contextlib.contextmanager
def reading(root: Path) -> Iterator[None]:
    """Turn an OSError into one EngineCacheError that names the cache and what to do."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise EngineCacheError(f"engine cache {root}: {reason}; set SD2RT_CACHE to a folder you can read") from error


@contextlib.contextmanager
def writing(root: Path) -> Iterator[None]:
    """As `reading`, where the cache is written."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        remedy = "free space there, or set SD2RT_CACHE to another folder"
        raise EngineCacheError(f"cannot write to the engine cache {root}: {reason}; {remedy}") from error


def check_owner(folder: Path) -> None:
    """Raise EngineCacheError when others could have put an engine there: it may only be ours, or root's, and writable by its owner."""
    if os.name != "posix":
        return
    status = folder.stat()
    if status.st_uid not in (os.geteuid(), 0) or status.st_mode & 0o022:
        raise EngineCacheError(f"{folder}: other users can write there; chmod 700 it, or set SD2RT_CACHE to a folder of your own")
