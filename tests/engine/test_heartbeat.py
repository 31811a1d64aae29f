import threading
import time

import pytest

from sd2rt.engine import heartbeat as module
from sd2rt.engine.heartbeat import heartbeat


def test_it_beats_with_the_time_so_far_until_the_block_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "INTERVAL_S", 0.05)
    beats: list[float] = []
    third = threading.Event()
    with heartbeat(lambda seconds: beats.append(seconds) or len(beats) < 3 or third.set()):  # type: ignore[func-returns-value]
        assert third.wait(60)
    count = len(beats)
    time.sleep(0.15)
    assert len(beats) == count
    assert 0.05 <= beats[0] < beats[1] < beats[2]


def test_what_is_quick_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    beats: list[float] = []
    start = time.perf_counter()
    with heartbeat(beats.append):
        pass
    assert beats == []
    assert time.perf_counter() - start < module.INTERVAL_S / 2  # it does not wait for the next beat


def test_it_ends_when_the_block_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt), heartbeat(lambda seconds: None):
        raise KeyboardInterrupt
    assert threading.active_count() == before
