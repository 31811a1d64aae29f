"""The locks of the engine cache, one for each key: an engine is built by one process, and not removed meanwhile."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from sd2rt.engine.cache_access import check_owner, writing
from sd2rt.engine.heartbeat import heartbeat
from sd2rt.engine.store import Notify

if TYPE_CHECKING:
    from filelock import FileLock


@contextlib.contextmanager
def locked(root: Path, key: str, notify: Notify) -> Iterator[None]:
    """Hold the key's lock; the system frees it when its holder dies. Waiting is notified, and from time to time again.

    Raises EngineCacheError when the cache cannot be written or belongs to another user.
    """
    with locked_if_free(root, key) as (lock, free):
        if not free:
            notify("another process is building this engine: waiting for it")
            waiting = "still waiting for another process to build this engine"
            with writing(root), heartbeat(lambda seconds: notify(f"{waiting}: {seconds:.0f} s so far")):
                lock.acquire()
        yield


@contextlib.contextmanager
def locked_if_free(root: Path, key: str) -> Iterator[tuple[FileLock, bool]]:
    """Try to hold the key's lock, without waiting; give the lock and whether it is held. Raises EngineCacheError as `locked` does."""
    from filelock import FileLock, Timeout  # only builders wait for one another: loading takes no lock, and no time for this import

    with writing(root):
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        check_owner(root)
        (root / ".locks").mkdir(mode=0o700, exist_ok=True)
        lock = FileLock(root / ".locks" / f"{key}.lock")
        with contextlib.suppress(Timeout):
            lock.acquire(timeout=0)
    try:
        yield lock, lock.is_locked
    finally:
        lock.release()
