"""Every engine test has a cache of its own."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Point SD2RT_CACHE at an empty folder; return where the engines will be."""
    monkeypatch.setenv("SD2RT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "engines"
