"""Every engine test has a cache of its own."""

from pathlib import Path
from typing import Any

import pytest

from sd2rt.engine.errors import TargetUnavailable
from sd2rt.engine.trt_library import open_library


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Point SD2RT_CACHE at an empty folder; return where the engines will be."""
    monkeypatch.setenv("SD2RT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "engines"


@pytest.fixture(scope="session")
def rtx() -> Any:
    """TensorRT-RTX's module; it builds without a GPU. Tests that take it are skipped where it is not installed."""
    try:
        return open_library("tensorrt-rtx")
    except TargetUnavailable as error:
        pytest.skip(str(error))
