"""Say from time to time that something slow is still at work, and for how long."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

INTERVAL_S = 10.0


@contextlib.contextmanager
def heartbeat(say: Callable[[float], None]) -> Iterator[None]:
    """Call `say` with the seconds since the start, every INTERVAL_S, until the block ends; it is called in another thread."""
    done = threading.Event()
    start = time.perf_counter()

    def beat() -> None:
        while not done.wait(INTERVAL_S):
            say(time.perf_counter() - start)

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
