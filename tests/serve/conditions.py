"""What tests wait for that other threads and processes do: a condition each, where a pause would hope for it."""

from __future__ import annotations

import time
from collections.abc import Callable

from sd2rt.serve.service import Service

WAIT_S = 60.0
"""Until a test fails: for machines that are slow and busy; on others nothing takes as long."""


def wait_until(holds: Callable[[], object]) -> None:
    """Wait until `holds()` is true."""
    deadline = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.01)


def wait_until_watched(service: Service, owner: str = "local") -> None:
    """Wait until somebody reads the events of an owner's newest job: who comes later is told the last ones alone."""
    wait_until(lambda: (jobs := service.jobs(owner)) and jobs[0]._listeners)
